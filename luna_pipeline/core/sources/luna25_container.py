"""Files of an algorithm in LUNA25's form: nodule locations and clinical information in, likelihoods out.

Source:
    DIAGNijmegen/luna25-baseline-public: ``test/input`` and ``inference.py``.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.config.json_files import read_json_object

LOCATIONS = "nodule-locations.json"
CLINICAL_INFORMATION = "clinical-information-lung-ct.json"
CT_FOLDER = "images/chest-ct"
LIKELIHOODS = "lung-nodule-malginancy-likelihoods.json"
"""The challenge's spelling."""
MULTIPLE_POINTS = "Multiple points"
_MAX_MM = 10_000.0
_ADVICE = f"Write it as LUNA25's {LOCATIONS}."


@dataclass(frozen=True, eq=False)
class NoduleLocations:
    """The nodules of a case.

    Attributes:
        names: AnnotationIDs; they begin with patients' numbers and must not be shown.
        points_xyz: World positions in LPS mm (N, 3).
    """

    names: tuple[str, ...]
    points_xyz: NDArray[np.float64]


def find_case_ct(folder: Path) -> Path:
    """Return the CT of a case: the only ``.mha`` file in ``images/chest-ct``.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If there are several.
    """
    found = sorted(path for path in (folder / CT_FOLDER).glob("*.mha") if not path.name.startswith("."))
    if not found:
        raise FileNotFoundError(
            f"A case must have its CT in {CT_FOLDER}, got no .mha file (in {folder}). Copy it there."
        )
    if len(found) > 1:
        rule = f"A case must have one CT in {CT_FOLDER}, got {len(found)} .mha files (in {folder})."
        raise ValueError(f"{rule} Keep the one whose nodules {LOCATIONS} holds.")
    return found[0]


def read_nodule_locations(folder: Path) -> NoduleLocations:
    """Read the nodules of a case.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no JSON file of multiple points, or a point is not three finite lengths in mm.
    """
    path = folder / LOCATIONS
    if not path.exists():
        raise FileNotFoundError(f"A case must have {LOCATIONS}, got none (in {folder}). Copy it there.")
    values = read_json_object(path, "Nodule locations", advice=_ADVICE)
    points = values.get("points")
    if values.get("type") != MULTIPLE_POINTS or not isinstance(points, list):
        got = f"the type {values.get('type')!r:.40}"
        raise ValueError(
            f"Nodule locations must be of the type {MULTIPLE_POINTS!r}, got {got} ({path.name}). {_ADVICE}"
        )
    parsed = [_point_of(point, number, path.name) for number, point in enumerate(points, start=1)]
    places = np.array([place for _, place in parsed], dtype=np.float64).reshape(-1, 3)
    return NoduleLocations(tuple(name for name, _ in parsed), places)


def check_clinical_information(folder: Path) -> bool:
    """Check the clinical information, which no model here uses; return whether it is there.

    Raises:
        ValueError: If it is no JSON object.
    """
    path = folder / CLINICAL_INFORMATION
    if not path.exists():
        return False
    read_json_object(path, "Clinical information", advice=f"Write it as LUNA25's {CLINICAL_INFORMATION}.")
    return True


def likelihoods_json(locations: NoduleLocations, probabilities: Sequence[float] | NDArray[np.float64]) -> bytes:
    """Return the content of ``LIKELIHOODS``: the points as given, each with its probability of malignancy."""
    points: list[dict[str, Any]] = [
        {"name": name, "point": point, "probability": float(probability)}
        for name, point, probability in zip(locations.names, locations.points_xyz.tolist(), probabilities, strict=True)
    ]
    values = {
        "name": "Points of interest",
        "type": MULTIPLE_POINTS,
        "points": points,
        "version": {"major": 1, "minor": 0},
    }
    return (json.dumps(values, indent=4) + "\n").encode()


def _point_of(point: Any, number: int, file: str) -> tuple[str, list[float]]:
    name, place = (point.get("name"), point.get("point")) if isinstance(point, dict) else (None, None)
    if not isinstance(name, str) or not name:
        raise ValueError(f"Each point must have a name, got none ({file}, point {number}). {_ADVICE}")
    is_place = isinstance(place, list) and len(place) == 3 and all(_is_length(value) for value in place)
    if not is_place or not isinstance(place, list):
        rule = "Each point must be three lengths x, y, z in mm"
        raise ValueError(f"{rule}, got {place!r:.60} ({file}, point {number}). {_ADVICE}")
    return name, [float(value) for value in place]


def _is_length(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _MAX_MM
