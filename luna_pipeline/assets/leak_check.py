"""Asset check that the models which score a test fold have not seen any of its data."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import dagster as dg

if TYPE_CHECKING:
    from luna_pipeline.core.evaluation.leaks import LeakReport

NO_LEAK = "no_leak"


def no_leak(asset: str) -> dg.AssetCheckSpec:
    """Return the spec of the blocking check of an asset."""
    return dg.AssetCheckSpec(
        NO_LEAK,
        asset=asset,
        blocking=True,
        description="No series, patient or candidate of the test fold was used to train the models.",
    )


def checked(asset: str, fold: int, reports: Sequence["LeakReport"]) -> Iterator[dg.AssetCheckResult]:
    """Yield the result of the check, given a report on each model.

    Raises:
        dg.Failure: After the result, if there are leaks; it lists all of them.
    """
    leaks = [line for report in reports for line in report.lines]
    yield dg.AssetCheckResult(
        check_name=NO_LEAK,
        asset_key=asset,
        passed=bool(reports) and not leaks,
        severity=dg.AssetCheckSeverity.ERROR,
        description=" ".join(leaks or map(str, reports)) or "One model or more must be checked, got none.",
        metadata={"fold": fold, "leaks": dg.MetadataValue.json(leaks)},
    )
    if leaks:
        raise dg.Failure(" ".join(leaks), allow_retries=False)
