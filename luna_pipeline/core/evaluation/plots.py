"""ROC, precision-recall and training curves as PNG pictures."""

import math
from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import precision_recall_curve, roc_curve

from luna_pipeline.core.evaluation.picture import (
    DOTS_PER_INCH,
    GREY,
    SMALL,
    format_value,
    legend_below,
    line_style,
    png_of,
    style_axes,
)
from luna_pipeline.core.evaluation.report import check_predictions
from luna_pipeline.core.metrics.binary import binary_metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_Points = tuple[ArrayLike, ArrayLike]
_SCORES = {"auc": "AUC", "dice": "Dice"}


def roc_and_pr_png(
    predictions: pd.DataFrame,
    *,
    report: pd.DataFrame | None = None,
    is_synthetic: bool = False,
    footnote: str = "",
) -> bytes:
    """Draw the ROC and the precision-recall curve of each model.

    Args:
        predictions: One row per candidate and model.
        report: ``binary_report`` of the predictions, for the intervals in the legend; None for no intervals.
        is_synthetic: Whether to label the data as synthetic.
        footnote: A limitation of the models, in a few words.

    Returns:
        A PNG file.

    Raises:
        ValueError: If the predictions are invalid, see ``check_predictions``.
    """
    check_predictions(predictions)
    intervals = {} if report is None else report.set_index("model").to_dict("index")
    figure = Figure(figsize=(9.0, 5.4), dpi=DOTS_PER_INCH, layout="constrained")
    roc_axes, pr_axes = figure.subplots(1, 2)
    for place, (model, rows) in enumerate(predictions.groupby("model", sort=False)):
        labels = rows["class"].to_numpy(dtype=np.int64)
        scores = rows["probability"].to_numpy(dtype=np.float64)
        metrics = binary_metrics(labels, scores)
        bounds = intervals.get(model, {})
        auc, ap = (_with_bounds(metrics[name], name, bounds) for name in ("auc", "average_precision"))
        roc, precision_recall = _curves(labels, scores)
        style = {"linewidth": 1.8, "clip_on": False, **line_style(place)}
        roc_axes.plot(*roc, label=f"{model}: AUC {auc}", **style)
        # Steps: linear interpolation of this curve would be too optimistic.
        pr_axes.step(*precision_recall, where="post", label=f"{model}: AP {ap}", **style)
    roc_axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, label="chance")
    _finish(
        roc_axes, title="ROC", xlabel="False positive rate (1 - specificity)", ylabel="True positive rate (sensitivity)"
    )
    share = float(predictions.drop_duplicates("candidate_id")["class"].mean())
    pr_axes.axhline(share, color=GREY, linewidth=0.8, label=f"chance: {format_value(share)}")
    _finish(pr_axes, title="Precision and recall", xlabel="Recall (sensitivity)", ylabel="Precision")
    for axes in (roc_axes, pr_axes):
        axes.set_xlim(0.0, 1.0)
        legend_below(axes, 0.14)
    return png_of(figure, is_synthetic=is_synthetic, footnote=footnote)


def training_curves_png(history: pd.DataFrame, *, score: str = "auc", is_synthetic: bool = False) -> bytes:
    """Draw loss and score of a training against the epoch.

    Args:
        history: One row per epoch, with the column ``epoch`` and any of ``training/loss``, ``validation/loss``,
            ``training/<score>``, ``validation/<score>``; nan for epochs without validation.
        score: ``auc``, or ``dice`` of a segmentation.
        is_synthetic: Whether to label the data as synthetic.

    Returns:
        A PNG file.
    """
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(9.0, 4.0), dpi=DOTS_PER_INCH, layout="constrained")
    for axes, name, title in zip(figure.subplots(1, 2), ("loss", score), ("Loss", _SCORES[score]), strict=True):
        for place, mode in enumerate(("training", "validation")):
            column = f"{mode}/{name}"
            if column in history and history[column].notna().any():
                known = history[history[column].notna()]
                style = {"marker": "os"[place], "markersize": 4, **line_style(place)}
                axes.plot(known["epoch"], known[column], label=mode, **style)
        _finish(axes, title=title, xlabel="Epoch", ylabel=title)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if axes.lines:
            axes.legend(fontsize=SMALL, frameon=False)
    return png_of(figure, is_synthetic=is_synthetic)


def _curves(labels: NDArray[np.int64], scores: NDArray[np.float64]) -> tuple[_Points, _Points]:
    """Return the points of ROC and precision-recall curve (x and y); none where a class is missing."""
    if len(np.unique(labels)) < 2:
        return ([], []), ([], [])
    false_positive_rate, true_positive_rate, _ = roc_curve(labels, scores)
    precision, recall, _ = precision_recall_curve(labels, scores, drop_intermediate=True)
    # Precision is undefined at recall 0: repeat that of the highest threshold.
    precision[-1] = precision[-2]
    return (false_positive_rate, true_positive_rate), (recall, precision)


def _finish(axes: "Axes", *, title: str, xlabel: str, ylabel: str) -> None:
    style_axes(axes, title)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    if title != "Loss":
        axes.set_ylim(0.0, 1.02)


def _with_bounds(value: float, name: str, bounds: Mapping[Hashable, float]) -> str:
    """Return a value with its interval in a row of the report."""
    return format_value(value, bounds.get(f"{name}_lower", math.nan), bounds.get(f"{name}_upper", math.nan))
