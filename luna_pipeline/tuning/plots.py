"""Plots of a study: parallel coordinates of its trials, and the importance of the searched values."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from luna_pipeline.core.evaluation.picture import COLOURS, DOTS_PER_INCH, GREY, SMALL, png_of
from luna_pipeline.tuning.space import Choices, LogUniform
from luna_pipeline.tuning.study import StudyConfig

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH_OF_AXIS = 1.5
# With more values than MAX_TICKS an axis labels the values next to NUM_EVEN even heights.
MAX_TICKS, NUM_EVEN = 8, 5
SMALLEST_GAP = 0.035
MAX_LETTERS = 22


def parallel_coordinates_png(table: pd.DataFrame, study: StudyConfig, *, is_synthetic: bool = False) -> bytes:
    """Draw each trial as a line through its values and its score; better trials are darker.

    Args:
        table: See ``study_table``; trials without a score are left out.
        study: Configuration of the study.
        is_synthetic: Whether the plot is marked as made from synthetic data.

    Returns:
        A PNG file. The winner is thick, the unchanged recipe dashed.
    """
    known = table[table["score"].notna()].sort_values("score")
    places = [*study.space.domains, "score"]
    figure = Figure(figsize=(WIDTH_OF_AXIS * len(places) + 1.5, 4.6), dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.subplots()
    heights = np.column_stack([_heights(known[place], study, place) for place in places])
    for position, (_, row) in enumerate(known.iterrows()):
        axes.plot(range(len(places)), heights[position], **_look(row, position / max(1, len(known) - 1)))
    for position, place in enumerate(places):
        _draw_axis(axes, position, known[place], study, place)
    axes.set_xticks(range(len(places)), [_name(place, study) for place in places], fontsize=SMALL)
    axes.set_yticks([])
    axes.set_xlim(-0.3, len(places) - 0.4)
    axes.spines[:].set_visible(False)
    axes.set_title(_title(study, len(known), len(table) - len(known)), fontsize=11)
    if len(known):
        axes.legend(loc="lower left", bbox_to_anchor=(0.0, -0.25), ncols=2, fontsize=SMALL, frameon=False)
    return png_of(figure, is_synthetic=is_synthetic)


def importance_png(shares: dict[str, float], *, is_synthetic: bool = False) -> bytes:
    """Return a PNG with a bar chart of the importances, or with a note if there are too few trials.

    Args:
        shares: See ``importances``.
        is_synthetic: Whether the plot is marked as made from synthetic data.
    """
    figure = Figure(figsize=(7.0, 1.4 + 0.36 * max(1, len(shares))), dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.subplots()
    if shares:
        bars = axes.barh(list(shares)[::-1], list(shares.values())[::-1], color=COLOURS[0], height=0.6)
        axes.bar_label(bars, fmt="%.2f", padding=3, fontsize=SMALL)
    else:
        axes.text(0.5, 0.5, "too few trials to tell", ha="center", va="center", color=GREY)
        axes.set_yticks([])
    axes.set_xlim(0.0, 1.08)
    axes.tick_params(axis="y", labelsize=SMALL)
    axes.set_xlabel("Share of the variance of the score (fANOVA)")
    axes.spines[["top", "right"]].set_visible(False)
    return png_of(figure, is_synthetic=is_synthetic)


def _heights(values: pd.Series, study: StudyConfig, place: str) -> NDArray[np.float64]:
    """Return the height of each value, from 0 to 1; nan for a missing value."""
    positions = _positions(values, study, place)
    known = positions[np.isfinite(positions)]
    low, high = (known.min(), known.max()) if len(known) else (0.0, 1.0)
    return (positions - low) / (high - low) if high > low else np.where(np.isnan(positions), np.nan, 0.5)


def _positions(values: pd.Series, study: StudyConfig, place: str) -> NDArray[np.float64]:
    domain = study.space.domains.get(place)
    if not pd.api.types.is_numeric_dtype(values):
        words = [str(value) for value in domain.values] if isinstance(domain, Choices) else []
        # The recipe's value may not be one of the choices.
        words += sorted(set(values) - set(words))
        return np.array([words.index(value) for value in values], dtype=np.float64)
    numbers = values.to_numpy(dtype=np.float64)
    if not isinstance(domain, LogUniform):
        return numbers
    positive = numbers[numbers > 0]
    # 0 has no logarithm: it is drawn half an order of magnitude below the smallest value.
    return np.log10(np.where(numbers <= 0, (positive.min() if len(positive) else 1.0) / 3, numbers))


def _draw_axis(axes: "Axes", position: int, values: pd.Series, study: StudyConfig, place: str) -> None:
    axes.axvline(position, color=GREY, linewidth=0.8, zorder=0)
    outline = [withStroke(linewidth=2.5, foreground="white")]
    for height, value in _marks(values, _heights(values, study, place)):
        text = _text(value, digits=4 if place == "score" else 3)
        axes.text(position + 0.03, height, text, fontsize=SMALL - 1, va="center", path_effects=outline, zorder=4)


def _marks(values: pd.Series, heights: NDArray[np.float64]) -> list[tuple[float, Any]]:
    """Return the labelled values of an axis, both ends included, so that no labels overlap."""
    known = dict(sorted((height, value) for height, value in zip(heights, values, strict=True) if height >= 0))
    rising = list(known)
    if len(rising) > MAX_TICKS:
        rising = sorted({min(rising, key=lambda own: abs(own - even)) for even in np.linspace(0, 1, NUM_EVEN)})
    chosen: list[float] = []
    for height in rising:
        if height == rising[-1]:
            chosen = [own for own in chosen if height - own >= SMALLEST_GAP]
        if not chosen or height - chosen[-1] >= SMALLEST_GAP:
            chosen.append(height)
    return [(height, known[height]) for height in chosen]


def _text(value: Any, *, digits: int) -> str:
    """Return the label of a value."""
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() and abs(value) < 1e6 else f"{value:.{digits}g}"
    return value if len(value) <= MAX_LETTERS else f"{value[:8]}…{value[9 - MAX_LETTERS :]}"


def _look(row: pd.Series, share: float) -> dict[str, Any]:
    """Return the line style of a trial; ``share`` is 0 for the worst and 1 for the best."""
    if row["rank"] == 1:
        label = f"the winner, trial {row['trial']}{'' if row['trial'] else ': the recipe as it is'}"
        return {"color": COLOURS[1], "linewidth": 2.6, "zorder": 3, "label": label}
    if row["trial"] == 0:
        return {"color": COLOURS[6], "linewidth": 1.6, "linestyle": "--", "zorder": 2, "label": "the recipe as it is"}
    return {"color": COLOURS[0], "linewidth": 1.0, "alpha": 0.15 + 0.75 * share, "zorder": 1}


def _title(study: StudyConfig, num_known: int, num_unknown: int) -> str:
    without = f"; {num_unknown} more without a score" if num_unknown else ""
    return f"Validation {study.metric.upper()} of {num_known} {'trial' if num_known == 1 else 'trials'}{without}"


def _name(place: str, study: StudyConfig) -> str:
    return study.metric.upper() if place == "score" else place.replace(".", "\n")
