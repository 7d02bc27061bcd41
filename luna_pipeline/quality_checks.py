"""Asset checks of the limits of a data set's quality, one a limit; none blocks.

A problem, which makes results wrong, fails as an error; what is only odd, as a warning. A problem that only
voxels show, none of which were read, has not passed, as a warning.
"""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from luna_pipeline.core.quality.limits import LIMITS, OF_VOXELS, PROBLEM

ASSET = "data_quality"
IF_IT_FAILS = "If it fails: look at the scans that are named; correct or remove them, or report it with the results."
_MAX_NAMED = 50


@dg.multi_asset_check(
    name="data_quality_limits",
    specs=[
        dg.AssetCheckSpec(
            limit.name,
            asset=ASSET,
            description=f"{limit.rule}. Reason: {limit.reason}. Source: {limit.source}. {IF_IT_FAILS}",
        )
        for limit in LIMITS
    ],
    ins={ASSET: dg.AssetIn(ASSET)},
    can_subset=True,
)
def data_quality_limits(context: dg.AssetCheckExecutionContext, data_quality: Any) -> Iterator[dg.AssetCheckResult]:
    """Compare the facts of the scans with the selected limits."""
    selected = {key.name for key in context.selected_asset_check_keys}
    yield from (result for result in limit_results(data_quality) if result.check_name in selected)


def limit_results(scans: Any) -> Iterator[dg.AssetCheckResult]:
    """Return the result of each limit for the table `data_quality`."""
    from luna_pipeline.core.quality.findings import describe_limit, find_broken, num_known

    findings = find_broken(scans)
    for limit in LIMITS:
        broken = findings[findings["limit"] == limit.name]
        known = num_known(limit, scans)
        is_unread = limit.name in OF_VOXELS and not known
        named = dict(zip(broken["series_instance_uid"].head(_MAX_NAMED), broken["got"].head(_MAX_NAMED), strict=True))
        yield dg.AssetCheckResult(
            passed=broken.empty and not is_unread,
            asset_key=ASSET,
            check_name=limit.name,
            severity=dg.AssetCheckSeverity.ERROR
            if limit.level == PROBLEM and not is_unread
            else dg.AssetCheckSeverity.WARN,
            metadata={"num_broken": len(broken), "num_known": known, "broken": dg.MetadataValue.json(named)},
            description=describe_limit(limit, findings, scans),
        )


CHECKS = [data_quality_limits]
