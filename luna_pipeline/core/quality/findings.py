"""Which limits a data set breaks, and where."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd

from luna_pipeline.core.quality.limits import (
    LIMITS,
    MAX_FOLD_RATIO,
    MIN_SCANS_FOR_SHARES,
    RARE_SHARE,
    Limit,
)

FINDING_COLUMNS = ("limit", "level", "series_instance_uid", "got", "text")
DATA_SET = "data set"
"""In place of the series, for findings about all scans together."""

_Broken = Iterator[tuple[str, str]]


def find_broken(scans: pd.DataFrame) -> pd.DataFrame:
    """Return every broken limit, a row each, problems first.

    Args:
        scans: As from ``describe_scans``. What is null is not compared.

    Returns:
        ``FINDING_COLUMNS``: name and level of the limit, the series or ``DATA_SET``, the value, and a line for people:
        rule, value, series, what to do.
    """
    rows = []
    for limit in LIMITS:
        for uid, got in _broken(limit, scans):
            where = f"series {uid}" if uid != DATA_SET else DATA_SET
            rows.append((limit.name, limit.level, uid, got, f"{limit.rule}, got {got} ({where}). {limit.advice}"))
    return pd.DataFrame(rows, columns=list(FINDING_COLUMNS))


def num_known(limit: Limit, scans: pd.DataFrame) -> int:
    """Return of how many scans all values are known that a limit is compared with."""
    columns = [limit.column] if limit.column else list(_COMPARED[limit.name])
    return int(scans[columns].notna().all(axis=1).sum())


def not_looked_at(scans: pd.DataFrame) -> str:
    """Return a line with the limits whose values are known of no scan; empty without one."""
    names = [limit.name for limit in LIMITS if not num_known(limit, scans)]
    return f"Not looked at, as the value is known of no scan: {', '.join(names)}." if names else ""


def lines_of(findings: pd.DataFrame, scans: pd.DataFrame) -> list[str]:
    """Return a line for each broken limit, problems first, and one with those that were not looked at."""
    broken = set(findings["limit"])
    lines = [
        f"{limit.level.capitalize()}: {describe_limit(limit, findings, scans)}"
        for limit in LIMITS
        if limit.name in broken
    ]
    return [*lines, *filter(None, [not_looked_at(scans)])]


def describe_limit(limit: Limit, findings: pd.DataFrame, scans: pd.DataFrame) -> str:
    """Return one line on a limit: of how many scans it holds, or the first three values with their series."""
    broken = findings[findings["limit"] == limit.name]
    if broken.empty:
        known = num_known(limit, scans)
        return f"{limit.rule}: {'' if known else 'not looked at, '}known of {known} of {len(scans)} scans."
    named = ", ".join(f"{row.got} ({row.series_instance_uid})" for row in broken.head(3).itertuples())
    more = f" and {len(broken) - 3} more" if len(broken) > 3 else ""
    return f"{limit.rule}, got {named}{more}. Reason: {limit.reason} ({limit.source}). {limit.advice}"


def _broken(limit: Limit, scans: pd.DataFrame) -> _Broken:
    if limit.column:
        return _out_of_range(limit, scans)
    return _RULES[limit.name](scans)


def _out_of_range(limit: Limit, scans: pd.DataFrame) -> _Broken:
    lower = -math.inf if limit.lower is None else limit.lower
    upper = math.inf if limit.upper is None else limit.upper
    values = scans[limit.column].astype("float64")
    # A hair of tolerance: 2.5 mm is often written as 2.500000001.
    outside = values.notna() & ((values < lower - 1e-6) | (values > upper + 1e-6))
    for uid, value in zip(scans["series_instance_uid"][outside], values[outside], strict=True):
        yield str(uid), f"{value:.4g} {limit.unit}".strip()


def _not_hounsfield(scans: pd.DataFrame) -> _Broken:
    for row in scans[scans["is_hounsfield"].eq(False).fillna(False)].itertuples():
        yield str(row.series_instance_uid), f"percentiles 1, 50, 99 of {_percentiles(row)}"


def _percentiles(row: Any) -> str:
    return ", ".join(f"{value:.0f}" for value in (row.percentile_1_hu, row.median_hu, row.percentile_99_hu))


def _doubles(scans: pd.DataFrame, *, across_folds: bool) -> _Broken:
    for _, group in scans[scans["content_digest"].notna()].groupby("content_digest", sort=False):
        if len(group) < 2 or (group["fold"].nunique() > 1) != across_folds:
            continue
        uids = sorted(group["series_instance_uid"])
        folds = sorted({int(fold) for fold in group["fold"].dropna()})
        of_folds = f" in folds {', '.join(map(str, folds))}" if across_folds else ""
        yield uids[0], f"{len(uids)} copies{of_folds}, also {', '.join(uids[1:])}"


def _not_lps(scans: pd.DataFrame) -> _Broken:
    for row in scans[scans["axes"].notna() & (scans["axes"] != "LPS")].itertuples():
        yield str(row.series_instance_uid), f"{row.plane} slices with axes {row.axes}"


def _without_kernel(scans: pd.DataFrame) -> _Broken:
    for uid in scans.loc[
        (scans["format"] == "dicom") & scans["is_readable"] & scans["kernel"].isna(), "series_instance_uid"
    ]:
        yield uid, "none"


def _mixed_contrast(scans: pd.DataFrame) -> _Broken:
    # A header that is silent says neither; only a stated agent beside others is a mixture.
    dicom = scans[(scans["format"] == "dicom") & scans["is_readable"]]
    num_given = int((dicom["contrast"] == "given").sum())
    if 0 < num_given < len(dicom):
        yield DATA_SET, f"{num_given} of {len(dicom)} DICOM scans with a stated agent"


def _rare_manufacturers(scans: pd.DataFrame) -> _Broken:
    counts = scans["manufacturer"].value_counts()
    total = int(counts.sum())
    for name, count in counts.items() if total >= MIN_SCANS_FOR_SHARES else ():
        if count < RARE_SHARE * total:
            yield DATA_SET, f"{count} of {total} of {name}"


def _uneven_folds(scans: pd.DataFrame) -> _Broken:
    counts = scans["fold"].value_counts()
    if len(counts) > 1 and counts.max() > MAX_FOLD_RATIO * counts.min():
        yield DATA_SET, f"{counts.min()} to {counts.max()} scans"


_COMPARED = {
    "voxels_are_hounsfield": ("is_hounsfield",),
    "no_scan_twice_across_folds": ("content_digest", "fold"),
    "no_scan_twice": ("content_digest",),
    "axes_are_axial_lps": ("axes",),
    "kernel_is_known": ("kernel",),
    "contrast_is_uniform": ("contrast",),
    "no_rare_manufacturer": ("manufacturer",),
    "folds_are_even": ("fold",),
}
_RULES: dict[str, Callable[[pd.DataFrame], _Broken]] = {
    "voxels_are_hounsfield": _not_hounsfield,
    "no_scan_twice_across_folds": lambda scans: _doubles(scans, across_folds=True),
    "no_scan_twice": lambda scans: _doubles(scans, across_folds=False),
    "axes_are_axial_lps": _not_lps,
    "kernel_is_known": _without_kernel,
    "contrast_is_uniform": _mixed_contrast,
    "no_rare_manufacturer": _rare_manufacturers,
    "folds_are_even": _uneven_folds,
}
