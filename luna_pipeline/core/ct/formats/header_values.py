"""Strict reading of header fields: what is not of the expected kind is refused with its key and text.

Numbers are read by Python, which has decimal points whatever locale the process has set.
"""

import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from luna_pipeline.core.ct.errors import UnreadableCtError
from luna_pipeline.core.storage.regular_files import open_regular, shown_name

MAX_HEADER_BYTES = 1 << 20
"""A text header has a few hundred bytes; with keys for each frame, some 100,000."""

_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_COPY_AGAIN = "Write the CT again, or correct its header."


def refusal(rule: str, value: object, path: Path, cure: str = _COPY_AGAIN) -> UnreadableCtError:
    """Return the error of one line: rule, value (shortened), file, what to do.

    A header's text is given as its ``repr``, in which nothing breaks the line.
    """
    text = str(value)
    text = text if len(text) <= 100 else f"{text[:80]}... ({len(text)} characters)"
    return UnreadableCtError(f"{rule}, got {text} ({shown_name(path)}). {cure}")


def parsed_numbers(words: list[str], count: int) -> tuple[float, ...] | None:
    """Return exactly ``count`` finite numbers with decimal points, None for anything else."""
    if len(words) != count or not all(_NUMBER.fullmatch(word) for word in words):
        return None
    values = tuple(float(word) for word in words)
    return values if all(math.isfinite(value) for value in values) else None


def _words(text: str) -> list[str]:
    """Split at blanks of ASCII; Latin-1 has others, which no other reader takes for blanks."""
    return [word for word in re.split("[ \t]", text) if word]


def header_lines(path: Path) -> Iterator[tuple[str, int]]:
    """Yield the lines of a text header as Latin-1, stripped, with the number of bytes up to their end.

    Raises:
        OSError: If it is no regular file or cannot be read.
    """
    num_bytes = 0
    with open_regular(path) as file:
        while line := file.readline(MAX_HEADER_BYTES - num_bytes):
            num_bytes += len(line)
            yield line.decode("latin-1").strip(" \t\r\n"), num_bytes


@dataclass(frozen=True)
class TextHeader:
    """Fields of a text header, by the key that the format's description gives them.

    Attributes:
        path: The header's file.
        fields: Each key's text.
        num_bytes: Length of the header: where attached voxels begin.
    """

    path: Path
    fields: dict[str, str]
    num_bytes: int

    def refusal(self, key: str, rule: str, cure: str = _COPY_AGAIN) -> UnreadableCtError:
        """Return the error of a key whose text breaks a rule, or that is missing."""
        if key not in self.fields:
            return refusal(f"{key} must be in the header", "none", self.path, cure)
        return refusal(f"{key} must be {rule}", repr(self.fields[key]), self.path, cure)

    def whole(self, key: str, *, least: int, default: int | None = None) -> int:
        """Return a whole number.

        Raises:
            UnreadableCtError: If the text is none or too small, or the key is missing and has no default.
        """
        text = self.fields.get(key, "" if default is None else str(default))
        if not _WHOLE.fullmatch(text) or int(text) < least:
            raise self.refusal(key, f"a whole number from {least} on")
        return int(text)

    def sizes(self, key: str) -> tuple[int, int, int]:
        """Return the numbers of voxels along col, row and index.

        Raises:
            UnreadableCtError: If they are not three positive whole numbers.
        """
        words = _words(self.fields.get(key, ""))
        if len(words) != 3 or not all(_WHOLE.fullmatch(word) and int(word) > 0 for word in words):
            raise self.refusal(key, "three positive whole numbers of voxels")
        num_cols, num_rows, num_slices = (int(word) for word in words)
        return num_cols, num_rows, num_slices

    def numbers(self, key: str, count: int, *, default: str = "", cure: str = _COPY_AGAIN) -> tuple[float, ...]:
        """Return ``count`` finite numbers separated by blanks.

        Raises:
            UnreadableCtError: If the text is anything else, or the key is missing and has no default.
        """
        values = parsed_numbers(_words(self.fields.get(key, default)), count)
        if values is None:
            raise self.refusal(key, f"{count} finite numbers with decimal points, separated by blanks", cure)
        return values

    def data_path(self, key: str) -> Path:
        """Return the path of the file that the key names.

        Only files in the header's folder or below are read: a header from elsewhere must not bring any other file of
        this machine into the cutouts, and a CT stays complete when its folder is copied.

        Raises:
            UnreadableCtError: If the key names another place, or the header itself.
        """
        # Names are bytes; headers are read as Latin-1, which keeps every byte.
        name = os.fsdecode(self.fields[key].encode("latin-1"))
        place = PurePosixPath(name)
        is_below = bool(place.parts) and not place.is_absolute() and ".." not in place.parts
        if not is_below or "\\" in name or "\0" in name or self.path.parent / name == self.path:
            cure = "Copy the voxels next to their header and write the file's name alone."
            raise self.refusal(key, "the name of a file in the header's folder or below", cure)
        return self.path.parent / name
