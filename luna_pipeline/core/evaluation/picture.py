"""How all plots look: colours that the colour-blind can tell, line styles that read in grey, and what each must say."""

import io
import math
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

# Okabe and Ito's.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINE_STYLES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
GREY = "#6E6E6E"
DOTS_PER_INCH = 110
SMALL = 8
NUM_COLOURS = 128


def look_of(place: int) -> dict[str, Any]:
    """Return colour and line style of the curve at this place, from 0."""
    return {"color": COLOURS[place % len(COLOURS)], "linestyle": LINE_STYLES[place % len(LINE_STYLES)]}


def figure_of(value: float) -> str:
    """Return a number as a legend has it; what is not defined says so."""
    return "undefined" if math.isnan(value) else f"{value:.3f}"


def png_of(figure: Figure, *, is_synthetic: bool) -> bytes:
    """Return a figure as a PNG that says what it may be used for; the same bytes for the same figure.

    Args:
        figure: What is drawn.
        is_synthetic: Whether it must say that the data are made up.
    """
    note = "research use only, synthetic data" if is_synthetic else "research use only"
    figure.supxlabel(note, fontsize=SMALL, color=GREY, x=0.995, ha="right")
    drawn, buffer = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png")
    with Image.open(drawn) as picture:
        # A palette, because a page of Dagster loads a picture as text: a third of the size, and no eye sees it.
        picture.convert("RGB").quantize(NUM_COLOURS, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
