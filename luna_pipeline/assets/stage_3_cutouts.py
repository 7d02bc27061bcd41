"""Stage 3: cutouts of the candidates, one file per CT series, and their index."""

import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import dagster as dg

from luna_pipeline.assets import markdown
from luna_pipeline.assets.data_versions import DATA_VERSION, provenance_tags, versioned
from luna_pipeline.assets.stage_1_ct import OWNERS
from luna_pipeline.assets.stage_2_candidates import FRESHNESS
from luna_pipeline.partitions import (
    CT_SERIES,
    CT_SERIES_NAME,
    FAILED,
    IS_TRANSIENT,
    broken_series,
    failed_series,
    gone_series,
    record_failed_series,
    versions_by_series,
)
from luna_pipeline.resources import CutoutCutting

if TYPE_CHECKING:
    import pandas as pd

    from luna_pipeline.core.cutouts.job import CutOutcome
    from luna_pipeline.core.cutouts.store import CutoutSource

GROUP = "stage_3_cutouts"
CUTOUTS = "cutouts"
NO_DUPLICATES = "no_cutout_in_two_folds"
CUTTING_CODE = "1"
"""Same as the core's ``CUTTING_CODE_VERSION``, whose import would slow down loading the definitions."""


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
            "pruned.",
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
            description="No cutout occurs in two folds: the same CT may be there under two names.",
        )
    ],
)
def cutout_index(
    context: dg.AssetExecutionContext, cutting: CutoutCutting, candidates: Any, folds: Any
) -> Iterator[dg.Output[Any] | dg.AssetCheckResult]:
    """File and row of each candidate's cutout. Series that could not be cut are left out and listed.

    Form: candidate id, series uid, row, class, malignancy, diameter_mm, source, fold, fingerprint of the file.
    """
    from luna_pipeline.core.cutouts.index import LEFT_OUT, PARAMETERS, build_cutout_index, lost_series

    started, source = time.perf_counter(), cutting.unindexed_source
    left_out: dict[str, str] = {}
    index = build_cutout_index(cutting.selection.of(candidates), folds, source, left_out=left_out)
    catalogue, known = cutting.paths.read_table("ct_series"), context.instance.get_dynamic_partitions(CT_SERIES_NAME)
    left_out |= lost_series(index, candidates=candidates, catalogue=catalogue, known=known)
    index.attrs |= {PARAMETERS: asdict(cutting.parameters), LEFT_OUT: left_out}
    for reason in left_out.values():
        context.log.warning("Left out: %s", reason)
    yield from _without_duplicates(index, source)
    counted = index[index["source"] == "candidate"].groupby(["fold", "class"]).size().rename("rows").reset_index()
    metadata: dict[str, Any] = {
        "num_series": int(index["series_instance_uid"].nunique()),
        "left_out": dg.MetadataValue.json(left_out),
        "seconds": round(time.perf_counter() - started, 2),
        "candidates_per_fold_and_class": dg.MetadataValue.md(markdown.table(counted)),
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
    events = SeriesEvents(context, is_news_only=asked is None)
    gone = gone_series(context.instance, service.catalogue, service.store)
    kept = events.keep({uid: service.store.digest(uid) for uid in gone}, asked)
    # A registered CT that became unreadable must fail, not only be missing.
    every = [*service.uids, *broken_series(context.instance, service.catalogue)]
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
        msg += " | Fix or remove them, and run `cut` again."
        is_transient = any(isinstance(reason, TransientFailure) for reason in summary.failed.values())
        metadata = {FAILED: dg.MetadataValue.json(summary.failed), IS_TRANSIENT: dg.MetadataValue.bool(is_transient)}
        raise dg.Failure(msg, metadata=metadata, allow_retries=False)


class SeriesEvents:
    """Logs the outcome of each series as an event of its partition.

    Whether a file is current is decided by its header; Dagster's events only decide whether another event is needed.

    Args:
        context: Of the asset.
        is_news_only: Log only outcomes that differ from Dagster's latest event.
    """

    def __init__(self, context: dg.AssetExecutionContext, *, is_news_only: bool) -> None:
        self._context = context
        self._is_news_only = is_news_only
        self._tags = provenance_tags(context.instance, ["ct_series", "candidates"], code_version=CUTTING_CODE)
        self._known: dict[str, str] = {}

    def keep(self, digests: dict[str, str | None], asked: list[str] | None) -> set[str]:
        """Warn about removed CTs, and return the series whose cutouts are kept, given the digests of their files."""
        kept = {uid: digest for uid, digest in digests.items() if digest is not None}
        for uid in kept:
            self._context.log.warning("The CT of series %s is gone; its cutouts are kept until `luna prune`.", uid)
        for uid in set(kept).intersection(asked or ()):
            self._materialized(uid, str(kept[uid]), "kept")
        return set(kept)

    def plan(self, plan: "pd.DataFrame", needed_bytes: int, free_bytes: float) -> None:
        """Log the plan, and read the versions that Dagster has recorded."""
        states = plan["state"].value_counts().to_dict()
        self._context.log.info("%d series: %s; %d bytes needed, %s free", len(plan), states, needed_bytes, free_bytes)
        if self._is_news_only:
            uids = set(plan["series_instance_uid"])
            failed = failed_series(self._context.instance, CUTOUTS, uids)
            self._known = versions_by_series(self._context.instance, CUTOUTS, uids - failed)

    def record(self, outcome: "CutOutcome") -> None:
        """Log a series that was cut, or is current but not recorded in Dagster."""
        uid = outcome.series_instance_uid
        if outcome.outcome == "cut" or self._known.get(uid) != outcome.fingerprint:
            counts = {"num_candidates": outcome.num_candidates, "num_bytes": outcome.num_bytes}
            seconds = round(outcome.seconds, 3)
            self._materialized(uid, outcome.fingerprint, outcome.outcome, **counts, seconds=seconds)
        if outcome.outcome == "cut":
            self._context.log.info("cut %s: %d candidates in %.2f s", uid, outcome.num_candidates, outcome.seconds)

    def record_failure(self, uid: str, reason: str) -> None:
        """Log a series that could not be cut."""
        record_failed_series(self._context, CUTOUTS, uid, reason)

    def _materialized(self, uid: str, fingerprint: str, outcome: str, **metadata: float) -> None:
        self._context.log_event(
            dg.AssetMaterialization(
                CUTOUTS,
                partition=uid,
                metadata={"outcome": outcome, **metadata},
                tags={DATA_VERSION: fingerprint, **self._tags},
            )
        )


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
