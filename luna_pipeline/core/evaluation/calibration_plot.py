"""Reliability diagrams as a PNG picture: do the models' probabilities hold, before and after calibration?"""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from luna_pipeline.core.evaluation.calibration import NUM_BINS, calibration_errors, reliability_table
from luna_pipeline.core.evaluation.picture import DOTS_PER_INCH, GREY, MARKERS, SMALL, figure_of, look_of, png_of
from luna_pipeline.core.evaluation.report import check_predictions

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_COLUMNS = 5
STAGES = {"probability": "scores as they are", "calibrated": "calibrated"}


def reliability_png(predictions: pd.DataFrame, *, is_synthetic: bool = False) -> bytes:
    """Draw for each model the share of nodules over the mean score of ten bins, and how many scores each bin holds.

    Args:
        predictions: One row a candidate and model, as for ``binary_report``. Calibrated probabilities are drawn of
            models that have them in all rows.
        is_synthetic: Whether the picture must say that the data are made up.

    Returns:
        A PNG file.

    Raises:
        ValueError: If the table is not one of predictions, see ``check_predictions``.
    """
    check_predictions(predictions)
    models = list(predictions.groupby("model", sort=False, observed=True))
    num_columns = min(len(models), MAX_COLUMNS) or 1
    num_rows = math.ceil(len(models) / num_columns) or 1
    figure = Figure(figsize=(2.4 * num_columns + 0.3, 4.2 * num_rows), dpi=DOTS_PER_INCH, layout="constrained")
    # A row of models is a row of diagrams and one of histograms.
    axes = figure.subplots(2 * num_rows, num_columns, squeeze=False, height_ratios=[3, 1] * num_rows)
    for place in range(num_rows * num_columns):
        row, column = divmod(place, num_columns)
        pair = axes[2 * row][column], axes[2 * row + 1][column]
        if place < len(models):
            _draw_model(*pair, *models[place])
        for part, name in zip(pair, ("Share of nodules", "Candidates"), strict=True):
            part.set_visible(place < len(models))
            part.set_ylabel(name if column == 0 else "")
    return png_of(figure, is_synthetic=is_synthetic)


def _draw_model(diagram: "Axes", histogram: "Axes", model: object, rows: pd.DataFrame) -> None:
    labels = rows["class"].to_numpy(dtype=np.int64)
    diagram.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, label="probabilities that hold")
    for place, (column, stage) in enumerate(STAGES.items()):
        scores = rows[column].to_numpy(dtype=np.float64)
        if np.isnan(scores).any():
            diagram.plot([], [], linestyle="", label="uncalibrated")
            continue
        look = {**look_of(place), "linewidth": 1.8}
        error = figure_of(calibration_errors(labels, scores)["ece"])
        _draw_reliability(diagram, labels, scores, label=f"{stage}: ECE {error}", look=look, marker=MARKERS[place])
        counts, edges = np.histogram(scores, bins=NUM_BINS, range=(0.0, 1.0))
        # Open at its ends: a line down to nothing would look like a bin.
        histogram.stairs(counts, edges, baseline=None, **look)
    _finish(diagram, histogram, title=str(model))


def _draw_reliability(
    axes: "Axes",
    labels: NDArray[np.int64],
    scores: NDArray[np.float64],
    *,
    label: str,
    look: dict[str, Any],
    marker: str,
) -> None:
    table = reliability_table(labels, scores)
    axes.plot(
        table["mean_score"],
        table["share_of_positives"],
        label=label,
        marker=marker,
        markersize=5,
        clip_on=False,
        **look,
    )


def _finish(diagram: "Axes", histogram: "Axes", *, title: str) -> None:
    diagram.set_title(title, fontsize=11)
    diagram.set_ylim(0.0, 1.02)
    # Few candidates are nodules: on an even scale one bin would be all there is to see.
    histogram.set_yscale("log")
    histogram.set_ylim(bottom=0.7)
    histogram.set_xlabel("Score")
    for axes in (diagram, histogram):
        axes.set_xlim(0.0, 1.0)
        axes.set_xticks([0.0, 0.5, 1.0])
        axes.grid(color="#DDDDDD", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    diagram.tick_params(labelbottom=False)
    # Below both: in the diagram there is no corner that no curve may cross.
    histogram.legend(
        *diagram.get_legend_handles_labels(),
        fontsize=SMALL,
        frameon=False,
        loc="upper center",
        bbox_to_anchor=(0.45, -0.6),
    )
