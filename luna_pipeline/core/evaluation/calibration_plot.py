"""Reliability diagrams of models before and after calibration, as a PNG picture."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from luna_pipeline.core.evaluation.calibration import NUM_BINS, calibration_errors, reliability_table
from luna_pipeline.core.evaluation.picture import (
    DOTS_PER_INCH,
    GREY,
    MARKERS,
    SMALL,
    format_value,
    line_style,
    png_of,
    style_axes,
)
from luna_pipeline.core.evaluation.report import check_predictions

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_COLUMNS = 5
STAGES = {"probability": "scores as they are", "calibrated": "calibrated"}


def reliability_png(predictions: pd.DataFrame, *, is_synthetic: bool = False, footnote: str = "") -> bytes:
    """Draw for each model the share of nodules against the mean score of ten bins, and a histogram of the scores.

    Args:
        predictions: One row per candidate and model. Calibrated probabilities are drawn for models that have them in
            all rows.
        is_synthetic: Whether to label the data as synthetic.
        footnote: A limitation of the models, in a few words.

    Returns:
        A PNG file.

    Raises:
        ValueError: If the predictions are invalid, see ``check_predictions``.
    """
    check_predictions(predictions)
    models = list(predictions.groupby("model", sort=False, observed=True))
    num_columns = min(len(models), MAX_COLUMNS) or 1
    num_rows = math.ceil(len(models) / num_columns) or 1
    figure = Figure(figsize=(2.4 * num_columns + 0.3, 4.2 * num_rows), dpi=DOTS_PER_INCH, layout="constrained")
    # Each row of models has a row of diagrams and a row of histograms.
    axes = figure.subplots(2 * num_rows, num_columns, squeeze=False, height_ratios=[3, 1] * num_rows)
    for place in range(num_rows * num_columns):
        row, column = divmod(place, num_columns)
        pair = axes[2 * row][column], axes[2 * row + 1][column]
        if place < len(models):
            _draw_model(*pair, *models[place])
        for part, name in zip(pair, ("Share of nodules", "Candidates"), strict=True):
            part.set_visible(place < len(models))
            part.set_ylabel(name if column == 0 else "")
    return png_of(figure, is_synthetic=is_synthetic, footnote=footnote)


def _draw_model(diagram: "Axes", histogram: "Axes", model: object, rows: pd.DataFrame) -> None:
    labels = rows["class"].to_numpy(dtype=np.int64)
    diagram.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, label="perfect calibration")
    for place, (column, stage) in enumerate(STAGES.items()):
        scores = rows[column].to_numpy(dtype=np.float64)
        if np.isnan(scores).any():
            diagram.plot([], [], linestyle="", label="uncalibrated")
            continue
        style = {**line_style(place), "linewidth": 1.8}
        label = f"{stage}: ECE {format_value(calibration_errors(labels, scores)['ece'])}"
        table = reliability_table(labels, scores)
        points: dict[str, Any] = {"marker": MARKERS[place], "markersize": 5, "clip_on": False}
        diagram.plot(table["mean_score"], table["share_of_positives"], label=label, **points, **style)
        counts, edges = np.histogram(scores, bins=NUM_BINS, range=(0.0, 1.0))
        # No baseline: its vertical ends would look like bins.
        histogram.stairs(counts, edges, baseline=None, **style)
    _finish(diagram, histogram, title=str(model))


def _finish(diagram: "Axes", histogram: "Axes", *, title: str) -> None:
    style_axes(diagram, title)
    style_axes(histogram)
    diagram.set_ylim(0.0, 1.02)
    # Most candidates have low scores: on a linear scale the other bins would be invisible.
    histogram.set_yscale("log")
    histogram.set_ylim(bottom=0.7)
    histogram.set_xlabel("Score")
    for axes in (diagram, histogram):
        axes.set_xlim(0.0, 1.0)
        axes.set_xticks([0.0, 0.5, 1.0])
    diagram.tick_params(labelbottom=False)
    # Below both, where it hides no curve.
    place: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.45, -0.6)}
    histogram.legend(*diagram.get_legend_handles_labels(), fontsize=SMALL, frameon=False, **place)
