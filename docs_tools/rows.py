"""Rows of tables in built pages: cells with the name of their column, and rows that the search finds."""

import html
import re
from dataclasses import dataclass, field

# Pages whose rows are entries of the search: each row defines the word in its first cell.
DEFINITIONS = (
    *("reference/glossary.html", "reference/configuration.html", "reference/environment.html"),
    "reference/errors/index.html",
)
_PART = re.compile(r'<h[1-6] id="(?P<section>[^"]*)"|<table>\s*<thead>.*?</table>', re.DOTALL)
_ROW = re.compile(r"<tr>\s*(<td.*?)</tr>", re.DOTALL)
_CELL = re.compile(r"<td(?P<style>[^>]*)>(?P<content>.*?)</td>", re.DOTALL)
_HEADING = re.compile(r"<th(?:\s[^>]*)?>(.*?)</th>", re.DOTALL)


@dataclass(frozen=True)
class Definition:
    """A row that defines a word.

    Attributes:
        section: Anchor of the heading above it.
        anchor: Anchor of the row.
        word: HTML of its first cell.
        meaning: HTML of the other cells, each with the name of its column unless that is ``meaning``.
    """

    section: str
    anchor: str
    word: str
    meaning: str


@dataclass
class Rows:
    """Goes through the tables of a page.

    Attributes:
        page: Place of the page in the site.
        definitions: Those of the page; empty if its rows are no definitions.
    """

    page: str
    definitions: list[Definition] = field(default_factory=list)
    _section: str = ""

    def complete(self, text: str) -> str:
        """Return the page with names of columns in the cells and anchors in rows that define a word."""
        return _PART.sub(self._part, text)

    def _part(self, match: re.Match[str]) -> str:
        if match["section"] is not None:
            self._section = match["section"]
            return match[0]
        columns = [plain(it) for it in _HEADING.findall(match[0])]
        return _ROW.sub(lambda row: self._row(row[1], columns), match[0])

    def _row(self, row: str, columns: list[str]) -> str:
        cells = list(zip(columns, _CELL.finditer(row), strict=True))
        labelled = [_labelled(name, cell, is_first=cell is cells[0][1]) for name, cell in cells]
        defines = self.page in DEFINITIONS and not {"meaning", "what to do"}.isdisjoint(columns)
        anchor = self._define([(name, cell["content"]) for name, cell in cells]) if defines else ""
        return f"<tr{anchor}>\n" + "\n".join(labelled) + "\n</tr>"

    def _define(self, cells: list[tuple[str, str]]) -> str:
        word = cells[0][1]
        anchor = re.sub(r"[^\w.]+", "-", f"{self._section}.{plain(word).lower()}")
        while any(it.anchor == anchor for it in self.definitions):
            anchor += "-"
        meaning = [value if name == "meaning" else f"{name}: {value}" for name, value in cells[1:] if value]
        text = "".join(f"<p>{it}</p>" for it in meaning)
        self.definitions.append(Definition(self._section, anchor, word, text))
        return f' id="{html.escape(anchor)}"'


def _labelled(column: str, cell: re.Match[str], *, is_first: bool) -> str:
    label = "" if is_first or column == "meaning" else f' data-label="{html.escape(column)}"'
    return f"<td{label}{cell['style']}>{cell['content']}</td>"


def plain(text: str) -> str:
    """Return HTML without its tags."""
    return html.unescape(re.sub(r"<[^>]+>", "", text))
