"""Draw docs/pictures/tutorial_ct.png, a slice of a phantom and its HU: ``python -m docs_tools.draw_ct DATA``."""

import io
import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from docs_tools.draw_report import small_of
from luna_pipeline.core.ct.reading import read_ct

PICTURE = Path(__file__).resolve().parents[1] / "docs/pictures/tutorial_ct.png"
# Tissues of the phantom by their HU.
TISSUES = {"air": -1000, "lung": -850, "fat": -100, "muscle": 40, "bone": 250}


def main(data: Path) -> None:
    """Draw the middle slice of the first CT below a phantom's root."""
    path = sorted(data.rglob("*.mhd"))[0]
    ct = read_ct(path, series_instance_uid=path.stem)
    figure = Figure(figsize=(11.0, 5.0), dpi=100, layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.2))
    shown = left.imshow(ct.hounsfield[len(ct.hounsfield) // 2], cmap="gray", vmin=-1000, vmax=600)
    left.set_axis_off()
    bar = figure.colorbar(shown, ax=left, shrink=0.9)
    bar.set_label("HU", fontsize=14)
    bar.ax.tick_params(labelsize=13)
    right.hist(ct.hounsfield.ravel(), bins=np.arange(-1100, 600, 25), color="#0072B2", log=True)
    for tissue, value in TISSUES.items():
        right.axvline(value, color="#D55E00", linewidth=1)
        right.text(value, 1.02, tissue, transform=right.get_xaxis_transform(), rotation=60, fontsize=14)
    right.set_xlabel("HU", fontsize=14)
    right.set_ylabel("voxels", fontsize=14)
    right.tick_params(labelsize=13)
    right.spines[["top", "right"]].set_visible(False)
    png = io.BytesIO()
    figure.savefig(png)
    with Image.open(png) as picture:
        small_of(picture.convert("RGB")).save(PICTURE, "PNG", optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
