"""Draw docs/pictures/diagnosis.png: ``python -m docs_tools.draw_report REPORT``, the report of a diagnosed phantom.

Needs Chromium and Playwright. A report of a real CT is refused: it would show a patient.
"""

import io
import shutil
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.spatial import cKDTree

PICTURE = Path(__file__).resolve().parents[1] / "docs/pictures/diagnosis.png"
SIZE_PX = (1040, 1200)
NUM_GREYS, MIN_SATURATION = 96, 8
SYNTHETIC = 'class="synthetic"'


def main(report: Path) -> None:
    """Draw the first part of a report, without its overview.

    Raises:
        ValueError: If the report is not that of a phantom.
    """
    if SYNTHETIC not in report.read_text():
        raise ValueError(
            f"A picture in the docs must be of a phantom, got a report of a CT ({report}). Choose another."
        )
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": SIZE_PX[0], "height": SIZE_PX[1]}, color_scheme="light")
        page.goto(report.resolve().as_uri())
        # The table and the first findings fill the picture.
        page.add_style_tag(content="section[aria-labelledby=overview] { display: none; }")
        png = page.screenshot()
        browser.close()
    with Image.open(io.BytesIO(png)) as picture:
        small_of(picture.convert("RGB")).save(PICTURE, "PNG", optimize=True)


def small_of(picture: Image.Image) -> Image.Image:
    """Return a picture with a palette of greys and its most frequent colours; Pillow's choice loses thin lines."""
    colours, places, counts = np.unique(
        np.asarray(picture).reshape(-1, 3).astype(int), axis=0, return_inverse=True, return_counts=True
    )
    by_count = np.argsort(-counts)
    coloured = by_count[np.ptp(colours[by_count], axis=1) > MIN_SATURATION]
    greys = np.rint(np.linspace(0, 255, NUM_GREYS)).astype(int)[:, None].repeat(3, axis=1)
    palette = np.concatenate([greys, colours[coloured[: 256 - NUM_GREYS]]])
    # Pillow's own search for the nearest colour is not exact: white becomes grey.
    _, nearest = cKDTree(palette).query(colours)
    indices = np.asarray(nearest)[places]
    small = Image.fromarray(indices.reshape(picture.height, picture.width).astype(np.uint8), "P")
    small.putpalette(palette.ravel().tolist())
    return small


if __name__ == "__main__":
    main(Path(sys.argv[1]))
