"""Which marks are of one reading session, from the names in the readers' files."""

import numpy as np
import pytest

from luna_pipeline.core.sources.reader_marks import ReaderMark
from luna_pipeline.core.sources.reading_sessions import overlap, reading_sessions


def sessions(names: list[str], x_mm: list[float] | None = None, readers: list[int] | None = None) -> list[int]:
    marks = [ReaderMark("1", str(own), readers[own] if readers else -1, (), {}) for own in range(len(names))]
    center_mm = np.zeros((len(names), 3))
    center_mm[:, 0] = x_mm or [100.0 * own for own in range(len(names))]
    return reading_sessions(marks, names, center_mm, np.full(len(names), 10.0))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["Nodule 001", "Nodule 003", "IL057_127364", "MI014_12118", "MI014_12119", "0", "12"], [0, 0, 1, 2, 2, 3, 3]),
        (["0", "22134", "22127", "2148", "2141", "Nodule 001"], [0, 1, 1, 2, 2, 3]),
        (["0", "Nodule 001", "2"], [0, 1, 2]),
        ([], []),
    ],
)
def test_names_of_one_form_in_a_row_are_one_session(names: list[str], expected: list[int]):
    assert sessions(names) == expected


def test_long_numbers_are_parted_where_marks_overlap():
    # 162753 overlaps nothing of its session; 160395 is at the place of 162753.
    assert sessions(["162753", "160393", "160395"], [0.0, 50.0, 9.0]) == [0, 0, 1]
    # Programs with text in their names never part a session.
    assert sessions(["Nodule 001", "Nodule 002"], [0.0, 1.0]) == [0, 0]


def test_marks_without_names_are_parted_where_they_overlap():
    assert sessions(["", "", ""], [0.0, 50.0, 1.0]) == [0, 0, 1]


def test_known_readers_are_their_sessions():
    assert sessions(["", "", ""], [0.0, 0.0, 0.0], readers=[2, 0, 2]) == [2, 0, 2]


def test_balls_that_touch_do_not_overlap():
    center_mm = np.array([[0.0, 0.0, 0.0], [3.0, 4.0, 0.0]])
    assert not overlap(center_mm, np.array([4.0, 6.0]), 0, 1)
    assert overlap(center_mm, np.array([4.0, 6.1]), 0, 1)
