"""A detector on every scan of a test fold: its findings, the scans that it searched, and the official score."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import pandas as pd

from luna_pipeline.core.candidates.submission import SUBMISSION_COLUMNS, write_submission
from luna_pipeline.core.ct.errors import UnreadableCtError
from luna_pipeline.core.ct.reading import Ct
from luna_pipeline.core.evaluation.detection import DetectionResult, detection_table, evaluate_detector
from luna_pipeline.core.evaluation.fold_names import folds_in_words
from luna_pipeline.core.evaluation.reference import read_reference
from luna_pipeline.core.storage.files import AnyPath, write_bytes
from luna_pipeline.launchers.data_sources import tables_root
from luna_pipeline.launchers.diagnosis.input import read_input
from luna_pipeline.launchers.installation import read_table
from luna_pipeline.settings import Settings

Mark: TypeAlias = tuple[tuple[float, float, float], float]
"""Centre of a finding in LPS mm (x, y, z), and its score."""
Detector: TypeAlias = Callable[[Ct], Sequence[Mark]]
"""Returns the findings of a CT; raises a ValueError if the CT cannot be searched."""
OnScan: TypeAlias = Callable[[str, int, int], None]
"""Called after each scan with its uid, the number of scans so far and the total."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Detection:
    """Findings of one detector on the scans of a test fold.

    Attributes:
        marks: ``series_instance_uid``, ``x_mm``, ``y_mm``, ``z_mm``, ``probability``.
        searched: Scans that were searched, also those without a finding.
        not_searched: Why the other scans were not, by uid.
        seconds: Seconds of all searched scans, without reading.
    """

    marks: pd.DataFrame
    searched: tuple[str, ...]
    not_searched: dict[str, str]
    seconds: float


@dataclass(frozen=True, eq=False, kw_only=True)
class DetectionScores:
    """Official scores of detectors on a test fold.

    Attributes:
        results: Result by detector; empty without annotations.
        table: One row per detector, see ``detection_table``.
        notes: Limitations of the scores, one sentence each.
    """

    results: dict[str, DetectionResult]
    table: pd.DataFrame
    notes: tuple[str, ...]


def detect_fold(
    settings: Settings, detectors: Mapping[str, Detector], *, test_fold: int, on_scan: OnScan | None = None
) -> dict[str, Detection]:
    """Search every scan of a test fold with each detector; each scan is read once.

    A scan that cannot be read or searched is listed with its reason, and the others are searched.

    Args:
        settings: The installation.
        detectors: Detectors by name. They must not have seen the fold; see ``seen_data.leaks_of_checkpoint``.
        test_fold: The fold.
        on_scan: Called after each scan.

    Raises:
        FileNotFoundError: If there is no catalogue or no table of folds.
        ValueError: If the fold has no scan, or a detector could search none of them.
    """
    scans = scans_of_fold(settings, test_fold)
    rows: dict[str, list[tuple[str, float, float, float, float]]] = {name: [] for name in detectors}
    searched: dict[str, list[str]] = {name: [] for name in detectors}
    failed: dict[str, dict[str, str]] = {name: {} for name in detectors}
    seconds = dict.fromkeys(detectors, 0.0)
    for number, (uid, path) in enumerate(scans.items(), start=1):
        try:
            ct = _read(settings, uid, path)
        except (ValueError, OSError) as error:
            for reasons in failed.values():
                reasons[uid] = str(error)
        else:
            for name, detector in detectors.items():
                started = time.perf_counter()
                try:
                    marks = detector(ct)
                except ValueError as error:
                    failed[name][uid] = str(error)
                    continue
                seconds[name] += time.perf_counter() - started
                rows[name] += [(uid, *center_xyz, probability) for center_xyz, probability in marks]
                searched[name].append(uid)
        if on_scan is not None:
            on_scan(uid, number, len(scans))
    return {
        name: Detection(
            marks=_marks_table(rows[name]),
            searched=_one_or_more(name, searched[name], failed[name]),
            not_searched=failed[name],
            seconds=seconds[name],
        )
        for name in detectors
    }


def score_detections(
    settings: Settings, detections: Mapping[str, Detection], *, test_fold: int, num_bootstraps: int, seed: int
) -> DetectionScores:
    """Evaluate detections of a test fold by LUNA16's rules.

    Args:
        settings: Paths of LUNA16's tables.
        detections: Findings by detector, see ``detect_fold``.
        test_fold: The fold.
        num_bootstraps: Number of draws of scans; 0 for none.
        seed: Seed of the draws, the same for all detectors.

    Raises:
        ValueError: If no listed scan was searched.
    """
    folds = read_table(settings, "folds")
    title = folds_in_words([test_fold], int(folds["fold"].nunique()))
    notes = [_not_searched_note(name, found) for name, found in detections.items() if found.not_searched]
    reference = read_reference(tables_root(settings), folds, of_folds=[test_fold])
    if reference is None or not reference.scans:
        lacking = "no annotations.csv" if reference is None else "no scan of this fold in seriesuids.csv"
        none = f"There is {lacking}: without nodules to be found there is no FROC."
        return DetectionScores(results={}, table=detection_table({}, folds=title), notes=(*notes, none))
    listed = set(reference.scans)
    results = {
        name: evaluate_detector(
            found.marks,
            reference,
            [uid for uid in found.searched if uid in listed],
            num_bootstraps=num_bootstraps,
            seed=seed,
        )
        for name, found in detections.items()
    }
    table = detection_table(results, folds=title)
    return DetectionScores(results=results, table=table, notes=(*notes, *reference.notes))


def write_detection(settings: Settings, name: str, found: Detection, *, test_fold: int) -> tuple[AnyPath, AnyPath]:
    """Write a detector's findings as a submission, and the list of the scans that it searched.

    Returns:
        ``submissions/<name>/<fold>.csv`` and ``submissions/<name>/<fold>_searched.csv``, for ``luna evaluate_froc
        --predictions FILE --searched FILE``.
    """
    folder = settings.home / "submissions" / name
    submission, searched = folder / f"{test_fold}.csv", folder / f"{test_fold}_searched.csv"
    lines = [SUBMISSION_COLUMNS["series_instance_uid"], *found.searched]
    write_bytes(searched, "".join(f"{line}\n" for line in lines).encode())
    write_submission(submission, found.marks)
    return submission, searched


def score_line(table: pd.DataFrame, *, is_synthetic: bool) -> str:
    """Return the score of the first detector of a table, see ``detection_table``, as one line."""
    data = "synthetic phantom" if is_synthetic else "CT"
    if table.empty or math.isnan(table["cpm"].iloc[0]):
        return f"No score of the detector is defined ({data}; research use only)"
    row: Any = next(table.itertuples())
    interval = "" if math.isnan(row.cpm_lower) else f" [{row.cpm_lower:.3f}, {row.cpm_upper:.3f}]"
    return (
        f"CPM {row.cpm:.3f}{interval} of {row.model}, {row.folds}: {row.lesion_recall:.1%} of {row.num_nodules} "
        f"nodules at {row.fps_per_scan:.2f} false positives a scan, {row.num_searched} of {row.num_scans} scans "
        f"searched ({data}; research use only)"
    )


def _read(settings: Settings, uid: str, path: str | None) -> Ct:
    """Read a CT by the rules of a diagnosis."""
    if path is None:
        msg = f"A scan must have a readable CT in the catalogue, got none (series {uid}). Run the job `ingest`."
        raise UnreadableCtError(msg)
    return read_input(settings.data_dir / path, series=uid).ct


def scans_of_fold(settings: Settings, test_fold: int) -> dict[str, str | None]:
    """Return the paths of a fold's CTs below the data root, by uid, in the order of the table of folds; None: no CT."""
    folds, catalogue = read_table(settings, "folds"), read_table(settings, "ct_series")
    uids = folds.loc[folds["fold"] == test_fold, "series_instance_uid"]
    if uids.empty:
        known = sorted(int(fold) for fold in folds["fold"].unique())
        msg = f"A held-out fold must exist, got {test_fold} of folds {known}. Choose one of them."
        raise ValueError(msg)
    readable = catalogue[catalogue["is_readable"].astype(bool)]
    path_of = dict(zip(readable["series_instance_uid"], readable["path"], strict=True))
    return {str(uid): path_of.get(uid) for uid in uids}


def _marks_table(rows: Sequence[tuple[str, float, float, float, float]]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=list(SUBMISSION_COLUMNS))
    uid, *numbers = SUBMISSION_COLUMNS
    return table.astype({uid: "object", **dict.fromkeys(numbers, "float64")})


def _one_or_more(name: str, searched: Sequence[str], failed: Mapping[str, str]) -> tuple[str, ...]:
    if not searched:
        uid, reason = next(iter(failed.items()))
        msg = f"A detector must search at least one scan, got none of {len(failed)} ({name})."
        raise ValueError(f"{msg} Fix the reason and materialize the asset again. The first, {uid}: {reason}")
    return tuple(searched)


def _not_searched_note(name: str, found: Detection) -> str:
    uid, reason = next(iter(found.not_searched.items()))
    total = len(found.searched) + len(found.not_searched)
    return f"{name} did not search {len(found.not_searched)} of {total} scans (the first, {uid}: {reason})."
