"""The parts of a message in the project's form: ``<rule>, got <value> (<which>). <what to do>``."""

import re
from dataclasses import dataclass

_NEW_SENTENCE = re.compile(r"[.|?] +(?=[A-Z`…0-9])")


@dataclass(frozen=True)
class Sentences:
    """A message's parts.

    Attributes:
        rule: What must hold; empty if the message has another form.
        cure: What to do; empty if the message does not say it.
    """

    rule: str
    cure: str


def parts_of(text: str) -> Sentences:
    """Return the parts of a message."""
    rule, _, rest = text.rpartition(", got") if ", got" in text else ("", "", text)
    ends = [it for it in _NEW_SENTENCE.finditer(rest) if rest[: it.start()].count("(") <= rest[: it.start()].count(")")]
    # Values may hold a single bracket.
    ends = ends or list(_NEW_SENTENCE.finditer(rest))[-1:]
    cure = rest[ends[0].end() :].strip() if ends else ""
    return Sentences(rule, "" if cure.strip("….") == "" else cure)
