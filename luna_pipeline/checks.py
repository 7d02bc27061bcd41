"""Asset checks of the data. The text of a passed check says what holds; of a failed one: rule, got, what to do."""

from typing import Any

import dagster as dg

from luna_pipeline.partitions import gone_folds, gone_series
from luna_pipeline.resources import CutoutCutting, LunaPaths

MAX_REJECTED_SHARE = 0.01


@dg.asset_check(asset="ct_series")
def every_ct_is_readable(ct_series: Any) -> dg.AssetCheckResult:
    """Every CT below the data root can be read, and there is one or more. A copy of a readable CT does not count.

    If it fails: repair or remove the CTs that are named, and run `ingest` again.
    """
    from luna_pipeline.core.ct.catalogue import unreadable_series
    from luna_pipeline.core.ct.errors import name_series

    num_series, unreadable = ct_series["series_instance_uid"].nunique(), unreadable_series(ct_series)
    found = f"{len(unreadable)} unreadable" if len(unreadable) < num_series else "none"
    reasons = f": {name_series(unreadable)} | Repair or remove them." if unreadable else ". Add CTs."
    return dg.AssetCheckResult(
        passed=num_series > 0 and not unreadable,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"num_unreadable": len(unreadable), "unreadable": dg.MetadataValue.json(unreadable)},
        description=f"Every CT must be readable, got {found} of {num_series}{reasons}"
        if unreadable or not num_series
        else f"All {num_series} CTs are readable.",
    )


@dg.asset_check(asset="ct_series")
def no_ct_is_gone(
    context: dg.AssetCheckExecutionContext, ct_series: Any, cutting: CutoutCutting
) -> dg.AssetCheckResult:
    """Every registered or cut series still has its CT; a removed CT's cutouts are kept until `luna prune --yes`.

    If it fails: restore the CTs, or remove their cutouts and partitions with `luna prune --yes`.
    """
    from luna_pipeline.core.ct.errors import name_series

    gone = gone_series(context.instance, ct_series, cutting.store)
    named = name_series(dict.fromkeys(gone, "no CT"))
    return _gone_result(
        gone,
        passed="Every known series has its CT.",
        failed=f"Every known series must have its CT, got {len(gone)} without one: {named} | Restore the CTs, or "
        "remove their cutouts and partitions with `luna prune --yes`.",
    )


@dg.asset_check(asset="candidates", blocking=True, additional_ins={"rejected": dg.AssetIn("rejected")})
def rejected_rows_are_few(candidates: Any, rejected: Any) -> dg.AssetCheckResult:
    """Fewer than 1 % of the rows of readable series were rejected, and one or more is left.

    Rows of unreadable CTs are not counted.

    If it fails: correct the rows in the tables; `rejected.parquet` has the reason of each.
    """
    from luna_pipeline.core.candidates.usable_rows import UNREADABLE_CT

    num_bad = int((rejected["reason"] != UNREADABLE_CT).sum())
    total = len(candidates) + num_bad
    share = num_bad / total if total else 0.0
    none_left = "" if len(candidates) else " No row of the tables belongs to a readable CT: see the notes of the table."
    passed = share < MAX_REJECTED_SHARE and not none_left
    return dg.AssetCheckResult(
        passed=passed,
        severity=dg.AssetCheckSeverity.ERROR,
        metadata={"num_rejected": num_bad, "share": share},
        description=f"{num_bad} of {total} rows were rejected, fewer than {MAX_REJECTED_SHARE:.0%}."
        if passed
        else f"Fewer than {MAX_REJECTED_SHARE:.0%} of the rows must be rejected, got {num_bad} of {total}. Correct "
        f"them in the tables; their reasons are in rejected.parquet.{none_left}",
    )


@dg.asset_check(asset="folds", blocking=True)
def folds_hold_series_and_patients_apart(folds: Any, paths: LunaPaths) -> dg.AssetCheckResult:
    """No series, no patient and no scan lies in two folds, and there is one or more series.

    The same scan under two uids is known where `same_scans` was searched.

    If it fails: put what is named into one fold (subset folder or `luna16_subsets.csv`), or remove one of the CTs.
    """
    from luna_pipeline.core.candidates.folds import check_folds, describe_folds
    from luna_pipeline.core.same_scans.groups import same_scans_in_two_folds
    from luna_pipeline.launchers.same_scans import read_same_scans

    violations = check_folds(folds) if len(folds) else ["Series must have folds, got no readable series. Add CTs."]
    violations += same_scans_in_two_folds(read_same_scans(paths.settings), folds)
    notes = describe_folds(folds) if violations else []
    return dg.AssetCheckResult(
        passed=not violations,
        severity=dg.AssetCheckSeverity.ERROR,
        metadata={"num_violations": len(violations), "violations": dg.MetadataValue.json(violations[:50])},
        description="; ".join([*violations[:3], *notes]) or "Each series and each patient is in a single fold.",
    )


@dg.asset_check(asset="folds")
def no_fold_is_gone(context: dg.AssetCheckExecutionContext, folds: Any) -> dg.AssetCheckResult:
    """Every registered test fold is a fold of the data; a trained fold that is gone is kept until `luna prune`.

    If it fails: restore the folds, or remove their partitions with `luna prune --yes`.
    """
    gone = gone_folds(context.instance, folds["fold"])
    return _gone_result(
        gone,
        passed="Every registered fold is a fold of the data.",
        failed=f"Every registered fold must be a fold of the data, got {', '.join(gone)} without series. Restore the "
        "folds, or remove their partitions with `luna prune --yes`.",
    )


@dg.asset_check(asset="cutout_index", blocking=True)
def cutouts_are_whole(cutout_index: Any, cutting: CutoutCutting, paths: LunaPaths) -> dg.AssetCheckResult:
    """Every CT is in the index, and every candidate has a cutout of the configured shape.

    A missing series is a warning, because the other series can be used for training.

    If it fails: fix the series that are named, and run `recut_changed`.
    """
    shape = tuple(cutting.chunk_shape_irc)
    wrong = _of_another_shape(cutout_index, cutting, shape)
    left_out = _left_out(cutout_index)
    missing = len(cutting.selection.of(paths.read_table("candidates"))) - len(cutout_index)
    passed = not wrong and missing == 0 and not left_out and not cutout_index.empty
    total = len(cutout_index) + missing
    return dg.AssetCheckResult(
        passed=passed,
        severity=dg.AssetCheckSeverity.ERROR if wrong or cutout_index.empty else dg.AssetCheckSeverity.WARN,
        metadata={
            "num_missing": missing,
            "wrong_shape": dg.MetadataValue.json(wrong[:50]),
            "left_out": dg.MetadataValue.json(left_out),
        },
        description=f"Each of {total} candidates has a cutout of {shape}, and no series is left out."
        if passed
        else f"Each candidate must have a cutout of {shape}, got {missing} without one of {total}, {len(wrong)} files "
        f"of another shape, {_named(left_out)}. Fix what is named, and run `recut_changed`.",
    )


@dg.asset_check(asset="champion")
def champion_origin(paths: LunaPaths) -> dg.AssetCheckResult:
    """The training scans of each champion in MLflow's registry are known: an imported model may have seen any scan.

    If it fails: move MLflow's alias `champion` to a model that was trained here.
    """
    from luna_pipeline.launchers.diagnosis.champion_origin import champions
    from luna_pipeline.tracking.outbox import TrackerUnavailableError

    try:
        found = champions(paths.settings)
    except TrackerUnavailableError as error:
        text = " ".join(str(error).split())
        return dg.AssetCheckResult(passed=False, severity=dg.AssetCheckSeverity.WARN, description=text)
    unknown = {name: reason for name, reason in found.items() if reason is not None}
    known = ", ".join(found) or "there is none"
    return dg.AssetCheckResult(
        passed=not unknown,
        severity=dg.AssetCheckSeverity.ERROR,
        metadata={"champions": dg.MetadataValue.json(sorted(found)), "unknown": dg.MetadataValue.json(unknown)},
        description="The training scans of every champion must be known, got "
        + " | ".join(f"{name}: {reason}" for name, reason in unknown.items())
        + ". Move MLflow's alias `champion` to a model that was trained here."
        if unknown
        else f"The training scans of every champion are known ({known}).",
    )


def _gone_result(gone: list[str], *, passed: str, failed: str) -> dg.AssetCheckResult:
    """Return a warning if there are keys of partitions without data."""
    return dg.AssetCheckResult(
        passed=not gone,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"num_gone": len(gone), "gone": dg.MetadataValue.json(gone)},
        description=failed if gone else passed,
    )


def _of_another_shape(index: Any, cutting: CutoutCutting, shape: tuple[int, ...]) -> list[str]:
    """Return the series whose file has chunks of another shape, each with that shape."""
    source = cutting.source
    shapes = {
        uid: tuple(source.header(uid)["chunk_shape_irc"]) for uid in sorted(index["series_instance_uid"].unique())
    }
    return [f"{uid}: {found}" for uid, found in shapes.items() if found != shape]


def _left_out(index: Any) -> dict[str, str]:
    """Return the reason by uid of each series that the index should hold; none in an index of an earlier version."""
    from luna_pipeline.core.cutouts.index import LEFT_OUT

    return dict(index.attrs.get(LEFT_OUT, {}))


def _named(left_out: dict[str, str]) -> str:
    from luna_pipeline.core.ct.errors import name_series

    return f"{len(left_out)} series left out" + (f": {name_series(left_out)}" if left_out else "")


CHECKS = [
    every_ct_is_readable,
    no_ct_is_gone,
    rejected_rows_are_few,
    folds_hold_series_and_patients_apart,
    no_fold_is_gone,
    cutouts_are_whole,
    champion_origin,
]
