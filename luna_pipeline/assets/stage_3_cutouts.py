"""Stage 3: cutouts of the candidates, one file per CT series, and their index."""

import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import dagster as dg

from luna_pipeline.assets import markdown
from luna_pipeline.assets.data_versions import versioned
from luna_pipeline.assets.series_events import CUTOUTS, CUTTING_CODE, SeriesEvents
from luna_pipeline.assets.series_facts import SeriesFacts
from luna_pipeline.assets.stage_1_ct import OWNERS
from luna_pipeline.assets.stage_2_candidates import FRESHNESS
from luna_pipeline.partitions import (
    CT_SERIES,
    CT_SERIES_NAME,
    FAILED,
    IS_TRANSIENT,
    broken_series,
    gone_series,
)
from luna_pipeline.resources import CutoutCutting
from luna_pipeline.runs.event_batches import EventBatch
from luna_pipeline.table_columns import shown_table

if TYPE_CHECKING:
    import pandas as pd

    from luna_pipeline.core.cutouts.store import CutoutSource

GROUP = "stage_3_cutouts"
NO_DUPLICATES = "no_cutout_in_two_folds"


@dg.multi_asset(
    pool="disk",
    # One process start for 100 series instead of one for each.
    backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=100),
    specs=[
        dg.AssetSpec(
            CUTOUTS,
            partitions_def=CT_SERIES,
            # Events are logged for each series, so that a broken series fails alone.
            skippable=True,
            group_name=GROUP,
            owners=OWNERS,
            kinds={"python", "simpleitk", "numpy"},
            code_version=CUTTING_CODE,
            freshness_policy=FRESHNESS,
            deps=["ct_series", "candidates"],
            description="Cutouts of one CT series: `cutouts/<series uid>.npz`, int16 HU, (N, 32, 48, 48) in I, R, C. "
            "Cut again only if the CT, the candidates' ids or centres, the cutting parameters or the cutting code "
            "changed. Without a partition, all readable series are cut. The file of a removed CT is kept until it is "
            "pruned. `subset` in the metadata of a partition is LUNA16's subset folder of the CT, which is its fold: "
            "the partition of the assets that are tested on it. CTs without one get their fold in the table `folds`.",
        )
    ],
)
def cutouts(context: dg.AssetExecutionContext, cutting: CutoutCutting) -> Iterator[Any]:
    """Cut the series of the run's partitions, or all series; one event for each."""
    _cut(context, cutting)
    yield from ()


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"python", "parquet"},
    code_version="1",
    io_manager_key="tables",
    deps=[CUTOUTS, "ct_series"],
    check_specs=[
        dg.AssetCheckSpec(
            NO_DUPLICATES,
            asset="cutout_index",
            blocking=True,
            description="No cutout occurs in two folds: the same CT may be there under two names. "
            "If it fails: remove one of the CTs that are named, or put them into one fold.",
        )
    ],
)
def cutout_index(
    context: dg.AssetExecutionContext, cutting: CutoutCutting, candidates: Any, folds: Any
) -> Iterator[dg.Output[Any] | dg.AssetCheckResult]:
    """File and row of each candidate's cutout. Series that could not be cut are left out and listed.

    Form: candidate id, series uid, row, class, malignancy, diameter_mm, source, fold, fingerprint of the file.
    """
    from luna_pipeline.core.cutouts.index import LEFT_OUT, PARAMETERS, build_cutout_index, describe_sample, lost_series

    started, source = time.perf_counter(), cutting.unindexed_source
    left_out: dict[str, str] = {}
    index = build_cutout_index(cutting.selection.of(candidates), folds, source, left_out=left_out)
    catalogue, known = cutting.paths.read_table("ct_series"), context.instance.get_dynamic_partitions(CT_SERIES_NAME)
    left_out |= lost_series(index, candidates=candidates, catalogue=catalogue, known=known)
    index.attrs |= {PARAMETERS: asdict(cutting.parameters), LEFT_OUT: left_out}
    if left_out:
        # One message: each is a transaction.
        context.log.warning("%s", "\n".join(f"Left out: {reason}" for reason in left_out.values()))
    if sample := describe_sample(index, candidates):
        context.log.warning(sample)
    yield from _without_duplicates(index, source)
    counted = index[index["source"] == "candidate"].groupby(["fold", "class"]).size().rename("rows").reset_index()
    metadata: dict[str, Any] = {
        "num_series": int(index["series_instance_uid"].nunique()),
        "left_out": dg.MetadataValue.json(left_out),
        "notes": sample,
        "seconds": round(time.perf_counter() - started, 2),
        "candidates_per_fold_and_class": shown_table(counted),
        "three_cutouts": dg.MetadataValue.md(_sheet(source, index)),
    }
    yield versioned(index, metadata)


def _without_duplicates(index: "pd.DataFrame", source: "CutoutSource") -> Iterator[dg.AssetCheckResult]:
    """Yield the result of the check for duplicates, and fail if there are any."""
    from luna_pipeline.core.evaluation.duplicates import describe_duplicates, same_content_in_two_folds

    duplicates = same_content_in_two_folds(index, source)
    found = describe_duplicates(duplicates)
    ids = duplicates["candidate_id"].head(50).tolist()
    yield dg.AssetCheckResult(
        check_name=NO_DUPLICATES,
        passed=not found,
        severity=dg.AssetCheckSeverity.ERROR,
        description=found or "No two folds hold the same cutout.",
        metadata={"num_cutouts": len(duplicates), "candidate_ids": dg.MetadataValue.json(ids)},
    )
    if found:
        raise dg.Failure(found, metadata={IS_TRANSIENT: dg.MetadataValue.bool(False)}, allow_retries=False)


def _cut(context: dg.AssetExecutionContext, cutting: CutoutCutting) -> None:
    service = cutting.service()
    asked = sorted(context.partition_keys) if context.has_partition_key_range or context.has_partition_key else None
    gone = gone_series(context.instance, service.catalogue, service.store)
    # A registered CT that became unreadable must fail, not only be missing.
    every = [*service.uids, *broken_series(context.instance, service.catalogue)]
    facts = SeriesFacts(service, data=cutting.paths.settings.kind_of_data)
    with EventBatch(context) as batch:
        events = SeriesEvents(context, batch, facts, is_news_only=asked is None)
        kept = events.keep({uid: service.store.digest(uid) for uid in gone}, asked)
        summary = service.cut_many(
            every if asked is None else [uid for uid in asked if uid not in kept],
            workers=cutting.workers,
            run=cutting.run_jobs,
            on_plan=events.plan,
            on_outcome=events.record,
            on_failure=events.record_failure,
        )
    context.log.info("%d series cut, %d current, %d failed", summary.num_cut, summary.num_current, len(summary.failed))
    if summary.failed:
        from luna_pipeline.core.ct.errors import TransientFailure, name_series

        total = len(summary.failed) + summary.num_cut + summary.num_current
        msg = (
            f"Every series must be cut, got {len(summary.failed)} of {total} that failed: {name_series(summary.failed)}"
        )
        msg += " | Fix or remove them, and run `recut_changed`."
        is_transient = any(isinstance(reason, TransientFailure) for reason in summary.failed.values())
        metadata = {FAILED: dg.MetadataValue.json(summary.failed), IS_TRANSIENT: dg.MetadataValue.bool(is_transient)}
        raise dg.Failure(msg, metadata=metadata, allow_retries=False)


def _sheet(source: "CutoutSource", index: Any) -> str:
    """Return a picture of the middle slices of three cutouts, nodules first."""
    import numpy as np

    from luna_pipeline.core.cutouts.sheet import cutout_sheet

    rows = index.sort_values(["class", "candidate_id"], ascending=[False, True]).head(3)
    if rows.empty:
        return "no candidates"
    chunks = np.stack([source.read(row.series_instance_uid).ct_chunks[row.row] for row in rows.itertuples()])
    captions = [f"class {kind}, fold {fold}" for kind, fold in zip(rows["class"], rows["fold"], strict=True)]
    return markdown.picture(cutout_sheet(chunks, captions), "three cutouts, research use only")
