"""Values of configurations: type, default, range and meaning, read from the dataclasses and from their checks."""

import contextlib
import inspect
import re
import sys
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints
from unittest.mock import patch

from docs_tools.markdown import code, plain

_ENTRY = re.compile(r"^    (\w+): (.*)$")
_CHECKS = ("check_integer", "check_number", "check_choice", "check_flag", "check_text")


@dataclass(frozen=True)
class Value:
    """A value of a configuration.

    Attributes:
        place: Its path, such as ``network.dropout_rate``.
        kind: Its type in words.
        default: Its default.
        allowed: Range or words to choose from; empty if any value of the kind is allowed.
        meaning: What it does.
    """

    place: str
    kind: str
    default: Any
    allowed: str
    meaning: str

    def row(self) -> tuple[str, ...]:
        """Return the row of a table."""
        return code(self.place), self.meaning, code(shown(self.default)), allowed_of(self.kind, self.allowed)


def allowed_of(kind: str, allowed: str) -> str:
    """Return what a value may be: its words, or its type with the range."""
    return f"one of {allowed}" if allowed.startswith("`") else ", ".join(filter(None, (kind, allowed)))


def meanings(kind: type) -> dict[str, str]:
    """Return what the docstring of a class says about each attribute; those of its bases too."""
    found: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        section = re.search(r"Attributes:\n(.*?)(?:\n\S|\Z)", inspect.cleandoc(each.__doc__ or ""), re.DOTALL)
        name = ""
        for line in (section[1] if section else "").splitlines():
            if match := _ENTRY.match(line):
                name, found[match[1]] = match[1], match[2]
            elif name and line.startswith("        "):
                found[name] += f" {line.strip()}"
            elif line.strip():
                name = ""
    return {name: plain(text) for name, text in found.items()}


def values_of(config: Any, ranges: Mapping[str, str], prefix: str = "") -> Iterator[Value]:
    """Yield the values of a dataclass with defaults, and those of its parts, by their paths."""
    said, hints = meanings(type(config)), get_type_hints(type(config))
    for each in fields(config):
        value, place = getattr(config, each.name), f"{prefix}{each.name}"
        if is_dataclass(value):
            yield from values_of(value, ranges, f"{place}.")
            continue
        allowed = ranges.get(place) or ranges.get(each.name, "") or _words(hints[each.name])
        yield Value(place, kind_of(hints[each.name]), value, allowed, said.get(each.name, ""))


def ranges_of(*configs: Any) -> dict[str, str]:
    """Return the allowed range of each value by its name: what the checks of the configurations are called with."""
    ranges: dict[str, str] = {}

    def integer(name: str, _: object, *, at_least: int, at_most: int | None = None) -> None:
        ranges[name] = f"≥ {at_least}" if at_most is None else f"{at_least} to {at_most}"

    def number(name: str, _: object, interval: str) -> None:
        ranges[name] = _interval(interval)

    def choice(name: str, _: object, choices: tuple[str, ...]) -> None:
        ranges[name] = ", ".join(map(code, choices))

    replacements = dict(zip(_CHECKS, (integer, number, choice, lambda *_: None, lambda *_: None), strict=True))
    with contextlib.ExitStack() as stack:
        parts = [part for config in configs for part in _parts(config)]
        for module in {sys.modules[base.__module__] for part in parts for base in type(part).__mro__[:-1]}:
            for name in _CHECKS:
                if hasattr(module, name):
                    stack.enter_context(patch.object(module, name, replacements[name]))
        for part in parts:
            if check := getattr(part, "__post_init__", None):
                check()
    # A sequence's range is that of its entries.
    return {re.sub(r"\[\d+\]$", "", name): shown_range for name, shown_range in ranges.items()}


def _parts(config: Any) -> Iterator[Any]:
    yield config
    for each in fields(config):
        if is_dataclass(part := getattr(config, each.name)):
            yield from _parts(part)


def _interval(interval: str) -> str:
    low, high = (end.strip() for end in interval[1:-1].split(","))
    above = f"{'≥' if interval[0] == '[' else '>'} {low}"
    return above if high == "inf" else f"{above} and {'≤' if interval[-1] == ']' else '<'} {high}"


def kind_of(hint: Any) -> str:
    """Return a type in words."""
    origin, members = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(kind_of(it) for it in members)
    if origin is tuple and Ellipsis in members:
        return f"list of {kind_of(members[0])}"
    if origin is tuple:
        return f"{len(members)} of {kind_of(members[0])}"
    if origin is Literal:
        return "word"
    words = {int: "integer", float: "number", str: "text", bool: "true or false", type(None): "none"}
    return words.get(hint, getattr(hint, "__name__", str(hint)))


def _words(hint: Any) -> str:
    return ", ".join(map(code, get_args(hint))) if get_origin(hint) is Literal else ""


def shown(value: Any) -> str:
    """Return a value as YAML has it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(shown, value))}]"
    return str(value) if value != "" else '""'
