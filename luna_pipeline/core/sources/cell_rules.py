"""Rules for the values of a table's column: what a cell may hold, and the faults of those that do not."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from luna_pipeline.core.candidates.csv_columns import shown_value
from luna_pipeline.core.candidates.csv_tables import NUL_SIGN, parse_numbers
from luna_pipeline.core.candidates.malignancy import are_ratings
from luna_pipeline.core.sources.faults import Fault

Kind = Literal["text", "uid", "number", "whole", "word", "ratings"]

_NOT_UTF_8 = "\ufffd"
_UID = re.compile(r"\S{1,64}")
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+([eE][+-]?\d+)?")


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a table.

    Attributes:
        name: Our name.
        spellings: Names in the header that mean it; messages use the first. Empty: the name itself.
        kind: What its cells hold. A ``uid`` has 1 to 64 characters without spaces, a ``word`` is one of ``words``.
        is_required: Whether a table must have it.
        may_be_empty: Whether a cell may be empty.
        least: Smallest number, in the column's unit.
        most: Largest number.
        unit: What the number counts, for messages, with the likely mistake.
        exception: A number outside the range that is allowed, such as -1 for "not known".
        words: Allowed words, compared without case.
        synonyms: Words that are allowed, too, and that messages do not name.
        is_secret: Whether the values may name a patient: they are never shown.
    """

    name: str
    spellings: tuple[str, ...] = ()
    kind: Kind = "text"
    is_required: bool = True
    may_be_empty: bool = False
    least: float = -np.inf
    most: float = np.inf
    unit: str = ""
    exception: float | None = None
    words: tuple[str, ...] = ()
    synonyms: tuple[str, ...] = ()
    is_secret: bool = False

    @property
    def header(self) -> str:
        """Its name in messages."""
        return self.spellings[0] if self.spellings else self.name


def faults_of_cells(column: Column, text: pd.Series, lines: NDArray[np.int64], *, file: str) -> Iterator[Fault]:
    """Yield a fault for each rule that cells break; a cell breaks one rule at most.

    Args:
        column: The column.
        text: Its cells, shape (N,), without spaces around them.
        lines: Their lines, shape (N,).
        file: The table's name.
    """
    if column.kind in ("number", "whole") and _are_right_numbers(column, text):
        return
    is_left = np.ones(len(text), dtype=bool)
    for rule, cure, find in _rules(column):
        is_wrong = np.zeros(len(text), dtype=bool)
        is_wrong[is_left] = find(text[is_left])
        if is_wrong.any():
            value = str(text[is_wrong].iloc[0])
            got = "a value that is not shown" if column.is_secret and value else shown_value(value)
            yield Fault(rule=rule, got=got, cure=cure, file=file, lines=tuple(lines[is_wrong].tolist()))
        is_left &= ~is_wrong


def _are_right_numbers(column: Column, text: pd.Series) -> bool:
    """Return whether all cells are numbers that keep all rules: most columns are, and need no rule by rule."""
    numbers = parse_numbers(text)[0]
    is_whole = column.kind != "whole" or bool((numbers == np.floor(numbers)).all())
    return is_whole and bool(np.isfinite(numbers).all()) and not _is_outside(column)(text).any()


_Rule = tuple[str, str, Callable[[pd.Series], NDArray[np.bool_]]]


def _rules(column: Column) -> Iterator[_Rule]:
    name = column.header
    yield f"{name} must be text in UTF-8", "Save the table as CSV in UTF-8.", _holds(_NOT_UTF_8)
    yield f"{name} must have no NUL bytes", "Copy the table again.", _holds(NUL_SIGN)
    if not column.may_be_empty:
        yield f"{name} must have a value in each row", "Fill it in, or remove the row.", _is_empty
    if column.kind == "uid":
        yield f"{name} must be 1 to 64 characters without spaces", "Correct it.", _does_not_match(_UID)
    elif column.kind in ("number", "whole"):
        yield from _number_rules(column)
    elif column.kind == "word":
        allowed = {word.lower() for word in (*column.words, *column.synonyms)}
        yield f"{name} must be {' or '.join(column.words)}", "Write one of them.", _is_none_of(allowed)
    elif column.kind == "ratings":
        yield f"{name} must be numbers from 1 to 5, such as '4 5 3'", "Correct them.", _has_no_ratings


def _number_rules(column: Column) -> Iterator[_Rule]:
    name = column.header
    yield f"{name} must have a decimal point", "Export the table with points in numbers.", _matches(_DECIMAL_COMMA)
    yield f"{name} must be a finite number", "Correct it.", _is_not_finite
    if column.kind == "whole":
        yield f"{name} must be a whole number", "Correct it.", _is_broken
    if column.least > -np.inf or column.most < np.inf:
        most = f" to {column.most:g}" if column.most < np.inf else ""
        unit, _, mistake = column.unit.partition(", ")
        cure = f"Write {unit}, {mistake}." if mistake else "Correct it."
        yield f"{name} must be from {column.least:g}{most}{f' {unit}' * bool(unit)}", cure, _is_outside(column)


def _holds(sign: str) -> Callable[[pd.Series], NDArray[np.bool_]]:
    return lambda text: np.array([sign in value for value in text.tolist()], dtype=bool)


def _is_empty(text: pd.Series) -> NDArray[np.bool_]:
    return np.array([value == "" for value in text.tolist()], dtype=bool)


def _matches(pattern: re.Pattern[str]) -> Callable[[pd.Series], NDArray[np.bool_]]:
    return lambda text: np.array([pattern.fullmatch(str(value)) is not None for value in text], dtype=bool)


def _does_not_match(pattern: re.Pattern[str]) -> Callable[[pd.Series], NDArray[np.bool_]]:
    return lambda text: ~_matches(pattern)(text) & ~_is_empty(text)


def _is_none_of(words: set[str]) -> Callable[[pd.Series], NDArray[np.bool_]]:
    return lambda text: np.array([value.lower() not in words and value != "" for value in text.tolist()], dtype=bool)


def _has_no_ratings(text: pd.Series) -> NDArray[np.bool_]:
    return np.array([not are_ratings(str(value)) for value in text], dtype=bool)


def _is_not_finite(text: pd.Series) -> NDArray[np.bool_]:
    return ~np.isfinite(parse_numbers(text)[0]) & ~_is_empty(text)


def _is_broken(text: pd.Series) -> NDArray[np.bool_]:
    numbers = parse_numbers(text)[0]
    return np.asarray(numbers != np.floor(numbers)) & ~_is_empty(text)


def _is_outside(column: Column) -> Callable[[pd.Series], NDArray[np.bool_]]:
    def find(text: pd.Series) -> NDArray[np.bool_]:
        numbers = parse_numbers(text)[0]
        is_inside = (numbers >= column.least) & (numbers <= column.most)
        if column.exception is not None:
            is_inside |= numbers == column.exception
        return ~is_inside & ~_is_empty(text)

    return find
