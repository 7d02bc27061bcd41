"""LUNA25's two procedures: the score of predictions, and an algorithm in the form of its container."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.sources.luna25_container import (
    LIKELIHOODS,
    check_clinical_information,
    find_case_ct,
    likelihoods_json,
    read_nodule_locations,
)
from luna_pipeline.core.storage.files import write_bytes
from luna_pipeline.settings import Settings

if TYPE_CHECKING:
    from luna_pipeline.core.ct.orientation import AxialView
    from luna_pipeline.core.ct.reading import Ct
    from luna_pipeline.core.diagnosis.diagnose import DiagnosisModel

MAX_SECONDS = 300
"""Limit of the challenge for a case."""


@dataclass(frozen=True, kw_only=True)
class Luna25Prediction:
    """What was made of a case.

    Attributes:
        path: The output.
        num_nodules: Number of nodules.
        model: Name and version of the classifier.
        notes: What a reader must know, a sentence each.
        seconds: From the start of reading to the output.
    """

    path: Path
    num_nodules: int
    model: str
    notes: tuple[str, ...]
    seconds: float


def evaluate_luna25(truth: Path, predictions: Path, *, out: Path | None = None) -> list[str]:
    """Score predictions like LUNA25.

    Args:
        truth: LUNA25's table of annotations.
        predictions: CSV table, JSON file or folder, see ``read_luna25_rows``.
        out: File of the result as JSON; None for none.

    Returns:
        The result as lines.

    Raises:
        FileNotFoundError: If a file is not there.
        ValueError: If a file is malformed, or a class is missing.
    """
    from luna_pipeline.core.evaluation.luna25 import luna25_score
    from luna_pipeline.core.evaluation.luna25_files import read_luna25_rows

    rows = read_luna25_rows(truth, predictions)
    score = luna25_score(rows.labels, rows.scores, rows.patients)
    if out is not None:
        write_bytes(out, (json.dumps(score.to_dict(), indent=1) + "\n").encode())
    num_outside = int(((rows.scores < 0) | (rows.scores > 1)).sum())
    return [
        *([f"Warning: {num_outside} scores lie outside [0, 1], taken as they are."] if num_outside else []),
        *([f"{rows.num_not_scored} annotations without a prediction are left out."] if rows.num_not_scored else []),
        f"{score.num_rows} annotations of {score.num_patients} patients, {score.num_malignant} malignant.",
        f"AUC {score.auc:.6f}  {_bounds(score.auc_bounds)} officially (1,000 draws of annotations, "
        f"{score.num_skipped_draws} of one class skipped)",
        f"              {_bounds(score.auc_patient_bounds)} over draws of patients",
        f"Sensitivity at 95 % specificity {score.sensitivity:.6f}  {_bounds(score.sensitivity_patient_bounds)} over "
        "draws of patients",
        f"Specificity at 95 % sensitivity {score.specificity:.6f}  {_bounds(score.specificity_patient_bounds)} over "
        "draws of patients",
    ]


def predict_luna25(
    settings: Settings,
    folder: Path,
    out: Path,
    *,
    model: str | None = None,
    device: str = "cpu",
    assume_hu: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> Luna25Prediction:
    """Score the nodules of a case in LUNA25's form, and write its output.

    The cutouts and mirrored copies are those of ``luna diagnose``. Nothing is fetched from a network unless the model
    is a registered one.

    Args:
        settings: Paths of checkpoints and MLflow.
        folder: Folder with ``nodule-locations.json``, ``clinical-information-lung-ct.json`` and the CT in
            ``images/chest-ct``.
        out: Folder of the output, created if it is missing.
        model: Address of the malignancy classifier, see ``find_models``; None for the installation's.
        device: ``cpu`` or ``cuda``.
        assume_hu: Whether CTs without air near -1000 or tissue near 0 are accepted.
        on_progress: Called with the numbers of scored and of all nodules.

    Raises:
        FileNotFoundError: If a file or the model is not there.
        UnreadableCtError: If the CT cannot be used.
        ValueError: If a file is malformed, a nodule lies outside the CT, or the model is of another kind.
    """
    started = time.perf_counter()
    locations, path = read_nodule_locations(folder), find_case_ct(folder)
    has_information = check_clinical_information(folder)
    # After the checks: torch takes seconds to import.
    from luna_pipeline.launchers.diagnosis.input import read_input
    from luna_pipeline.launchers.diagnosis.models import find_model

    given = read_input(path, assume_hu=assume_hu)
    found = find_model(settings, "malignancy", model, series=given.series_instance_uid)
    probabilities = _probabilities(found, given.ct, locations.points_xyz, device=device, on_progress=on_progress)
    write_bytes(out / LIKELIHOODS, likelihoods_json(locations, probabilities))
    seconds = time.perf_counter() - started
    notes = [
        *([] if has_information else ["There is no clinical information; it would not have been used."]),
        *(["The model was trained or validated on this series."] if found.version.has_seen_series else []),
        *(["Synthetic data: a phantom."] if given.is_synthetic else []),
        *([f"A case may take {MAX_SECONDS} s in the challenge."] if seconds > MAX_SECONDS else []),
    ]
    return Luna25Prediction(
        path=out / LIKELIHOODS,
        num_nodules=len(probabilities),
        model=f"{found.version.name} {found.version.version}",
        notes=tuple(notes),
        seconds=seconds,
    )


def _probabilities(
    model: "DiagnosisModel",
    ct: "Ct",
    points_xyz: NDArray[np.float64],
    *,
    device: str,
    on_progress: Callable[[int, int], None] | None,
) -> NDArray[np.float64]:
    """Return the probability of malignancy (N,) at each world position (N, 3), cut and scored as by a diagnosis."""
    from luna_pipeline.core.ct.orientation import AxialView
    from luna_pipeline.core.cutouts.cutting import CuttingParameters
    from luna_pipeline.core.diagnosis.classifying import classify
    from luna_pipeline.core.diagnosis.recipes import default

    view, recipe = AxialView(ct.grid), default()
    _check_inside(view, points_xyz)
    scores = classify(
        model.network,
        view.of(ct.hounsfield),
        view.grid,
        points_xyz,
        parameters=CuttingParameters(model.chunk_shape_irc),
        num_flips=recipe.num_flips,
        mirrored_from=recipe.mirrored_from,
        device=device,
        on_progress=on_progress,
    )
    return model.probabilities(scores) if len(scores) else scores


def _check_inside(view: "AxialView", points_xyz: NDArray[np.float64]) -> None:
    """Refuse nodules outside the CT."""
    grid = view.grid
    is_outside = ~grid.contains(np.floor(grid.world_to_voxel(points_xyz) + 0.5))
    if is_outside.any():
        number = int(is_outside.argmax())
        place = ", ".join(f"{value:g}" for value in points_xyz[number])
        rule = f"Each nodule must lie in its CT, got ({place}) mm outside it"
        raise ValueError(f"{rule} (point {number + 1}). Write world positions x, y, z in LPS mm.")


def _bounds(bounds: tuple[float, float]) -> str:
    return "[undefined]" if np.isnan(bounds).any() else f"[{bounds[0]:.6f}, {bounds[1]:.6f}]"
