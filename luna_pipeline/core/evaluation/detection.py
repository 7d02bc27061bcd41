"""Scores of detectors on their own findings: LUNA16's rules, and what the search alone has found."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from luna_pipeline.core.evaluation.froc import FrocCurve
from luna_pipeline.core.evaluation.froc_matching import hit_findings
from luna_pipeline.core.evaluation.froc_table import froc_table
from luna_pipeline.core.evaluation.reference import Reference
from luna_pipeline.core.evaluation.searched import SearchedFroc, check_searched, evaluate_searched

MAX_FPS_PER_SCAN = 4.0
"""Largest number of false positives a scan at which ``lesion_recall`` is read."""

DETECTION_COLUMNS = (
    *("num_searched", "cpm_searched", "cpm_searched_lower", "cpm_searched_upper"),
    *("lesion_recall", "fps_per_scan", "score_threshold", "search_recall", "findings_per_scan"),
)


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class DetectionResult:
    """Scores of a detector.

    Attributes:
        froc: LUNA16's result over all scans, and over the searched ones.
        lesion_recall: Highest share of the nodules of all scans that are found with at most ``MAX_FPS_PER_SCAN`` false
            positives a scan; nan without nodules.
        fps_per_scan: False positives per scan at that recall, the lowest number that reaches it.
        score_threshold: Lowest score that counts there; nan if nothing is found.
        search_recall: Share of the nodules of the searched scans with any finding, whatever its score: what the
            classifier can reach at most. nan without nodules.
        findings_per_scan: Findings per searched scan.
    """

    froc: SearchedFroc
    lesion_recall: float
    fps_per_scan: float
    score_threshold: float
    search_recall: float
    findings_per_scan: float


def evaluate_detector(
    marks: pd.DataFrame, reference: Reference, searched: Collection[str], *, num_bootstraps: int = 0, seed: int = 0
) -> DetectionResult:
    """Evaluate the findings of a detector.

    Args:
        marks: ``series_instance_uid``, ``x_mm``, ``y_mm``, ``z_mm``, ``probability``; may be empty.
        reference: Nodules, excluded findings and scans.
        searched: Scans that the detector has searched, also those without a finding.
        num_bootstraps: Number of draws of scans; 0 for none.
        seed: Seed of the draws.

    Raises:
        ValueError: If no scan of the reference was searched, or a scan with findings was not.
    """
    tables = reference.tables_of(marks)
    check_searched(tables, searched)
    froc = evaluate_searched(tables, searched, num_bootstraps=num_bootstraps, seed=seed)
    wanted = set(searched)
    scans = [uid for uid in reference.scans if uid in wanted]
    is_found = hit_findings(marks, reference.nodules, scans)
    recall, fps_per_scan, threshold = _recall_within(froc.official.curve, MAX_FPS_PER_SCAN)
    return DetectionResult(
        froc=froc,
        lesion_recall=recall,
        fps_per_scan=fps_per_scan,
        score_threshold=threshold,
        search_recall=float(is_found.mean()) if len(is_found) else np.nan,
        findings_per_scan=float(marks["series_instance_uid"].isin(scans).sum() / len(set(scans))),
    )


def detection_table(results: Mapping[str, DetectionResult], *, folds: str) -> pd.DataFrame:
    """Return results as a table.

    Args:
        results: Results by detector.
        folds: Name of the folds.

    Returns:
        One row per detector: the columns of ``froc_table`` over all scans, and ``DETECTION_COLUMNS``.
    """
    table = froc_table({name: result.froc.official for name, result in results.items()}, folds=folds)
    rows = [_row(result) for result in results.values()]
    return pd.concat([table, pd.DataFrame(rows, columns=list(DETECTION_COLUMNS))], axis=1)


def _row(result: DetectionResult) -> dict[str, float]:
    searched = result.froc.searched
    lower, upper = (np.nan, np.nan) if searched.band is None else searched.band.cpm_interval
    values = (searched.samples.num_scans, searched.curve.cpm, lower, upper)
    recalls = (getattr(result, name) for name in DETECTION_COLUMNS[len(values) :])
    return dict(zip(DETECTION_COLUMNS, (*values, *recalls), strict=True))


def _recall_within(curve: FrocCurve, max_fps_per_scan: float) -> tuple[float, float, float]:
    """Return recall, false positives per scan and threshold of the first point with the highest recall in the limit."""
    if not curve.num_nodules:
        return np.nan, np.nan, np.nan
    if np.isnan(curve.cpm):
        return 0.0, 0.0, np.nan
    num_points = int((curve.fps_per_scan <= max_fps_per_scan).sum())
    best = int(np.argmax(curve.sensitivity[:num_points]))
    return float(curve.sensitivity[best]), float(curve.fps_per_scan[best]), float(curve.threshold[best])
