"""Reasons why a CT is refused, without values from its files: a tag or a header's line may hold a patient's name."""

import re

_WORDS = frozenset(
    {
        "are",
        "at",
        "axes",
        "before",
        "bytes",
        "by",
        "differ",
        "different",
        "do",
        "dimensions",
        "file",
        "files",
        "frames",
        "from",
        "gaps",
        "images",
        "in",
        "is",
        "many",
        "missing",
        "mm",
        "none",
        "not",
        "numbers",
        "of",
        "or",
        "other",
        "places",
        "rows",
        "series",
        "slices",
        "that",
        "the",
        "there",
        "times",
        "to",
        "values",
        "volumes",
        "voxels",
        "x",
    }
)
_NUMBER = re.compile(r"-?\d[\d.,]*(e[+-]?\d+)?")


def plain_reason(message: str) -> str:
    """Return the rule of a message ``<rule>, got <value> (<which>). <advice>``, with the value where it is plain.

    A value is shown as far as it consists of numbers and the words above. The advice is left out: it is for the
    command line.
    """
    text = " ".join(message.split())
    rule, _, rest = text.partition(", got ")
    if not rest:
        # Not a message of the project: it may be anything.
        return "A CT must be readable, got one that is not."
    shown = []
    for word in rest.split():
        bare = word.rstrip(".,:;")
        if not (_NUMBER.fullmatch(bare) or bare in _WORDS):
            break
        shown.append(bare)
        if bare != word:
            break
    has_number = any(_NUMBER.fullmatch(word) for word in shown)
    return f"{rule}, got {' '.join(shown) if has_number or shown == ['none'] else 'another'}."
