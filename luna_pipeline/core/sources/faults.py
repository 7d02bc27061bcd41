"""Faults of a data root as values: the rule, what was found, where, and what to do."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

_MAX_LINES = 5


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that is wrong or odd with a data root, on one line or several of a file.

    Attributes:
        rule: What must hold.
        got: What was found instead, the first value where there are several; empty where the rule says it.
        cure: What to do, a sentence.
        file: Table or path that it was found in; empty for the whole data root.
        lines: Lines of the table, the header is 1; empty where no line is wrong by itself.
        where: More about the place, such as the series.
        is_error: False for what is only odd.
    """

    rule: str
    got: str
    cure: str
    file: str = ""
    lines: tuple[int, ...] = ()
    where: str = ""
    is_error: bool = True

    def __str__(self) -> str:
        """Return the fault in one line, in the form of this project's errors."""
        numbers = ", ".join(str(line) for line in self.lines[:_MAX_LINES]) + ", ..." * (len(self.lines) > _MAX_LINES)
        counted = f"; {len(self.lines)} rows" * (len(self.lines) > _MAX_LINES)
        place = f"{self.file} line {numbers}{counted}" if self.lines else self.file
        places = ", ".join(part for part in (place, self.where) if part)
        got = f", got {self.got}" if self.got else ""
        return f"{self.rule}{got}{f' ({places})' * bool(places)}. {self.cure}".strip()

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self) | {"lines": list(self.lines)}


def fault_of_error(error: Exception, *, file: str = "", is_error: bool = True) -> Fault:
    """Return an error's message, ``rule, got value (where). What to do.``, as a fault."""
    text = " ".join(str(error).split()) or type(error).__name__
    return fault_of_line(text, file=file, is_error=is_error)


def fault_of_line(text: str, *, file: str = "", is_error: bool = True) -> Fault:
    """Return a message of one line as a fault; what does not have the usual form is its rule."""
    rule, comma, rest = text.partition(", got ")
    if comma and not re.search(r" \(.*\)\. ", rest) and ". " in rest:
        got, _, after = rest.partition(". ")
        return Fault(rule=rule, got=got, cure=after, file=file, is_error=is_error)
    got, bracket, after = rest.rpartition("). ")
    if not comma or not bracket or " (" not in got:
        return Fault(rule=text.rstrip("."), got="", cure="", file=file, is_error=is_error)
    got, _, where = got.rpartition(" (")
    if file and (found := re.fullmatch(re.escape(file) + r"(?: line (\d+))?", where)):
        lines = (int(found[1]),) if found[1] else ()
        return Fault(rule=rule, got=got, cure=after, file=file, lines=lines, is_error=is_error)
    return Fault(rule=rule, got=got, cure=after, where=where, is_error=is_error)


def raise_faults(faults: Sequence[Fault]) -> None:
    """Raise the first error among faults, with the number of the others.

    Raises:
        ValueError: If there is one.
    """
    errors = [fault for fault in faults if fault.is_error]
    if errors:
        num_more = len(errors) - 1
        more = f" {num_more} more faults are listed by `luna check_data`." if num_more else ""
        raise ValueError(f"{errors[0]}{more}")
