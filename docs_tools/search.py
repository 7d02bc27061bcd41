"""The search of the built site: it works without a network, and shows definitions before error messages."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docs_tools.rows import Rows

THEIR_WORKER = "https://unpkg.com/iframe-worker/shim"
RANKING = Path(__file__).with_name("ranking.js")
_SORT = re.compile(r"(\w+)\.items\.sort\((\w+\(\.\.\.\w+\))\)")


def complete(site: Path) -> None:
    """Complete pages, index and worker of a site.

    Raises:
        ValueError: If Zensical's worker no longer sorts its results as expected.
    """
    index = json.loads((site / "search.json").read_text())
    sections = {it["location"]: it for it in index["items"]}
    for page in sorted(site.rglob("*.html")):
        rows = Rows(str(page.relative_to(site)))
        # Pages that are opened from a folder load ``worker.js`` instead of the same from the network.
        text = page.read_text().replace(THEIR_WORKER, os.path.relpath(site / "worker.js", page.parent))
        page.write_text(rows.complete(text))
        index["items"] += _items(rows, sections)
    text = json.dumps(index, ensure_ascii=False)
    (site / "search.json").write_text(text)
    (site / "search.js").write_text(f"var __index = {text}")
    for worker in site.glob("assets/javascripts/workers/search.*.js"):
        worker.write_text(_ranked(worker.read_text()))


def _items(rows: Rows, sections: dict[str, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield an entry of the search for each definition of a page."""
    for each in rows.definitions:
        section = sections[f"{rows.page}#{each.section}"]
        yield {
            **section,
            "location": f"{rows.page}#{each.anchor}",
            "title": each.word,
            "text": each.meaning,
            "path": [*section["path"], section["title"]],
        }


def _ranked(worker: str) -> str:
    """Return Zensical's worker with our order of the results: see ranking.js."""
    code, num_places = _SORT.subn(r"\1.items=self.ranked(\1.items.sort(\2))", worker)
    if num_places != 1:
        raise ValueError(f"Zensical's search must sort its results once, got {num_places} places. Adapt docs_tools.")
    return f"{code}\n{RANKING.read_text()}"
