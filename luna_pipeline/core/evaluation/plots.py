"""Curves as PNG pictures: of models against each other, and of one training.

Told apart by colour (Okabe and Ito's, safe for the colour-blind) and by line style, so that they also read in grey.
"""

import io
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve, roc_curve

from luna_pipeline.core.evaluation.report import check_predictions
from luna_pipeline.core.metrics import binary_metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINE_STYLES = ("-", "--", "-.", ":")
GREY = "#6E6E6E"
DOTS_PER_INCH = 110
SMALL = 8


def roc_and_pr_png(predictions: pd.DataFrame, *, is_synthetic: bool = False) -> bytes:
    """Draw the ROC and the precision-recall curve of each model.

    Args:
        predictions: One row a candidate and model, as for ``binary_report``.
        is_synthetic: Whether the pictures must say that the data are made up.

    Returns:
        A PNG file.

    Raises:
        ValueError: If the table is not one of predictions, see ``check_predictions``.
    """
    check_predictions(predictions)
    figure = Figure(figsize=(9.0, 5.4), dpi=DOTS_PER_INCH, layout="constrained")
    roc_axes, pr_axes = figure.subplots(1, 2)
    for place, (model, rows) in enumerate(predictions.groupby("model", sort=False)):
        labels = rows["class"].to_numpy(dtype=np.int64)
        scores = rows["probability"].to_numpy(dtype=np.float64)
        metrics = binary_metrics(labels, scores)
        look = {"color": COLOURS[place % len(COLOURS)], "linestyle": LINE_STYLES[place % len(LINE_STYLES)]}
        _draw_roc(roc_axes, labels, scores, label=f"{model}: AUC {_figure_of(metrics['auc'])}", look=look)
        _draw_pr(pr_axes, labels, scores, label=f"{model}: AP {_figure_of(metrics['average_precision'])}", look=look)
    _finish_roc(roc_axes)
    _finish_pr(pr_axes, share_of_nodules=_share_of_nodules(predictions))
    return _png(figure, is_synthetic=is_synthetic)


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
                axes.plot(
                    known["epoch"], known[column], label=mode, marker="os"[place], markersize=4,
                    color=COLOURS[place], linestyle=LINE_STYLES[place],
                )  # fmt: skip
        _finish(axes, title=title, xlabel="Epoch", ylabel=title)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if axes.lines:
            axes.legend(fontsize=SMALL, frameon=False)
    return _png(figure, is_synthetic=is_synthetic)


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
    _finish(axes, title="ROC", xlabel="False positive rate (1 - specificity)",
            ylabel="True positive rate (sensitivity)")  # fmt: skip
    _legend_below(axes)


def _finish_pr(axes: "Axes", *, share_of_nodules: float) -> None:
    axes.axhline(share_of_nodules, color=GREY, linewidth=0.8,
                 label=f"chance: {_figure_of(share_of_nodules)}")  # fmt: skip
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


def _figure_of(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:.3f}"


def _png(figure: Figure, *, is_synthetic: bool) -> bytes:
    note = "research use only, synthetic data" if is_synthetic else "research use only"
    figure.supxlabel(note, fontsize=SMALL, color=GREY, x=0.995, ha="right")
    buffer = io.BytesIO()
    # Without the software's name two runs give the same bytes whatever its version.
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
