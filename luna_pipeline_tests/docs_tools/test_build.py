"""The documentation builds as a site: every page has its place, every link and picture leads somewhere."""

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest
import yaml

from docs_tools import build
from docs_tools.build import DOCS, ROOT
from docs_tools.generated import PAGES
from luna_pipeline_tests.browsers import opened_browser


class Links(HTMLParser):
    """Links and pictures of a page, and its anchors."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.anchors |= {name for name in (given.get("id"), given.get("name")) if name}
        self.links += [link for link in (given.get("href"), given.get("src")) if link and tag != "link"]


def _pages_of(nav: list | dict | str) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    for part in nav if isinstance(nav, list) else nav.values() if isinstance(nav, dict) else ():
        yield from _pages_of(part)


def test_every_page_stands_in_the_navigation_once():
    text = (ROOT / "mkdocs.yml").read_text()
    named = sorted(_pages_of(yaml.safe_load(text)["nav"]))
    made = [*PAGES, *build.PAGES_OF_FILES, *(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md"))]
    assert named == sorted(made)


def test_every_link_picture_and_anchor_of_the_site_is_there(site: Path):
    pages = {page: Links(page) for page in site.rglob("*.html") if page.name != "404.html"}
    assert len(pages) > 20
    num_links = 0
    for page, found in pages.items():
        for link in found.links:
            if re.match(r"[a-z]+:", link):
                continue
            path, anchor = urldefrag(link)
            target = (page.parent / unquote(path)).resolve() if path else page
            assert target.is_file(), f"{page.relative_to(site)}: {link}"
            assert not anchor or target not in pages or unquote(anchor) in pages[target].anchors, f"{page.name}: {link}"
            num_links += 1
    assert num_links > 1000


def test_the_search_of_the_site_knows_every_page(site: Path):
    text = (site / "search.js").read_text()
    assert "http" not in text[:200]  # Loaded by a script tag, so that it also works from a folder.
    places = {item["location"].partition("#")[0] for item in json.loads((site / "search.json").read_text())["items"]}
    pages = {str(page.relative_to(site)) for page in site.rglob("*.html")} - {"404.html"}
    assert pages <= places


# What is asked, and where the first result leads.
ASKED = {
    "CPM": "reference/glossary.html#the-fields-words.cpm",
    "champion": "reference/glossary.html#the-projects-words.champion",
    "edge_rule": "reference/configuration.html#cutting.edge_rule",
    "What does edge_rule do?": "reference/configuration.html#cutting.edge_rule",
    "batch_size": "reference/configuration.html#training.batch_size",
    "LUNA_HOME S3": "reference/environment.html#of-the-package.luna_home",
    "train on folds 2 and 3": "how_to/train.html",
    "score my submission": "how_to/evaluate.html",
    "which series failed": "how_to/failed_series.html",
    "free disk space": "how_to/disk_space.html",
    "training fold": "how_to/train.html#for-some-test-folds",
    "upgrade": "how_to/upgrade.html",
    "continue training": "how_to/continue_training.html",
    "own network": "how_to/extend.html",
    "vertical step": "explanation/froc.html",
    # Not all words stand in one section.
    "resume a training that the power cut ended": "how_to/continue_training.html",
    "CUDA out of memory. Tried to allocate 2 GiB": "reference/errors/index.html",
}


@pytest.mark.slow
def test_a_site_in_a_folder_is_searched_without_a_network_and_definitions_come_first(site: Path, tmp_path: Path):
    from playwright.sync_api import expect, sync_playwright

    with sync_playwright() as playwright, opened_browser(playwright, "chromium", tmp_path) as browser:
        tab = browser.new_page(viewport={"width": 1440, "height": 2000})
        requests: list[str] = []
        tab.on("request", lambda request: requests.append(request.url))
        tab.goto((site / "explanation/geometry.html").as_uri())
        tab.keyboard.press("Control+k")
        for words, place in ASKED.items():
            tab.get_by_placeholder("Search").last.fill(words)
            page, _, anchor = place.partition("#")
            address = re.compile(rf"/{re.escape(page)}\?h=[^#]*{f'#{re.escape(anchor)}$' if anchor else ''}")
            expect(tab.locator("a[href*='?h=']").first).to_have_attribute("href", address, timeout=30_000)
        assert {url.partition(":")[0] for url in requests} <= {"file", "data", "blob"}


@pytest.mark.slow
def test_no_page_is_wider_than_its_window(site: Path, tmp_path: Path):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright, opened_browser(playwright, "chromium", tmp_path) as browser:
        tab = browser.new_page()
        for width in (1440, 390):
            tab.set_viewport_size({"width": width, "height": 900})
            for page in site.rglob("*.html"):
                tab.goto(page.as_uri())
                root = "document.documentElement"
                assert tab.evaluate(f"{root}.scrollWidth <= {root}.clientWidth"), f"{page.relative_to(site)} at {width}"


def test_a_broken_link_fails_the_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    docs = tmp_path / "built/docs"
    docs.mkdir(parents=True)
    (docs / "index.md").write_text("# Start\n\nSee [a page](none.md) and [a part](#nowhere).\n")
    monkeypatch.setattr(build, "assemble", lambda folder: None)
    monkeypatch.setattr(build, "ROOT", tmp_path)
    (tmp_path / "mkdocs.yml").write_text("site_name: x\nnav: [index.md]\n")
    with pytest.raises(ValueError, match=r"(?s)page does not exist.*anchor does not exist") as caught:
        build.build(tmp_path / "built")
    assert "Traceback" not in str(caught.value)


def test_links_to_files_of_the_repository_lead_to_copies_of_them(tmp_path: Path):
    text = build._with_links(
        "how_to/x.md", "docs/how_to/x.md", "[a](../../config/tuning.yaml) [b](cut.md#s3)", tmp_path
    )
    assert text == "[a](../files/config/tuning.yaml) [b](cut.md#s3)"
    assert (tmp_path / "files/config/tuning.yaml").read_text() == (ROOT / "config/tuning.yaml").read_text()
    picture = build._with_links("start/tour.md", "docs/start/tour.md", "A\n\n![b c](../pictures/chain.png)\n", tmp_path)
    assert picture == "A\n\n[![b c](../pictures/chain.png)](../pictures/chain.png)\n"
    fenced = "```md\n[a](../../config/tuning.yaml)\n```"
    assert build._with_links("how_to/x.md", "docs/how_to/x.md", fenced, tmp_path) == fenced
