"""Series uids of tables beside those of CTs: how many match, and what is different where they do not."""

import re
from collections.abc import Collection, Iterable
from itertools import islice

# What may surround a uid: never a part of another, longer uid.
_BEFORE = r"(?P<before>(?:.*[^0-9A-Za-z.])?)"
_AFTER = r"(?P<after>(?:(?:[^0-9A-Za-z.]|\.[A-Za-z]).*)?)"
_NUMBER = re.compile(r"\s*[+-]?\d+([.,]\d*)?([eE][+-]?\d+)?\s*")
_MAX_COMPARED = 1000
_MAX_SHOWN = 80


def describe_difference(uids: Iterable[str], known: Collection[str], *, of: str = "of the CTs") -> str | None:
    """Compare uids that match no known one with the known ones.

    Args:
        uids: Uids of a table, none of them known; the first thousand are compared.
        known: Uids of CTs, or of a list of scans.
        of: Where the known ones are from, for the message.

    Returns:
        An example of each and, where it is found, the difference with its cure; None if both kinds differ as the uids
        of different series do.
    """
    compared, ordered = list(islice(uids, _MAX_COMPARED)), sorted(known)
    for describe in (_surrounded, _shortened, _written_otherwise, _number):
        for uid in compared:
            if found := describe(uid, ordered):
                other, words = found
                return f"{shown_uid(uid)} in the table, {shown_uid(other)} {of}: {words}"
    return None


def shown_uid(uid: str) -> str:
    """Return a uid in quotes for a message of one line, shortened in its middle."""
    uid = uid if len(uid) <= _MAX_SHOWN else f"{uid[: _MAX_SHOWN // 2]}...{uid[-_MAX_SHOWN // 2 :]}"
    return repr(uid)


def _surrounded(uid: str, known: list[str]) -> tuple[str, str] | None:
    """Compare a uid that has another one in it."""
    for other in known:
        if other in uid and (match := re.fullmatch(f"{_BEFORE}{re.escape(other)}{_AFTER}", uid, re.DOTALL)):
            before, after = match["before"], match["after"]
            parts = [f"begin with {shown_uid(before)}"] * bool(before) + [f"end in {shown_uid(after)}"] * bool(after)
            return other, f"they {' and '.join(parts)}. Remove that in the table."
    return None


def _shortened(uid: str, known: list[str]) -> tuple[str, str] | None:
    """Compare a uid that is part of another one."""
    if not uid:
        return None
    for other in known:
        if uid in other and re.fullmatch(f"{_BEFORE}{re.escape(uid)}{_AFTER}", other, re.DOTALL):
            # The uid of an image file is its name.
            return other, "the name of a CT's file must be its uid. Rename the files of the CTs."
        if len(uid) >= len(other) // 2 and other.startswith(uid):
            return other, "their end is missing. Export the table again with the whole uids."
        if other.endswith(f".{uid}"):
            return other, "their beginning is missing. Export the table again with the whole uids."
    return None


def _written_otherwise(uid: str, known: list[str]) -> tuple[str, str] | None:
    """Compare a uid that has other letters' case, or other signs between its numbers."""
    bare = _bare(uid)
    other = next((other for other in known if bare and bare == _bare(other)), None)
    return None if other is None else (other, "they are written in another way. Write them as in the CTs.")


def _bare(uid: str) -> str:
    return re.sub(r"[^0-9a-z]+", ".", uid.casefold()).strip(".")


def _number(uid: str, known: list[str]) -> tuple[str, str] | None:
    """Recognise a uid that a spreadsheet turned into a number."""
    if not known or not _NUMBER.fullmatch(uid) or any(_NUMBER.fullmatch(other) for other in known):
        return None
    return known[0], "a spreadsheet has made numbers of them. Export the table again with the column as text."
