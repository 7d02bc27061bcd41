"""Which marks find which nodules, by the rules of LUNA16's evaluation.

The rules are the official script's. Where they are odd, ``is_corrected`` reads them as they were meant; what is odd is
listed in docs/evaluation.md by the same names.

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
# What the script takes for a diameter that is not known (below 0).
UNKNOWN_DIAMETER_MM = 10.0
# The script's score of a nodule that no mark has found; it is never compared.
MISSED = -1e9


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class FrocSamples:
    """What became of each nodule and of each mark that found none.

    Attributes:
        probability: Of a nodule the highest of its marks, of a false positive its own, float64 (N,); ``MISSED`` where
            there is none.
        is_nodule: Nodules, found or missed, bool (N,); the others are false positives.
        is_missed: Nodules that no mark has found, bool (N,).
        scans: Place of each sample's scan among the different scans, int64 (N,).
        listed: Place among them of each row of the list of scans, int64 (S,); S divides the false positives.
        num_marks: Marks that were looked at, after the limit a scan.
        num_ignored: Marks on excluded findings, neither right nor wrong.
        num_doubles: Further marks on a nodule that one has found already.
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
        """Scans that false positives are counted by."""
        return len(self.listed)

    @property
    def counts(self) -> dict[str, int | float]:
        """Counts as the script writes them into CADAnalysis.txt; sensitivity is 0 where there is no nodule."""
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
    """Marks within findings: of each hit the finding's and the mark's row."""

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
    """Find out what each mark has found.

    A mark hits a finding where it lies at less than its radius. Of the marks on a nodule the highest counts, the others
    are doubles; marks on excluded findings alone are ignored; all others are false positives.

    Args:
        marks: ``series_instance_uid``, ``x_mm``, ``y_mm``, ``z_mm`` (LPS), ``probability``, in any order. Those of
            scans that are not listed count for nothing.
        nodules: ``series_instance_uid``, ``x_mm``, ``y_mm``, ``z_mm``, ``diameter_mm``; below 0 it is unknown.
        excluded: Findings that are neither nodule nor error, in the same form.
        scans: Series instance uids of the scans, a row of the list each; one that stands there twice counts twice.
        is_corrected: Whether a scan counts once, a mark finds one nodule (the nearest), and a tie at the limit of marks
            costs no mark more than it must.

    Raises:
        ValueError: If there is no scan.
    """
    rows = list(dict.fromkeys(scans)) if is_corrected else list(scans)
    if not rows:
        msg = "There must be at least one scan, got an empty list of scans. Give a line a scan."
        raise ValueError(msg)
    uids = pd.Index(dict.fromkeys(rows))
    listed = uids.get_indexer(pd.Index(rows))
    marks, nodules, excluded = (_of_scans(table, uids) for table in (marks, nodules, excluded))
    marks = _limited(marks, len(uids), is_corrected=is_corrected)
    hits = _nearest_hits(marks, nodules) if is_corrected else _hits(marks, nodules)
    is_used = _is_among(hits.marks, len(marks))
    is_ignored = _is_among(_hits(marks, excluded).marks, len(marks)) & ~is_used
    num_hits = np.bincount(hits.findings, minlength=len(nodules))
    # Not from MISSED on: a score may be lower than that.
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


def _of_scans(table: pd.DataFrame, uids: pd.Index) -> pd.DataFrame:
    """Return the rows of listed scans with their scan's place, in the order of the scans and else of the table."""
    places = _places(table["series_instance_uid"], uids)
    order = np.argsort(places, kind="stable")
    order = order[places[order] >= 0]
    return table.iloc[order].reset_index(drop=True).assign(scan=places[order])


def _places(series: pd.Series, uids: pd.Index) -> NDArray[np.int64]:
    """Look each different uid up once."""
    column = pd.Categorical(series)
    places: NDArray[np.int64] = np.append(uids.get_indexer(column.categories), -1)[column.codes].astype(np.int64)
    return places


def _limited(marks: pd.DataFrame, num_scans: int, *, is_corrected: bool) -> pd.DataFrame:
    """Leave a scan its highest marks; officially none of those that are tied with the first one too many."""
    probability, scan = marks["probability"].to_numpy(), marks["scan"].to_numpy()
    # Marks of one score in the order of their places, so that the order of the table decides nothing.
    x_mm, y_mm, z_mm = marks[POINT_COLUMNS].to_numpy().T
    order = np.lexsort((x_mm, y_mm, z_mm, -probability, scan))
    num_marks = np.bincount(scan, minlength=num_scans)
    starts = np.cumsum(num_marks) - num_marks
    rank = np.empty(len(marks), dtype=np.int64)
    rank[order] = np.arange(len(marks)) - starts[scan[order]]
    is_kept = rank < MAX_MARKS_PER_SCAN
    limits = np.full(num_scans, -np.inf)
    is_over = num_marks > MAX_MARKS_PER_SCAN
    limits[is_over] = probability[order][starts[is_over] + MAX_MARKS_PER_SCAN]
    if not is_corrected:
        is_kept = probability > limits[scan]
    kept: pd.DataFrame = marks[is_kept]
    return kept.reset_index(drop=True)


def _hits(marks: pd.DataFrame, findings: pd.DataFrame) -> _Hits:
    """Compare each finding with each mark of its scan, in double precision and the order of the script's sums."""
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
    """Let each mark hit the nearest finding alone."""
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


def _is_among(rows: NDArray[np.int64], num_rows: int) -> NDArray[np.bool_]:
    is_there = np.zeros(num_rows, dtype=np.bool_)
    is_there[rows] = True
    return is_there
