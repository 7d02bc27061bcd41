"""Matching of marks and nodules by the rules of LUNA16's official script.

``is_corrected`` corrects the script's known quirks, which docs/how_to/evaluate.md lists.

Source:
    noduleCADEvaluationLUNA16.py of 2016, and luna16.grand-challenge.org/Evaluation.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from luna_pipeline.core.candidates.matching import POINT_COLUMNS, nearest_in_series

MAX_MARKS_PER_SCAN = 100
# Diameter that the script uses for an unknown one (below 0).
UNKNOWN_DIAMETER_MM = 10.0
# Score of a missed nodule in the script; it is never compared.
MISSED = -1e9


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class FrocSamples:
    """Matched samples: all nodules, found or missed, and all false positives.

    Attributes:
        probability: Highest score of a nodule's marks, or the score of a false positive, float64 (N,); ``MISSED`` for
            missed nodules.
        is_nodule: Nodules, found or missed, bool (N,); the others are false positives.
        is_missed: Nodules without a mark, bool (N,).
        scans: Index of each sample's scan among the distinct scans, int64 (N,).
        listed: Index of the distinct scan of each row of the list of scans, int64 (S,); rates are per S scans.
        num_marks: Number of marks after the limit per scan.
        num_ignored: Number of marks on excluded findings only.
        num_doubles: Number of additional marks on nodules that are already found.
    """

    probability: NDArray[np.float64]
    is_nodule: NDArray[np.bool_]
    is_missed: NDArray[np.bool_]
    scans: NDArray[np.int64]
    listed: NDArray[np.int64]
    num_marks: int
    num_ignored: int
    num_doubles: int

    @property
    def num_scans(self) -> int:
        """Number of rows of the list of scans, by which rates are divided."""
        return len(self.listed)

    @property
    def counts(self) -> dict[str, int | float]:
        """Counts as in the script's CADAnalysis.txt; sensitivity is 0 without nodules."""
        num_nodules = int(self.is_nodule.sum())
        num_found = num_nodules - int(self.is_missed.sum())
        return {
            "true_positives": num_found,
            "false_positives": int((~self.is_nodule).sum()),
            "false_negatives": num_nodules - num_found,
            "true_negatives": 0,
            "total_candidates": self.num_marks,
            "total_nodules": num_nodules,
            "ignored_on_excluded": self.num_ignored,
            "ignored_double_detections": self.num_doubles,
            "sensitivity": num_found / num_nodules if num_nodules else 0.0,
            "candidates_per_scan": self.num_marks / self.num_scans,
        }


@dataclass(frozen=True, eq=False, slots=True)
class _Hits:
    """Pairs of a finding and a mark within its radius, by their rows."""

    findings: NDArray[np.int64]
    marks: NDArray[np.int64]


def match_marks(
    marks: pd.DataFrame,
    nodules: pd.DataFrame,
    excluded: pd.DataFrame,
    scans: Sequence[str],
    *,
    is_corrected: bool = False,
) -> FrocSamples:
    """Match marks with nodules and excluded findings.

    A mark hits a finding if its distance is less than the radius. The highest mark on a nodule counts, the others are
    doubles. Marks on excluded findings only are ignored. All other marks are false positives.

    Args:
        marks: ``series_instance_uid``, ``x_mm``, ``y_mm``, ``z_mm`` (LPS), ``probability``, in any order. Marks of
            unlisted scans are ignored.
        nodules: ``series_instance_uid``, ``x_mm``, ``y_mm``, ``z_mm``, ``diameter_mm`` (unknown if below 0).
        excluded: Excluded findings, with the same columns.
        scans: Series instance uids of the list of scans; a scan that is listed twice counts twice.
        is_corrected: Whether a scan counts once, a mark hits the nearest nodule only, and ties at the limit of marks
            remove no more marks than necessary.

    Raises:
        ValueError: If there is no scan.
    """
    rows = list(dict.fromkeys(scans)) if is_corrected else list(scans)
    if not rows:
        msg = "There must be at least one scan, got an empty list of scans. Give one line per scan."
        raise ValueError(msg)
    uids = pd.Index(dict.fromkeys(rows))
    listed = uids.get_indexer(pd.Index(rows))
    marks, nodules, excluded = (_listed_rows(table, uids) for table in (marks, nodules, excluded))
    marks = _limit_marks(marks, len(uids), is_corrected=is_corrected)
    hits = _nearest_hits(marks, nodules) if is_corrected else _hits(marks, nodules)
    is_used = _row_mask(hits.marks, len(marks))
    is_ignored = _row_mask(_hits(marks, excluded).marks, len(marks)) & ~is_used
    num_hits = np.bincount(hits.findings, minlength=len(nodules))
    # Not initialised with MISSED: a score may be lower.
    highest = np.full(len(nodules), -np.inf)
    np.maximum.at(highest, hits.findings, marks["probability"].to_numpy()[hits.marks])
    wrong = marks[~is_used & ~is_ignored]
    times = np.bincount(listed, minlength=len(uids))
    probability = np.concatenate([np.where(num_hits > 0, highest, MISSED), wrong["probability"].to_numpy()])
    scan = np.concatenate([nodules["scan"].to_numpy(), wrong["scan"].to_numpy()]).astype(np.int64)
    is_nodule = np.arange(len(scan)) < len(nodules)
    is_missed = np.append(num_hits == 0, np.zeros(len(wrong), dtype=np.bool_))
    repeated = np.repeat(np.arange(len(scan)), times[scan])
    return FrocSamples(
        probability=probability[repeated],
        is_nodule=is_nodule[repeated],
        is_missed=is_missed[repeated],
        scans=scan[repeated],
        listed=listed,
        num_marks=int(times[marks["scan"]].sum()),
        num_ignored=int(times[marks["scan"].to_numpy()[is_ignored]].sum()),
        num_doubles=int((np.maximum(num_hits - 1, 0) * times[nodules["scan"]]).sum()),
    )


def hit_findings(marks: pd.DataFrame, findings: pd.DataFrame, scans: Sequence[str]) -> NDArray[np.bool_]:
    """Return which findings of the listed scans have a mark within their radius; every mark counts, without a limit.

    Args:
        marks: As in ``match_marks``.
        findings: ``series_instance_uid``, ``x_mm``, ``y_mm``, ``z_mm``, ``diameter_mm``.
        scans: Series instance uids of the list of scans.

    Returns:
        One value a finding of these scans (N,), in the order of the scans.
    """
    uids = pd.Index(dict.fromkeys(scans))
    marks, findings = (_listed_rows(table, uids) for table in (marks, findings))
    return _row_mask(_hits(marks, findings).findings, len(findings))


def _listed_rows(table: pd.DataFrame, uids: pd.Index) -> pd.DataFrame:
    """Return the rows of listed scans with the column ``scan`` (index of the scan), stably sorted by it."""
    places = _scan_indices(table["series_instance_uid"], uids)
    order = np.argsort(places, kind="stable")
    order = order[places[order] >= 0]
    return table.iloc[order].reset_index(drop=True).assign(scan=places[order])


def _scan_indices(series: pd.Series, uids: pd.Index) -> NDArray[np.int64]:
    # A categorical looks up each distinct uid once.
    column = pd.Categorical(series)
    indices: NDArray[np.int64] = np.append(uids.get_indexer(column.categories), -1)[column.codes].astype(np.int64)
    return indices


def _limit_marks(marks: pd.DataFrame, num_scans: int, *, is_corrected: bool) -> pd.DataFrame:
    """Return the highest marks of each scan; officially without those tied with the first mark over the limit."""
    probability, scan = marks["probability"].to_numpy(), marks["scan"].to_numpy()
    # Ties in the order of the positions, so that the order of the table does not matter.
    x_mm, y_mm, z_mm = marks[POINT_COLUMNS].to_numpy().T
    order = np.lexsort((x_mm, y_mm, z_mm, -probability, scan))
    num_marks = np.bincount(scan, minlength=num_scans)
    starts = np.cumsum(num_marks) - num_marks
    rank = np.empty(len(marks), dtype=np.int64)
    rank[order] = np.arange(len(marks)) - starts[scan[order]]
    is_kept = rank < MAX_MARKS_PER_SCAN
    if not is_corrected:
        limits = np.full(num_scans, -np.inf)
        is_over = num_marks > MAX_MARKS_PER_SCAN
        limits[is_over] = probability[order][starts[is_over] + MAX_MARKS_PER_SCAN]
        is_kept = probability > limits[scan]
    kept: pd.DataFrame = marks[is_kept]
    return kept.reset_index(drop=True)


def _hits(marks: pd.DataFrame, findings: pd.DataFrame) -> _Hits:
    """Return all hits; distances are summed in double precision in the script's order."""
    scan = findings["scan"].to_numpy(dtype=np.int64)
    starts, ends = (np.searchsorted(marks["scan"], scan, side=side) for side in ("left", "right"))
    pair_finding = np.repeat(np.arange(len(findings)), ends - starts)
    first_pair = np.cumsum(ends - starts) - (ends - starts)
    pair_mark = np.arange(len(pair_finding)) - np.repeat(first_pair - starts, ends - starts)
    distance_mm2 = np.zeros(len(pair_finding))
    for axis in POINT_COLUMNS:
        difference_mm = findings[axis].to_numpy()[pair_finding] - marks[axis].to_numpy()[pair_mark]
        distance_mm2 += difference_mm**2
    is_hit = distance_mm2 < (_radii_mm(findings) ** 2)[pair_finding]
    return _Hits(pair_finding[is_hit], pair_mark[is_hit])


def _nearest_hits(marks: pd.DataFrame, findings: pd.DataFrame) -> _Hits:
    """Return the hit of each mark on its nearest finding."""
    nearest = nearest_in_series(
        marks["series_instance_uid"],
        marks[POINT_COLUMNS],
        center_series=findings["series_instance_uid"],
        centers_xyz=findings[POINT_COLUMNS],
        radii_mm=_radii_mm(findings),
    )
    hitting = np.flatnonzero(nearest >= 0)
    return _Hits(nearest[hitting], hitting)


def _radii_mm(findings: pd.DataFrame) -> NDArray[np.float64]:
    diameter_mm = findings["diameter_mm"].to_numpy(dtype=np.float64)
    return np.where(diameter_mm < 0, UNKNOWN_DIAMETER_MM, diameter_mm) / 2


def _row_mask(rows: NDArray[np.int64], num_rows: int) -> NDArray[np.bool_]:
    mask = np.zeros(num_rows, dtype=np.bool_)
    mask[rows] = True
    return mask
