"""Draw docs/diagnosis.png: ``python docs/draw_report.py REPORT``, the report.html of the diagnosis of a phantom.

Needs Chromium and Playwright. A report of a real CT is refused: it would show a patient.
"""

import io
import shutil
import sys
from pathlib import Path

from PIL import Image

PICTURE = Path(__file__).with_name("diagnosis.png")
SIZE_PX = (1040, 1280)
NUM_COLOURS = 192
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
        page = browser.new_page(viewport=dict(zip(("width", "height"), SIZE_PX, strict=True)), color_scheme="light")
        page.goto(report.resolve().as_uri())
        # The table and the first findings fill the picture.
        page.add_style_tag(content="section[aria-labelledby=overview] { display: none; }")
        png = page.screenshot()
        browser.close()
    with Image.open(io.BytesIO(png)) as picture:
        small = picture.convert("RGB").quantize(NUM_COLOURS, dither=Image.Dither.NONE)
    small.save(PICTURE, "PNG", optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
