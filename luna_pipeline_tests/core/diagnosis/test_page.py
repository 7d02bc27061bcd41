"""The report's page: what it shows, that it needs nothing from outside, and that screen readers can read it."""

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files

import numpy as np
import pytest
from PIL import Image

from luna_pipeline.core.diagnosis.formatting import TIMES, share
from luna_pipeline.core.diagnosis.page import MAX_PICTURED, report_html
from luna_pipeline_tests.core.diagnosis.examples import UID, diagnosis, grid, model, nodule

HOUNSFIELD = np.random.default_rng(0).integers(-1000, 100, (40, 64, 64)).astype(np.int16)
VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Elements of a page with their attributes and texts; unbalanced tags are refused."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[tuple[str, ...], str]] = []
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip():
            self.texts.append((tuple(self.open), data.strip()))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def within(self, tag: str) -> str:
        return " ".join(text for path, text in self.texts if tag in path)


def page(*nodules, **changes) -> Page:
    return Page(report_html(diagnosis(*nodules, **changes), HOUNSFIELD))


def found(*probabilities: float) -> list:
    return [nodule(probability=probability) for probability in probabilities]


@pytest.fixture(scope="module")
def full() -> Page:
    """40 nodules, 35 of them at or above the threshold of 0.5."""
    return page(*found(*np.linspace(0.98, 0.5, 35), *np.linspace(0.4, 0.1, 5)))


def test_each_nodule_above_the_threshold_has_three_pictures_up_to_the_limit(full: Page):
    assert MAX_PICTURED == 30
    named = [image["alt"] for image in full.all("img") if "with its outline" in image["alt"]]
    assert len(named) == 3 * 30
    assert named[:3] == [
        f"{plane} picture of finding 1, 60 mm wide, with its outline." for plane in ("Axial", "Coronal", "Sagittal")
    ]
    assert [article["id"] for article in full.all("article")] == [f"finding-{number}" for number in range(1, 31)]
    assert "5 more findings at or above the threshold: in the table only." in full.within("section")
    assert len(full.html) < 5e6


def test_the_table_has_every_nodule_in_order_and_those_below_the_threshold_apart(full: Page):
    numbers = [text for path, text in full.texts if "table" in path and path[-1] in ("th", "a") and text.isdigit()]
    assert numbers == [str(number) for number in range(1, 41)]
    assert full.within("summary") == "5 findings below the threshold"
    below = [text for path, text in full.texts if "details" in path and path[-1] == "th" and text.isdigit()]
    assert below == ["36", "37", "38", "39", "40"]
    assert [link["href"] for link in full.all("a")] == [f"#finding-{number}" for number in range(1, 31)]
    assert "35 findings at or above the classifier's threshold of 0.500; 5 below it." in full.within("strong")


def test_a_row_and_a_caption_hold_the_nodules_values():
    one = page(nodule(probability=0.9996, malignancy=0.0004, center_xyz=(-1.04, 2.06, 50.0)))
    row = [text for path, text in one.texts if path[-1] == "td" and "numbers" in str(one.all("table")[0])]
    assert row[:7] == ["> 0.999", "< 0.001", "7.2", "8.5", "200", "-1.0, 2.1, 50.0", "20, 32, 32"]
    assert "diameter 7.2 mm, long axis 8.5 mm, volume 200 mm³, axial slice 21 of 40 from the feet" in one.within(
        "article"
    )


def test_a_threshold_of_the_classifier_decides_what_is_pictured():
    strict = model("classifier", threshold=0.9)
    one = page(*found(0.9, 0.89), models=(model("segmenter"), strict))
    assert len(one.all("article")) == 1
    assert "1 finding at or above the classifier's threshold of 0.900; 1 below it." in one.within("strong")
    assert "No malignancy model was used." in one.within("section")


def test_without_findings_it_says_so():
    empty = page()
    assert "The search found nothing. This does not mean that there is no nodule." in empty.within("strong")
    assert (len(empty.all("article")), len(empty.all("img"))) == (0, 1)


def test_versions_runs_weights_recipe_and_input_are_on_the_page():
    odd = model("classifier", version="1.2", has_unknown_origin=True, mlflow_run_id=None)
    seen = model("malignancy", has_seen_series=True, weights_sha256="cd" * 32)
    text = page(nodule(), models=(model("segmenter"), odd, seen)).within("table")
    for value in ("nodule_segmenter", "1.2", "f00d" * 8, "ab" * 32, "cd" * 32, "models:/nodule_segmenter@champion"):
        assert value in text
    for value in ("known, without this series", "unknown", "this series was among them"):
        assert value in text
    for value in (
        UID,
        "12" * 32,
        "dagster run-1",
        "4321 ml",
        f"40 {TIMES} 64 {TIMES} 64 voxels",
        f"2 {TIMES} 1 {TIMES} 1 mm",
    ):
        assert value in text
    for value in ("segmentation threshold", "0.5", "merge mm", "2.0"):
        assert value in text


def test_the_use_is_stated_at_the_top_and_at_the_bottom_and_synthetic_data_at_the_top():
    use = "Research use only. Not a medical device."
    real, synthetic = page(nodule()), page(nodule(), is_synthetic=True)
    assert (real.within("header").count(use), real.within("footer").count(use)) == (1, 1)
    assert "ynthetic" not in real.within("body")
    assert "Synthetic data: the CT is a computed phantom, not a patient." in synthetic.within("header")
    assert synthetic.within("title") == "Nodules in a chest CT (synthetic)"


def test_texts_are_escaped():
    attack = "<script>alert('1')</script> & \"x\" <img src=http://a.b/c>"
    one = page(
        nodule(),
        notes=(attack,),
        series_instance_uid=attack,
        input_fingerprint=attack,
        run_ids={attack: attack},
        recipe=replace(diagnosis().recipe, name=attack),
        models=(model("segmenter", name=attack, version=attack, address=attack, mlflow_run_id=attack),),
    )
    assert {tag for tag, _ in one.elements} == {tag for tag, _ in page(nodule(), notes=("a",)).elements}
    assert one.within("li") == attack


def test_the_page_loads_nothing(full: Page):
    sources = [attributes.get(name) or "" for _, attributes in full.elements for name in ("src", "href")]
    assert all(source.startswith(("data:image/", "#")) for source in sources if source)
    assert not re.search(r"https?:|url\(|@import|<script|\son\w+=", full.html)
    (policy,) = (meta["content"] for meta in full.all("meta") if "http-equiv" in meta)
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_the_page_is_the_same_on_a_rerun():
    assert page(nodule(), seconds={"lungs": 1.0}).html == page(nodule(), seconds={"lungs": 2.0}).html


def test_structure_for_screen_readers(full: Page):
    (root,) = full.all("html")
    assert root["lang"] == "en"
    assert all(image["alt"] and image["width"] and image["height"] for image in full.all("img"))
    assert {head["scope"] for head in full.all("th")} == {"col", "row"}
    ids = [attributes["id"] for _, attributes in full.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    labels = {attributes["aria-labelledby"] for _, attributes in full.elements if "aria-labelledby" in attributes}
    assert labels <= set(ids)
    levels = [int(tag[1]) for tag, _ in full.elements if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("theme", [0, 1, 2], ids=["light", "dark", "print"])
@pytest.mark.parametrize(
    ("ink", "paper"),
    [("ink", "paper"), ("faint", "paper"), ("link", "paper"), ("ink", "shade"), ("warn-ink", "warn-paper")],
)
def test_contrast_is_that_of_wcag_aa(theme, ink, paper):
    css = (files("luna_pipeline.core.diagnosis") / "report.css").read_text()
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", css.split(":root {")[theme + 1].split("}")[0]))
    brighter, darker = sorted((_luminance(colours[ink]), _luminance(colours[paper])), reverse=True)
    assert (brighter + 0.05) / (darker + 0.05) >= 4.5


def test_pictures_are_whole_and_lungs_are_shown_where_given():
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30)).save(buffer, "PNG")
    of = grid()
    with_lungs = Page(report_html(diagnosis(nodule(), of=of), HOUNSFIELD, lungs=buffer.getvalue()))
    sizes = []
    for image in with_lungs.all("img"):
        content = base64.b64decode(image["src"].partition(",")[2])
        with Image.open(io.BytesIO(content)) as picture:
            assert picture.size == (int(image["width"]), int(image["height"]))
            sizes.append(picture.size)
    assert sizes == [(336, 420), (40, 30), (300, 300), (300, 300), (300, 300)]


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0.000"), (1.0, "1.000"), (0.9995001, "> 0.999"), (0.99949, "0.999")]
)
def test_a_share_is_never_rounded_to_certainty(value, text):
    assert share(value) == text


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_chromium_shows_it_without_a_request_or_an_error(full: Page, scheme, tmp_path):
    from playwright.sync_api import sync_playwright

    from luna_pipeline_tests.browsers import CHROMIUM, CHROMIUM_FLAGS

    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    (tmp_path / "report.html").write_text(full.html)
    asked, errors = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=CHROMIUM_FLAGS)
        try:
            opened = browser.new_page(
                color_scheme=scheme, java_script_enabled=False, viewport={"width": 400, "height": 800}
            )
            opened.on("request", lambda request: asked.append(request.url))
            opened.on("console", lambda message: errors.append(message.text))
            opened.goto(f"file://{tmp_path}/report.html")
            sizes = [image.bounding_box() for image in opened.locator("article img").all()]
            width = opened.locator("html").bounding_box()["width"]
        finally:
            browser.close()
    assert [url for url in asked if not url.startswith("data:")] == [f"file://{tmp_path}/report.html"]
    assert errors == []
    assert len(sizes) == 90
    assert all(300 <= size["width"] <= width and size["width"] == size["height"] for size in sizes)
