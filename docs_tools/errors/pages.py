"""Pages of error messages: one page per area, one heading per message, so that the search finds a pasted message."""

import ast
import json
import re
from collections.abc import Iterator
from functools import cache

from docs_tools.errors.areas import AREAS
from docs_tools.errors.cures import CURES, OTHER_SOFTWARE, REPEATS
from docs_tools.errors.raised import Raised, Reader
from docs_tools.errors.sentences import parts_of
from docs_tools.errors.source import Source
from docs_tools.markdown import table


@cache
def every_place() -> tuple[Raised, ...]:
    """Return all places of the package that raise an error."""
    return tuple(Reader(Source.read()).read())


def every_error() -> tuple[Raised, ...]:
    """Return those places whose error has, or should have, a text of its own."""
    return tuple(it for it in every_place() if it.texts or not it.has_no_own_text)


def area_of(place: str) -> str:
    """Return the page of a place of the package.

    Raises:
        KeyError: If no page lists its module.
    """
    for area, (_, beginnings) in AREAS.items():
        if place.startswith(beginnings):
            return area
    raise KeyError(f"Every module must have a page of error messages, got {place}. Add it to AREAS.")


def cure_of(text: str, place: str) -> str:
    """Return what to do about a message: what it says itself, or else the entry of ``CURES``."""
    return parts_of(text).cure or next(cure for start, cure in CURES.items() if place.startswith(start))


def index_page() -> str:
    """Return the page that leads to those of the areas."""
    counts = {area: len(_groups(area)) for area in AREAS}
    lines = [
        "# Error messages",
        "",
        "Every message of an error that the package raises, with what to do. "
        "**Paste a message into the search**: your file names and numbers are left out by themselves. If you type it, "
        "type its constant words. A `…` stands for a value, such as a name or a number.",
        "",
        "A message has the form *rule, got value (which). What to do*: the rule did not hold for that value. Errors "
        "end a command with exit code 1, wrong usage with 2. `luna --debug COMMAND` also shows the traceback.",
        "",
        "| where it happens | messages |",
        "|---|---:|",
        *(f"| [{title}]({area}.md) | {counts[area]} |" for area, (title, _) in AREAS.items()),
        "",
        "## Messages of other software",
        "",
        "Of PyTorch, MLflow, the operating system and so on only these are listed.",
        "",
        *table(("message", "what to do"), OTHER_SOFTWARE),
    ]
    return "\n".join(lines)


def messages_script() -> str:
    """Return the list of all messages for the search, see docs/messages.js."""
    texts = sorted({text for each in every_error() for text in each.texts})
    return f"window.lunaMessages = {json.dumps(texts, ensure_ascii=False, indent=0)};\n"


def area_page(area: str) -> str:
    """Return the page of an area."""
    title = AREAS[area][0]
    lines = [
        f"# Error messages: {title}",
        "",
        "Each heading is a message: the rule that did not hold, and what was got instead; `…` stands for a value. "
        "Below it are what to do, unless the message says it, and the part of the code that raises it, which says when "
        "it happens.",
        "",
    ]
    ids: set[str] = set()
    module = ""
    for (place, texts), found in _groups(area).items():
        if place.partition(":")[0] != module:
            module = place.partition(":")[0]
            lines += [f"## {module}", ""]
        lines += _entry(texts, found, _new_id(texts[0], ids))
    return "\n".join(lines)


def _groups(area: str) -> dict[tuple[str, tuple[str, ...]], list[Raised]]:
    """Return the places of an area by module and messages, in their order."""
    groups: dict[tuple[str, tuple[str, ...]], list[Raised]] = {}
    for each in every_error():
        if each.texts and area_of(each.place) == area:
            module = each.module.name.removeprefix("luna_pipeline.")
            groups.setdefault((module, each.texts), []).append(each)
    return groups


def _entry(texts: tuple[str, ...], found: list[Raised], identifier: str) -> Iterator[str]:
    cures = dict.fromkeys(cure_of(text, found[0].place) for text in texts)
    says_it = REPEATS.issuperset(cures) or (len(cures) > 1 and all(parts_of(text).cure for text in texts))
    shown = [text if says_it or len(cures) > 1 else text.removesuffix(*cures).rstrip(" |") for text in texts]
    first, *others = dict.fromkeys(shown)
    yield f"##### {_code(first)} {{#{identifier}}}"
    yield ""
    kinds = ", ".join(f"`{kind}`" for kind in dict.fromkeys(it.kind for it in found))
    if not says_it:
        yield f"**What to do:** {' Or: '.join(map(_escaped, cures))}<br>"
    yield f"**Where:** {kinds} in {'; '.join(dict.fromkeys(map(_where, found)))}."
    yield ""
    if others:
        yield "Other forms:"
        yield ""
        yield from (f"- {_code(text)}" for text in others)
        yield ""


def _where(raised: Raised) -> str:
    """Return function and first sentence of its docstring, which says during what the error happens."""
    function, summary = raised.function, ""
    holders = [function, *raised.module.holders(function)] if function is not None else []
    for holder in holders:
        if summary := (ast.get_docstring(holder) or "").partition("\n\n")[0]:  # type: ignore[arg-type]
            break
    name = raised.place.removeprefix(raised.module.name.removeprefix("luna_pipeline.")).lstrip(".")
    said = _escaped(" ".join(summary.split()).replace("``", "`").partition(". ")[0].rstrip("."))
    return f"`{name or raised.place}`" + (f" ({said})" if said else "")


def _code(text: str) -> str:
    """Return a message as inline code, whatever it holds."""
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def _escaped(text: str) -> str:
    """Return a text outside of code that markdown does not take for markup."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(
        part if number % 2 else re.sub(r"([*_<>\[\]#|{}])", r"\\\1", part).replace("\\<", "&lt;").replace("\\>", "&gt;")
        for number, part in enumerate(parts)
    )


def _new_id(text: str, taken: set[str]) -> str:
    """Return the anchor of a message: its first words."""
    words = re.findall(r"[a-z0-9]+", text.lower())[:9] or ["message"]
    name = base = "-".join(words)
    number = 1
    while name in taken:
        number += 1
        name = f"{base}-{number}"
    taken.add(name)
    return name
