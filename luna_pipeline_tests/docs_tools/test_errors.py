"""Every message of an error that the package raises stands in the reference, with what to do."""

import ast
import functools
import http.server
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from docs_tools.errors import cures, pages
from docs_tools.errors.raised import Reader
from docs_tools.errors.sentences import parts_of
from docs_tools.errors.source import Module, Source
from luna_pipeline_tests.browsers import opened_browser

PASTE = """(box, text) => {
  const data = new DataTransfer();
  data.setData("text", text);
  const how = { clipboardData: data, bubbles: true, composed: true, cancelable: true };
  box.dispatchEvent(new ClipboardEvent("paste", how));
}"""


def _read(code: str) -> list[tuple[str, tuple[str, ...]]]:
    source = Source({"luna_pipeline.x": Module("luna_pipeline.x", ast.parse(code))})
    return [(it.kind, it.texts) for it in Reader(source).read()]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("def f(n):\n raise ValueError(f'Size must be 1, got {n}. Take 1.')", "Size must be 1, got …. Take 1."),
        (
            "A = 'Take '\ndef f(n):\n m = 'Must be '\n m += f'1, got {n}. '\n raise ValueError(m + A + 'it.')",
            "Must be 1, got …. Take it.",
        ),
        ("def f():\n m = 'another text'\n m = 'the last text'\n raise ValueError(m)", "the last text"),
        (
            "def e(rule):\n return OSError(3, f'{rule}, got none.')\ndef f():\n raise e('It must be')",
            "It must be, got none.",
        ),
        ("def f(m):\n raise KeyError(m)\ndef g():\n f('the text of the caller')", "the text of the caller"),
        (
            "class E(Exception):\n def __init__(self, n):\n  super().__init__(f'the class says {n}')\n"
            "def f():\n raise E(3)",
            "the class says …",
        ),
        (
            "class P:\n def e(self, t):\n  return ValueError(f'of the method: {t}')\ndef f(p: P):\n raise p.e('yes')",
            "of the method: yes",
        ),
        (
            "def f(rule='pad'):\n raise ValueError(f'A rule must be one of 2, got {rule}.')",
            "A rule must be one of 2, got ….",
        ),
        (
            "class C:\n rule: str = 'a'\n def f(self):\n  raise ValueError(f'Rule must be a or b, got {self.rule}.')",
            "Rule must be a or b, got ….",
        ),
        (
            "def f(n, cure='Do the next thing.'):\n raise ValueError(f'Must be 1, got {n}. {cure}')",
            "Must be 1, got …. Do the next thing.",
        ),
    ],
)
def test_the_text_of_an_error_is_read_from_the_code(code: str, expected: str):
    assert [texts for _, texts in _read(code)] == [(expected,)]


def test_several_texts_of_one_place_are_all_read_and_a_caught_error_is_left_out():
    code = "def f(a):\n m = 'one of two' if a else 'two of two'\n raise ValueError(m)"
    assert _read(code) == [("ValueError", ("one of two", "two of two"))]
    assert _read("try:\n pass\nexcept ValueError as error:\n raise error") == []


def test_a_message_is_parted_into_its_rule_and_what_to_do():
    parts = parts_of("Size must be 1, got … (in a. B file). Take 1. Or 2.")
    assert (parts.rule, parts.cure) == ("Size must be 1", "Take 1. Or 2.")


def test_the_text_of_every_error_of_the_package_is_known():
    unknown = [f"{it.place}: {ast.unparse(it.node)}" for it in pages.every_error() if not it.texts]
    assert not unknown, "Write the message where it is raised, or name its origin in docs_tools/errors/cures.py."
    assert len(pages.every_error()) > 700


def test_every_message_says_what_to_do_or_has_an_entry_of_the_cures():
    for each in pages.every_error():
        assert all(pages.cure_of(text, each.place) for text in each.texts), each.place


def test_what_to_do_is_shown_once():
    page = pages.area_page("tables")
    assert page.count("Insert a line with the names.") == 1
    training = pages.area_page("training")
    assert "`A held-out fold must exist, got … of folds …. Choose one of them.`" in training
    assert "**What to do:** Choose one of them." not in training


def test_no_entry_of_the_cures_is_left_over():
    places = {it.place for it in pages.every_place()}
    assert set(cures.PASSED_ON) <= places
    used = {pages.cure_of(text, it.place) for it in pages.every_error() for text in it.texts}
    assert set(cures.CURES.values()) | cures.REPEATS <= used


def test_every_message_stands_on_the_page_of_its_area():
    texts = {area: pages.area_page(area) for area in pages.AREAS}
    for each in pages.every_error():
        for text in each.texts:
            rule = text.removesuffix(parts_of(text).cure).rstrip(" |")
            assert rule in texts[pages.area_of(each.place)]


@pytest.fixture
def address(site: Path) -> Iterator[str]:
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


PASTED = (
    (
        "ValueError: A held-out fold must exist, got 7 of folds [0, 1, 2]. Choose one of them.",
        "training|evaluation|dagster|diagnosis",
        "A held-out fold must exist",
    ),
    (
        "Slices must be evenly spaced, got a gap of 5.00 mm among gaps of 2.50 mm (between a.dcm and b.dcm",
        "reading_ct",
        "Slices must be evenly spaced",
    ),
    (
        "network.dropout_rate must be in [0, 1), got 1.5. Change network.dropout_rate.",
        "configuration",
        "… must be in …, got …",
    ),
)


@pytest.mark.slow
def test_a_message_that_is_pasted_into_the_search_is_found(address: str, tmp_path: Path):
    """With its values, of which the site knows nothing; the first result leads to the message."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright, opened_browser(playwright, "chromium", tmp_path) as browser:
        opened = browser.new_page()
        for pasted, page, heading in PASTED:
            opened.goto(f"{address}/index.html")
            opened.click(".md-search__button")
            box = opened.locator("input:not([type=checkbox]):not([type=radio])")
            box.evaluate(PASTE, pasted)
            first = opened.locator("a[href*='?h=']").first
            assert heading in first.inner_text()
            assert re.search(rf"errors/({page})\.html", first.get_attribute("href") or "")
        # An ordinary text stays as it was pasted.
        box.evaluate(PASTE, "how to train on folds two and three")
        opened.wait_for_timeout(200)
        assert box.input_value() == "how to train on folds two and three"
