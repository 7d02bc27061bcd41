"""The leaderboard as a PNG picture: the CPM of each model with its interval."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from luna_pipeline.core.evaluation.picture import COLOURS, DOTS_PER_INCH, format_value, png_of, style_axes


def leaderboard_png(board: pd.DataFrame, *, is_synthetic: bool = False, footnote: str = "") -> bytes:
    """Draw the CPM of each model with its 95 % interval, the best one at the top.

    Args:
        board: See ``core.evaluation.leaderboard``; best first.
        is_synthetic: Whether to label the data as synthetic.
        footnote: A limitation of the models, in a few words.

    Returns:
        A PNG file; models without a CPM are named and not drawn.
    """
    figure = Figure(figsize=(7.2, 1.4 + 0.36 * len(board)), dpi=DOTS_PER_INCH, layout="constrained")
    axes, places = figure.subplots(), np.arange(len(board))
    cpm, lower, upper = (board[name].to_numpy(dtype=np.float64) for name in ("cpm", "cpm_lower", "cpm_upper"))
    axes.hlines(places, lower, upper, color=COLOURS[0], linewidth=2.0)
    axes.plot(cpm, places, "o", color=COLOURS[0], markersize=6, clip_on=False)
    labels = [
        f"{model}\n{format_value(*values)}" for model, *values in zip(board["model"], cpm, lower, upper, strict=True)
    ]
    axes.set_yticks(places, labels, fontsize=8)
    axes.set_ylim(len(board) - 0.5, -0.5)
    axes.set_xlim(0.0, 1.0)
    axes.set_xlabel("CPM")
    style_axes(axes, f"Leaderboard, {board['folds'].iloc[0]}")
    return png_of(figure, is_synthetic=is_synthetic, footnote=footnote)
