"""Common style of all plots: colours for colour-blind readers, line styles for grey prints, the intended use."""

import io
import math
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from PIL import Image

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Colour-blind safe palette of Okabe and Ito.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINE_STYLES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
GREY = "#6E6E6E"
DOTS_PER_INCH = 110
SMALL = 8
NUM_COLOURS = 128


def line_style(place: int) -> dict[str, Any]:
    """Return colour and line style of the curve number ``place``, from 0."""
    return {"color": COLOURS[place % len(COLOURS)], "linestyle": LINE_STYLES[place % len(LINE_STYLES)]}


def format_value(value: float, lower: float = math.nan, upper: float = math.nan) -> str:
    """Return a value for a legend, with its interval where it has one; ``undefined`` for nan."""
    text = "undefined" if math.isnan(value) else f"{value:.3f}"
    return text if math.isnan(lower) else f"{text} [{format_value(lower)}, {format_value(upper)}]"


def style_axes(axes: "Axes", title: str = "") -> None:
    """Set title, grid and spines of a diagram."""
    axes.set_title(title, fontsize=11)
    axes.grid(color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def legend_below(axes: "Axes", gap: float) -> None:
    """Draw the legend below a diagram, where it hides no curve; the gap is in heights of the diagram."""
    axes.legend(fontsize=SMALL, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -gap))


def png_of(figure: Figure, *, is_synthetic: bool, footnote: str = "") -> bytes:
    """Return a figure as a PNG with its intended use; the same bytes for the same figure.

    Args:
        figure: Drawn figure.
        is_synthetic: Whether to label the data as synthetic.
        footnote: A limitation of what is shown, on a line of its own.
    """
    note = "research use only, synthetic data" if is_synthetic else "research use only"
    note = f"{footnote}\n{note}" if footnote else note
    figure.supxlabel(note, fontsize=SMALL, color=GREY, x=0.995, ha="right")
    drawn, buffer = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png")
    with Image.open(drawn) as picture:
        # A palette, because Dagster's pages embed pictures as text: a third of the size, without a visible difference.
        picture.convert("RGB").quantize(NUM_COLOURS, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
