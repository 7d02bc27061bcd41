"""Draw docs/pictures/chain.png: ``python -m docs_tools.draw_chain``, from CT to FROC on the results of ``make demo``.

Every thumbnail is a real result of the synthetic phantom: a slice, its candidates, some of their cutouts, what the
trained network says of these cutouts, and the FROC of the test fold.
"""

import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch
from PIL import Image

from docs_tools.draw_report import small_of
from luna_pipeline.core.cutouts.store import CutoutStore
from luna_pipeline.core.evaluation.froc import OPERATING_POINTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs/pictures/chain.png"
MODEL = "nodule_classifier"
NODULE, OTHER, DARK = "#D55E00", "#0072B2", "#333333"
WINDOW_HU: dict[str, Any] = {"cmap": "gray", "vmin": -1000, "vmax": 400}
# At 390 px the picture is a third as large, and this text is still 10 px high.
TITLE_PT, TEXT_PT = 23, 19
SIZE_INCHES, DOTS_PER_INCH = (12.0, 9.2), 100
# Slices around the drawn one whose candidates are shown.
NEAR_SLICES = 4
RADIUS_VOXELS = 9


def main(home: Path) -> None:
    """Draw the picture from a home in which the demo has run."""
    series, candidates = _chosen(home)
    figure = Figure(figsize=SIZE_INCHES, dpi=DOTS_PER_INCH)
    places = [(0.01, 0.53), (0.345, 0.53), (0.68, 0.53), (0.085, 0.085), (0.61, 0.12)]
    sizes = [(0.31, 0.40)] * 3 + [(0.355, 0.36), (0.37, 0.325)]
    drawn = [figure.add_axes((*place, *size)) for place, size in zip(places, sizes, strict=True)]
    _draw_ct(drawn[0], "1  CT", home, series, None)
    _draw_ct(drawn[1], "2  Candidates", home, series, candidates)
    _draw_cutouts(drawn[2], home, candidates)
    _draw_scores(drawn[3], home, candidates)
    _draw_froc(drawn[4], pd.read_parquet(home / "tables/nodule_froc.parquet"))
    arrows = [((0.315, 0.73), (0.35, 0.73)), ((0.65, 0.73), (0.685, 0.73)), ((0.835, 0.525), (0.40, 0.467))]
    for start, end in [*arrows, ((0.475, 0.28), (0.525, 0.28))]:
        style: dict[str, Any] = {"arrowstyle": "simple,head_width=18,head_length=14,tail_width=6", "color": DARK}
        figure.add_artist(FancyArrowPatch(start, end, transform=figure.transFigure, linewidth=0, **style))
    figure.text(0.99, 0.008, "Synthetic phantom. Research use only.", fontsize=15, color=DARK, ha="right")
    png = io.BytesIO()
    figure.savefig(png)
    with Image.open(png) as picture:
        small_of(picture.convert("RGB")).save(PICTURE, "PNG", optimize=True)


def _chosen(home: Path) -> tuple[str, pd.DataFrame]:
    """Return a series of the test fold and six of its candidates with scores: three nodules where it has them."""
    predictions = pd.read_parquet(home / "tables/nodule_predictions/0.parquet")
    scored = predictions[predictions["model"] == MODEL]
    nodules = scored[scored["class"] == 1]
    series = str(nodules["series_instance_uid"].value_counts().index[0])
    of_series = scored[scored["series_instance_uid"] == series].sort_values("candidate_id")
    return series, pd.concat([of_series[of_series["class"] == label].iloc[:3] for label in (1, 0)])


def _draw_ct(axes: "Axes", title: str, home: Path, series: str, candidates: pd.DataFrame | None) -> None:
    from luna_pipeline.core.ct.reading import read_ct

    table = pd.read_parquet(home / "tables/candidates.parquet")
    table = table[(table["series_instance_uid"] == series) & (table["source"] == "candidate")]
    catalogue = pd.read_parquet(home / "tables/ct_series.parquet").set_index("series_instance_uid")
    ct = read_ct(home.parent / "data" / str(catalogue.loc[series, "path"]), series_instance_uid=series)
    center_irc = ct.grid.world_to_voxel(table[["x_mm", "y_mm", "z_mm"]].to_numpy())
    is_nodule = table["class"].to_numpy() == 1
    # The slice with most nodules around it.
    middle = max(center_irc[is_nodule, 0], key=lambda index: np.sum(np.abs(center_irc[is_nodule, 0] - index) < 2))
    axes.imshow(ct.hounsfield[round(middle)], **WINDOW_HU)
    axes.set_title(title, fontsize=TITLE_PT, fontweight="bold", pad=10)
    axes.set_axis_off()
    if candidates is not None:
        drawn: list[np.ndarray] = []
        for center, nodule in zip(center_irc, is_nodule, strict=True):
            # A detector proposes a nodule several times.
            is_new = all(np.linalg.norm(center - other) > RADIUS_VOXELS for other in drawn)
            if is_new and abs(center[0] - middle) < NEAR_SLICES:
                drawn.append(center)
                circle = Circle((center[2], center[1]), RADIUS_VOXELS, color=NODULE if nodule else OTHER)
                axes.add_patch(circle)
                circle.set(fill=False, linewidth=4)
        _words(axes, [("nodule", NODULE, 0.02), ("other", OTHER, 0.56)])


def _words(axes: "Axes", words: list[tuple[str, str, float]]) -> None:
    for word, colour, left in words:
        box = {"facecolor": "white", "edgecolor": "none", "pad": 3, "alpha": 0.85}
        axes.text(left, 0.03, word, transform=axes.transAxes, fontsize=TEXT_PT, color=colour, weight="bold", bbox=box)


def _cutouts(home: Path, candidates: pd.DataFrame) -> list[np.ndarray]:
    """Return the middle slice of each candidate's cutout, (R, C) in HU."""
    stored = CutoutStore(home / "cutouts").read(candidates["series_instance_uid"].iloc[0])
    rows = {int(candidate): row for row, candidate in enumerate(stored.candidate_id)}
    chunks = [stored.ct_chunks[rows[int(candidate)]] for candidate in candidates["candidate_id"]]
    return [np.asarray(chunk[len(chunk) // 2]) for chunk in chunks]


def _draw_cutouts(axes: "Axes", home: Path, candidates: pd.DataFrame) -> None:
    pictures = _cutouts(home, candidates)
    axes.set_title("3  Cutouts", fontsize=TITLE_PT, fontweight="bold", pad=10)
    axes.set_axis_off()
    for place, (picture, label) in enumerate(zip(pictures, candidates["class"], strict=True)):
        inset = axes.inset_axes((0.34 * (place % 3), 0.51 - 0.34 * (place // 3), 0.32, 0.32))
        inset.imshow(picture, **WINDOW_HU)
        inset.set(xticks=[], yticks=[])
        for spine in inset.spines.values():
            spine.set(color=NODULE if label else OTHER, linewidth=4)


def _draw_scores(axes: "Axes", home: Path, candidates: pd.DataFrame) -> None:
    axes.set_title("4  Classifier", fontsize=TITLE_PT, fontweight="bold", pad=10)
    colours = [NODULE if label else OTHER for label in candidates["class"]]
    places = np.arange(len(candidates))[::-1]
    axes.barh(places, np.maximum(candidates["probability"], 0.008), color=colours, height=0.68)
    for place, score in zip(places, candidates["probability"], strict=True):
        is_long = score > 0.75
        axes.text(
            score + (-0.02 if is_long else 0.02),
            place,
            f"{score:.2f}",
            fontsize=TEXT_PT,
            va="center",
            ha="right" if is_long else "left",
            color="white" if is_long else DARK,
        )
    for place, picture in zip(places, _cutouts(home, candidates), strict=True):
        inset = axes.inset_axes((-0.16, place - 0.4, 0.15, 0.8), transform=axes.get_yaxis_transform())
        inset.imshow(picture, **WINDOW_HU)
        inset.set_axis_off()
    axes.set(xlim=(0, 1), yticks=[])
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"], fontsize=TEXT_PT)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_froc(axes: "Axes", froc: pd.DataFrame) -> None:
    row = froc[froc["model"] == MODEL].iloc[0]
    names = [f"sensitivity_at_{rate:g}" for rate in OPERATING_POINTS]
    values, lower, upper = (np.array([row[f"{name}{end}"] for name in names]) for end in ("", "_lower", "_upper"))
    axes.set_title("5  FROC", fontsize=TITLE_PT, fontweight="bold", pad=10)
    axes.fill_between(OPERATING_POINTS, lower, upper, color=NODULE, alpha=0.2, linewidth=0)
    axes.plot(OPERATING_POINTS, values, color=NODULE, linewidth=4, marker="o", markersize=9)
    axes.text(8, 0.08, f"CPM {row['cpm']:.2f}", fontsize=TITLE_PT, ha="right", weight="bold", color=NODULE)
    axes.set_xscale("log", base=2)
    axes.set_xticks([0.125, 1, 8], ["1/8", "1", "8"], fontsize=TEXT_PT)
    axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"], fontsize=TEXT_PT)
    axes.set_xlabel("false positives per scan", fontsize=TEXT_PT)
    axes.set_ylabel("sensitivity", fontsize=TEXT_PT)
    axes.set_ylim(0, 1.03)
    axes.grid(color="#DDDDDD")
    axes.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / ".luna/demo/home")
