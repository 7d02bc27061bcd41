"""Markdown of pages that are made from the code."""

import re
from collections.abc import Iterable, Sequence


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Return the lines of a table and an empty one."""
    lines = [header, ["---"] * len(header), *([cell(value) for value in row] for row in rows)]
    return [*(f"| {' | '.join(line)} |" for line in lines), ""]


def cell(value: object) -> str:
    """Return a text that stays in its cell of a table."""
    return re.sub(r"(?<!\\)\|", r"\\|", " ".join(str(value).split()))


def plain(docstring: str | None) -> str:
    """Return a docstring as markdown: code in single quotes, lines joined within paragraphs."""
    paragraphs = re.split(r"\n\s*\n", (docstring or "").replace("``", "`").strip())
    return "\n\n".join(" ".join(each.split()) for each in paragraphs)


def code(value: object) -> str:
    """Return a value as inline code; nothing for an empty one."""
    return f"`{value}`" if str(value) else ""
