"""Asset check that the models which score a test fold have not seen any of its data."""

import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import dagster as dg

from luna_pipeline.partitions import TEST_FOLDS

if TYPE_CHECKING:
    from luna_pipeline.core.evaluation.leaks import LeakReport

NO_LEAK = "no_leak"


def no_leak(asset: str) -> dg.AssetCheckSpec:
    """Return the spec of the blocking check of an asset; each test fold has its own result."""
    with warnings.catch_warnings():
        # `partitions_def` of a check is a preview in Dagster 1.13.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return dg.AssetCheckSpec(
            NO_LEAK,
            asset=asset,
            blocking=True,
            partitions_def=TEST_FOLDS,
            description="No series, patient, scan or candidate of the test fold was used to train the models. "
            "If it fails: leave the model that is named out, or train it again without the test fold.",
        )


def stop_at_leak(asset: str, fold: int, reports: Sequence["LeakReport"]) -> Iterator[dg.AssetCheckResult]:
    """Yield the result of the check only if it is not passed, and fail before the asset is made.

    Raises:
        dg.Failure: After the result; it lists all leaks.
    """
    result = leak_result(asset, fold, reports)
    if not result.passed:
        yield result
        raise dg.Failure(result.description, allow_retries=False)


def leak_result(asset: str, fold: int, reports: Sequence["LeakReport"]) -> dg.AssetCheckResult:
    """Return the result of the check, given a report on each model.

    Yield it after the asset's output: Dagster's page shows a result beside the newest materialization before it.
    """
    leaks = [line for report in reports for line in report.lines]
    return dg.AssetCheckResult(
        check_name=NO_LEAK,
        asset_key=asset,
        passed=bool(reports) and not leaks,
        severity=dg.AssetCheckSeverity.ERROR,
        description=" ".join(leaks) or _held_apart(fold, reports),
        metadata={
            "fold": fold,
            "models": len(reports),
            "leak_state": _state_of(reports),
            "leaks": dg.MetadataValue.json(leaks),
        },
    )


def _state_of(reports: Sequence["LeakReport"]) -> str:
    """Return ``leak`` where there is one, else ``unknown`` where anything is not known, else ``clean``."""
    states = {report.state for report in reports}
    return next((state for state in ("leak", "unknown") if state in states), "clean" if states else "unknown")


def _held_apart(fold: int, reports: Sequence["LeakReport"]) -> str:
    """Return what holds without a leak, and what is not known."""
    if not reports:
        return f"One model or more must be checked, got none for fold {fold}."
    num_known = sum(report.is_origin_known for report in reports)
    num_unknown, lines = len(reports) - num_known, []
    if num_known:
        lines.append(
            f"No series, patient or candidate of fold {fold} was used to train the models that score it ({num_known})."
        )
    if num_unknown:
        others = "others" if num_known else "models"
        lines.append(f"The weights of {others} ({num_unknown}) come from elsewhere: what they have seen is not known.")
    unknown = max(reports, key=lambda report: report.num_unknown_patients)
    if unknown.num_unknown_patients:
        lines.append(f"The patients of {unknown.num_unknown_patients} of {unknown.num_series} series are not known.")
    missed = max(reports, key=lambda report: report.num_not_compared)
    if missed.num_not_compared:
        lines.append(f"{missed.num_not_compared} of {missed.num_series} series were not compared with other scans.")
    return " ".join(lines)
