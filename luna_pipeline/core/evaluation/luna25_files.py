"""Predictions for LUNA25 beside its labels: a CSV table, or the outputs of a container."""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from luna_pipeline.core.config.json_files import read_json_object
from luna_pipeline.core.sources.cell_rules import Column
from luna_pipeline.core.sources.checked_tables import read_checked
from luna_pipeline.core.sources.luna25_container import LIKELIHOODS
from luna_pipeline.core.sources.luna25_table import read_annotations

_COLUMNS = (
    Column(name="AnnotationID", spellings=("AnnotationID", "name"), is_secret=True),
    Column(name="probability", spellings=("probability", "risk_prediction", "prediction"), kind="number"),
)
_ADVICE = "Write it as LUNA25's container does."


@dataclass(frozen=True, eq=False)
class Luna25Rows:
    """Scored annotations in the order of the predictions.

    Attributes:
        labels: 1 for malignant (N,).
        scores: Scores of malignancy (N,).
        patients: Patient of each row (N,); never shown.
        num_not_scored: Annotations of the labels' table without a prediction.
    """

    labels: NDArray[np.int64]
    scores: NDArray[np.float64]
    patients: NDArray[np.object_]
    num_not_scored: int


def read_luna25_rows(truth: Path, predictions: Path) -> Luna25Rows:
    """Join predictions and labels by AnnotationID.

    Args:
        truth: LUNA25's table of annotations.
        predictions: A CSV table of ``AnnotationID`` and ``probability``; a container's output as JSON; or a folder
            with such outputs at any depth, which are read in the order of their paths.

    Raises:
        FileNotFoundError: If a file is not there, or the folder holds no outputs.
        ValueError: If a file is malformed, or an annotation is predicted twice or has no label.
    """
    for path in (truth, predictions):
        if not path.exists():
            raise FileNotFoundError(f"The file must be there, got none of this name ({path}). Check the path.")
    labels, scores = read_annotations(truth).set_index("annotation"), _read_scores(predictions)
    is_twice, is_unknown = scores["annotation"].duplicated(), ~scores["annotation"].isin(labels.index)
    if is_twice.any():
        got = f"{int(is_twice.sum())} others ({scores.loc[is_twice, 'place'].iloc[0]} is the first)"
        raise ValueError(f"An annotation must have one prediction, got {got}. Remove the others.")
    if is_unknown.any():
        got = f"{int(is_unknown.sum())} without ({scores.loc[is_unknown, 'place'].iloc[0]} is the first)"
        msg = f"A prediction must be of an annotation with a label, got {got}."
        raise ValueError(f"{msg} Give the table of these annotations.")
    known = labels.loc[scores["annotation"]]
    return Luna25Rows(
        labels=known["is_malignant"].to_numpy(dtype=np.int64),
        scores=scores["score"].to_numpy(dtype=np.float64),
        patients=known["patient"].to_numpy(dtype=object),
        num_not_scored=len(labels) - len(scores),
    )


def _read_scores(path: Path) -> pd.DataFrame:
    """Return ``annotation``, ``score`` and ``place``, where each was found."""
    if path.is_dir():
        files = sorted(path.rglob(LIKELIHOODS))
        if not files:
            rule = f"A folder of predictions must hold files named {LIKELIHOODS}, got none ({path})."
            raise FileNotFoundError(f"{rule} Name the folder of the outputs.")
        outputs = [_read_output(file, f"output {k} of {len(files)}") for k, file in enumerate(files, start=1)]
        return pd.concat(outputs, ignore_index=True)
    if path.suffix == ".json":
        return _read_output(path, "output 1 of 1")
    table = read_checked(path, _COLUMNS)
    places = [f"{path.name} line {line}" for line in table["line"]]
    scores = table["probability"].astype(np.float64)
    return pd.DataFrame({"annotation": table["AnnotationID"], "score": scores, "place": places})


def _read_output(path: Path, shown: str) -> pd.DataFrame:
    """Return the points of an output; folders may be named by AnnotationID, so its number is shown (by path)."""
    values = read_json_object(path, "An output", where=shown, advice=_ADVICE)
    points = values.get("points")
    rows = []
    for number, point in enumerate(points if isinstance(points, list) else [None], start=1):
        name, score = (point.get("name"), point.get("probability")) if isinstance(point, dict) else (None, None)
        is_right = isinstance(name, str) and not isinstance(score, bool)
        # An integer in JSON may be too large for a float.
        if not is_right or not isinstance(score, int | float) or not abs(score) <= sys.float_info.max:
            rule = "Each point of an output must have a name and a finite probability, got one that has not"
            raise ValueError(f"{rule} ({shown}, point {number}). {_ADVICE}")
        rows.append((name, float(score), f"{shown}, point {number}"))
    return pd.DataFrame(rows, columns=["annotation", "score", "place"])
