"""Asset checks of the data; all but the first stop a run."""

from typing import Any

import dagster as dg

from luna_pipeline.partitions import gone_series
from luna_pipeline.resources import CutoutCutting, LunaPaths

MAX_REJECTED_SHARE = 0.01


@dg.asset_check(asset="ct_series")
def no_ct_is_gone(
    context: dg.AssetCheckExecutionContext, ct_series: Any, cutting: CutoutCutting
) -> dg.AssetCheckResult:
    """Every registered or cut series still has its CT; the cutouts of a removed CT are kept until `luna prune`.

    Without a readable CT there is nothing to check, and it fails.
    """
    gone = gone_series(context.instance, ct_series, cutting.store)
    if not gone and not ct_series["is_readable"].any():
        msg = f"A data root must hold a readable CT, got none of {len(ct_series)}. See the reasons in the table."
        return dg.AssetCheckResult(passed=False, severity=dg.AssetCheckSeverity.WARN, description=msg)
    return dg.AssetCheckResult(
        passed=not gone,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"num_gone": len(gone), "gone": dg.MetadataValue.json(gone)},
        description=f"Every known series must have its CT, got {len(gone)} without one. Restore the CTs, or remove "
        "their cutouts with `luna prune`."
        if gone
        else "Every known series has its CT.",
    )


@dg.asset_check(asset="candidates", blocking=True, additional_ins={"rejected": dg.AssetIn("rejected")})
def rejected_rows_are_few(candidates: Any, rejected: Any) -> dg.AssetCheckResult:
    """Fewer than 1 % of the rows of readable series were rejected, and one or more is left.

    Rows of unreadable CTs are not counted.
    """
    from luna_pipeline.core.candidates.usable_rows import UNREADABLE_CT

    num_bad = int((rejected["reason"] != UNREADABLE_CT).sum())
    total = len(candidates) + num_bad
    share = num_bad / total if total else 0.0
    none_left = "" if len(candidates) else " No row of the tables belongs to a readable CT: see the notes of the table."
    return dg.AssetCheckResult(
        passed=share < MAX_REJECTED_SHARE and not none_left,
        severity=dg.AssetCheckSeverity.ERROR,
        metadata={"num_rejected": num_bad, "share": share},
        description=f"Rejected rows must stay below {MAX_REJECTED_SHARE:.0%}, got {num_bad} of {total}. "
        f"Their reasons are in rejected.parquet.{none_left}",
    )


@dg.asset_check(asset="folds", blocking=True)
def folds_hold_series_and_patients_apart(folds: Any) -> dg.AssetCheckResult:
    """No series and no patient lies in two folds, and there is one or more series."""
    from luna_pipeline.core.candidates.folds import check_folds, describe_folds

    violations = check_folds(folds) if len(folds) else ["Series must have folds, got no readable series. Add CTs."]
    notes = describe_folds(folds) if violations else []
    return dg.AssetCheckResult(
        passed=not violations,
        severity=dg.AssetCheckSeverity.ERROR,
        metadata={"num_violations": len(violations), "violations": dg.MetadataValue.json(violations[:50])},
        description="; ".join([*violations[:3], *notes]) or "One fold a series, one fold a patient.",
    )


@dg.asset_check(asset="cutout_index", blocking=True)
def cutouts_are_whole(cutout_index: Any, cutting: CutoutCutting, paths: LunaPaths) -> dg.AssetCheckResult:
    """Every candidate has a cutout of the configured shape."""
    source = cutting.source
    shape = tuple(cutting.chunk_shape_irc)
    wrong = []
    for uid in sorted(cutout_index["series_instance_uid"].unique()):
        found = tuple(source.header(uid)["chunk_shape_irc"])
        if found != shape:
            wrong.append(f"{uid}: {found}")
    missing = len(cutting.selection.of(paths.read_table("candidates"))) - len(cutout_index)
    return dg.AssetCheckResult(
        passed=not wrong and missing == 0 and not cutout_index.empty,
        # A series that cannot be cut has a failed partition; the other series can be used for training.
        severity=dg.AssetCheckSeverity.ERROR if wrong or cutout_index.empty else dg.AssetCheckSeverity.WARN,
        metadata={"num_missing": missing, "wrong_shape": dg.MetadataValue.json(wrong[:50])},
        description=f"Each candidate must have a cutout of {shape}, got {missing} without one of "
        f"{len(cutout_index) + missing}, {len(wrong)} files of another shape. Run `cut` again.",
    )


CHECKS = [no_ct_is_gone, rejected_rows_are_few, folds_hold_series_and_patients_apart, cutouts_are_whole]
