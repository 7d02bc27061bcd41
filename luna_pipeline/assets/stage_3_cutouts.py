"""Stage 3: boxes around the candidates, one file a CT series, and the table that finds them."""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import dagster as dg

from luna_pipeline.assets import markdown
from luna_pipeline.assets.stage_1_ct import OWNERS
from luna_pipeline.partitions import CT_SERIES, versions_by_series
from luna_pipeline.resources import CutoutCutting

if TYPE_CHECKING:
    from luna_pipeline.core.cutouts.service import CutOutcome, CutSummary

GROUP = "stage_3_cutouts"
CUTOUTS = dg.AssetKey("cutouts")


@dg.multi_asset(
    # A ranged run of 100 series pays one process start, not a hundred.
    backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=100),
    specs=[
        dg.AssetSpec(
            CUTOUTS,
            partitions_def=CT_SERIES,
            # Events are logged one a series, so that a broken series fails alone.
            skippable=True,
            group_name=GROUP,
            owners=OWNERS,
            kinds={"python", "simpleitk", "numpy"},
            code_version="1",
            deps=["ct_series", "candidates"],
            description="""Cutouts of one CT series: `cutouts/<series uid>.npz`, int16 HU, (N, 32, 48, 48) in I, R, C.

            Cut again only where the CT, the candidates' ids or centres, the cutting parameters or the cutting code
            changed; a file that is there and right is adopted. Without a partition all registered series are visited.
            """,
        )
    ],
)
def cutouts(context: dg.AssetExecutionContext, cutting: CutoutCutting) -> Iterator[Any]:
    """Cut the series asked for, or all of them, one event a series."""
    _cut(context, cutting)
    yield from ()


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"python", "parquet"},
    code_version="1",
    io_manager_key="tables",
    deps=[CUTOUTS],
)
def cutout_index(cutting: CutoutCutting, candidates: Any, folds: Any) -> dg.Output[Any]:
    """Which row of which file holds which candidate.

    Form: candidate id, series uid, row, class, malignancy, diameter_mm, source, fold, fingerprint of the file.
    """
    from luna_pipeline.core.cutouts.index import build_cutout_index

    started = time.perf_counter()
    index = build_cutout_index(candidates, folds, cutting.store)
    counted = index[index["source"] == "candidate"].groupby(["fold", "class"]).size().rename("rows").reset_index()
    metadata: dict[str, Any] = {
        "num_series": int(index["series_instance_uid"].nunique()),
        "seconds": round(time.perf_counter() - started, 2),
        "candidates_per_fold_and_class": dg.MetadataValue.md(markdown.table(counted)),
        "three_cutouts": dg.MetadataValue.md(_sheet(cutting, index)),
    }
    return dg.Output(index, metadata=metadata)


def _cut(context: dg.AssetExecutionContext, cutting: CutoutCutting) -> None:
    service = cutting.service()
    asked = sorted(context.partition_keys) if context.has_partition_key_range or context.has_partition_key else None
    plan = service.plan(asked)
    needed, free = service.check_free_space(plan)
    states = plan["state"].value_counts().to_dict()
    context.log.info("%d series: %s; %d bytes needed, %d free", len(plan), states, needed, free)
    # The files' own headers are the truth; what Dagster holds only decides whether there is news to record.
    uids = list(plan["series_instance_uid"])
    versions = versions_by_series(context.instance, "cutouts", uids) if asked is None else {}

    def on_outcome(outcome: "CutOutcome") -> None:
        # Visited without being asked for, and known as it is: nothing happened, nothing is recorded.
        if outcome.outcome == "cut" or versions.get(outcome.series_instance_uid) != outcome.fingerprint:
            context.log_event(_materialization(outcome))
        context.log.info(
            "%s %s: %d candidates in %.2f s", outcome.outcome, outcome.series_instance_uid,
            outcome.num_candidates, outcome.seconds,
        )  # fmt: skip

    def on_failure(uid: str, reason: str) -> None:
        context.log.error("Series %s failed: %s", uid, reason)

    summary = service.cut_many(asked, on_outcome=on_outcome, on_failure=on_failure)
    if summary.failed:
        raise _failure(summary)


def _materialization(outcome: "CutOutcome") -> dg.AssetMaterialization:
    return dg.AssetMaterialization(
        CUTOUTS,
        partition=outcome.series_instance_uid,
        metadata={
            "outcome": outcome.outcome,
            "num_candidates": outcome.num_candidates,
            "num_bytes": outcome.num_bytes,
            "seconds": round(outcome.seconds, 3),
        },
        tags={"dagster/data_version": outcome.fingerprint, "dagster/code_version": "1"},
    )


def _failure(summary: "CutSummary") -> dg.Failure:
    msg = (
        f"Every series must be cut, got {len(summary.failed)} failures beside {summary.num_cut} cut and "
        f"{summary.num_current} current. Mend or remove the named series and run `cut` again."
    )
    return dg.Failure(msg, metadata={"failed": dg.MetadataValue.json(summary.failed)}, allow_retries=False)


def _sheet(cutting: CutoutCutting, index: Any) -> str:
    """Three cutouts as a picture: nodules first, the middle slice of each."""
    import numpy as np

    from luna_pipeline.core.cutouts.sheet import cutout_sheet

    rows = index.sort_values(["class", "candidate_id"], ascending=[False, True]).head(3)
    if rows.empty:
        return "no candidates"
    chunks = np.stack([cutting.store.read(row.series_instance_uid).ct_chunks[row.row] for row in rows.itertuples()])
    captions = [f"class {kind}, fold {fold}" for kind, fold in zip(rows["class"], rows["fold"], strict=True)]
    return markdown.picture(cutout_sheet(chunks, captions), "three cutouts, research use only")
