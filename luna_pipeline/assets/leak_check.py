"""The check of an asset that scores a test fold: its models have seen nothing of it."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import dagster as dg

if TYPE_CHECKING:
    from luna_pipeline.core.evaluation.leaks import LeakReport

NO_LEAK = "no_leak"


def no_leak(asset: str) -> dg.AssetCheckSpec:
    """Describe the check that stops predictions by a model that has seen what it is tested on."""
    return dg.AssetCheckSpec(
        NO_LEAK,
        asset=asset,
        blocking=True,
        description="The models have seen no series, patient and candidate of the test fold.",
    )


def checked(asset: str, fold: int, reports: Sequence["LeakReport"]) -> Iterator[dg.AssetCheckResult]:
    """Tell what was found of leaks, and go no further where there is one.

    Args:
        asset: Whose check it is.
        fold: The test fold.
        reports: Of each model.

    Raises:
        dg.Failure: All leaks, after the result was told.
    """
    leaks = [line for report in reports for line in report.lines]
    yield dg.AssetCheckResult(
        check_name=NO_LEAK,
        asset_key=asset,
        passed=not leaks,
        severity=dg.AssetCheckSeverity.ERROR,
        description=" ".join(leaks or map(str, reports)),
        metadata={"fold": fold, "leaks": dg.MetadataValue.json(leaks)},
    )
    if leaks:
        raise dg.Failure(" ".join(leaks), allow_retries=False)
