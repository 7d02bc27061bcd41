"""Curves as PNG pictures: of models against each other, and of one training."""

import math
from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve, roc_curve

from luna_pipeline.core.evaluation.picture import DOTS_PER_INCH, GREY, SMALL, figure_of, look_of, png_of
from luna_pipeline.core.evaluation.report import check_predictions
from luna_pipeline.core.metrics.binary import binary_metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def roc_and_pr_png(
    predictions: pd.DataFrame, *, report: pd.DataFrame | None = None, is_synthetic: bool = False
) -> bytes:
    """Draw the ROC and the precision-recall curve of each model.

    Args:
        predictions: One row a candidate and model, as for ``binary_report``.
        report: Their ``binary_report``, for the intervals in the legend; None leaves them out.
        is_synthetic: Whether the pictures must say that the data are made up.

    Returns:
        A PNG file.

    Raises:
        ValueError: If the table is not one of predictions, see ``check_predictions``.
    """
    check_predictions(predictions)
    intervals = {} if report is None else report.set_index("model").to_dict("index")
    figure = Figure(figsize=(9.0, 5.4), dpi=DOTS_PER_INCH, layout="constrained")
    roc_axes, pr_axes = figure.subplots(1, 2)
    for place, (model, rows) in enumerate(predictions.groupby("model", sort=False)):
        labels = rows["class"].to_numpy(dtype=np.int64)
        scores = rows["probability"].to_numpy(dtype=np.float64)
        metrics = binary_metrics(labels, scores)
        look, bounds = look_of(place), intervals.get(model, {})
        auc, ap = (_with_bounds(metrics[name], name, bounds) for name in ("auc", "average_precision"))
        _draw_roc(roc_axes, labels, scores, label=f"{model}: AUC {auc}", look=look)
        _draw_pr(pr_axes, labels, scores, label=f"{model}: AP {ap}", look=look)
    _finish_roc(roc_axes)
    _finish_pr(pr_axes, share_of_nodules=_share_of_nodules(predictions))
    return png_of(figure, is_synthetic=is_synthetic)


def training_curves_png(history: pd.DataFrame, *, is_synthetic: bool = False) -> bytes:
    """Draw loss and AUC of a training, epoch by epoch.

    Args:
        history: One row an epoch, with the column ``epoch`` and any of ``training/loss``, ``training/auc``,
            ``validation/loss``, ``validation/auc``; nan where an epoch was not validated.
        is_synthetic: Whether the pictures must say that the data are made up.

    Returns:
        A PNG file.
    """
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(9.0, 4.0), dpi=DOTS_PER_INCH, layout="constrained")
    for axes, name, title in zip(figure.subplots(1, 2), ("loss", "auc"), ("Loss", "AUC"), strict=True):
        for place, mode in enumerate(("training", "validation")):
            column = f"{mode}/{name}"
            if column in history and history[column].notna().any():
                known = history[history[column].notna()]
                axes.plot(known["epoch"], known[column], label=mode, marker="os"[place], markersize=4, **look_of(place))
        _finish(axes, title=title, xlabel="Epoch", ylabel=title)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if axes.lines:
            axes.legend(fontsize=SMALL, frameon=False)
    return png_of(figure, is_synthetic=is_synthetic)


def _draw_roc(
    axes: "Axes", labels: NDArray[np.int64], scores: NDArray[np.float64], *, label: str, look: dict[str, Any]
) -> None:
    if len(np.unique(labels)) < 2:
        axes.plot([], [], label=label, **look)
        return
    false_positive_rate, true_positive_rate, _ = roc_curve(labels, scores)
    axes.plot(false_positive_rate, true_positive_rate, label=label, linewidth=1.8, clip_on=False, **look)


def _draw_pr(
    axes: "Axes", labels: NDArray[np.int64], scores: NDArray[np.float64], *, label: str, look: dict[str, Any]
) -> None:
    if len(np.unique(labels)) < 2:
        axes.plot([], [], label=label, **look)
        return
    precision, recall, _ = precision_recall_curve(labels, scores, drop_intermediate=True)
    # At recall 0 nothing is found and precision means nothing: go on with the highest threshold's.
    precision[-1] = precision[-2]
    # Steps, because a line between two points of this curve promises precision that no threshold gives.
    axes.step(recall, precision, where="post", label=label, linewidth=1.8, clip_on=False, **look)


def _finish_roc(axes: "Axes") -> None:
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, label="chance")
    _finish(
        axes, title="ROC", xlabel="False positive rate (1 - specificity)", ylabel="True positive rate (sensitivity)"
    )
    _legend_below(axes)


def _finish_pr(axes: "Axes", *, share_of_nodules: float) -> None:
    axes.axhline(share_of_nodules, color=GREY, linewidth=0.8, label=f"chance: {figure_of(share_of_nodules)}")
    _finish(axes, title="Precision and recall", xlabel="Recall (sensitivity)", ylabel="Precision")
    _legend_below(axes)


def _legend_below(axes: "Axes") -> None:
    # Inside there is no corner that no curve may cross.
    axes.legend(fontsize=SMALL, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.14))


def _finish(axes: "Axes", *, title: str, xlabel: str, ylabel: str) -> None:
    axes.set_title(title, fontsize=11)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.grid(color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if title not in {"Loss", "AUC"}:
        axes.set_xlim(0.0, 1.0)
    if title != "Loss":
        axes.set_ylim(0.0, 1.02)


def _share_of_nodules(predictions: pd.DataFrame) -> float:
    return float(predictions.drop_duplicates("candidate_id")["class"].mean())


def _with_bounds(value: float, name: str, bounds: Mapping[Hashable, float]) -> str:
    """Return a number with the interval that a row of the report has for it."""
    lower, upper = bounds.get(f"{name}_lower", math.nan), bounds.get(f"{name}_upper", math.nan)
    text = figure_of(value)
    return text if math.isnan(lower) else f"{text} [{figure_of(lower)}, {figure_of(upper)}]"
