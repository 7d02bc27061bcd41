"""Ids of candidates, by their content: they stay the same when other rows of a table change."""

import hashlib
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]
from numpy.typing import NDArray

from luna_pipeline.core.candidates.csv_tables import as_arrow

# Rows at a time: they fit into the processor's cache.
_BLOCK = 1 << 15
_BYTES_A_WORD = 8
# Masks for the first 0 to 8 bytes of a word.
_FIRST_BYTES = np.array([(1 << 8 * count) - 1 for count in range(_BYTES_A_WORD + 1)], dtype=np.uint64)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FACTORS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_SHIFTS = (np.uint64(30), np.uint64(27), np.uint64(31))


def candidate_ids(
    series: pd.Series, texts: Sequence[pd.Series], *, source: str, precedence: NDArray[np.float64]
) -> tuple[NDArray[np.int64], int]:
    """Return an id for each row, by its content, and the number of rows that repeat an earlier one.

    Args:
        series: Series instance uids, ``category``, N rows.
        texts: The coordinates as written, a column each, N rows.
        source: ``annotation`` or ``candidate``.
        precedence: Shape (N,): equal rows are counted from the lowest, then in their order.

    Returns:
        Shape (N,): a 64-bit hash of source, uid and texts, and of the row's number among equal rows, as a signed
        number. It starts with BLAKE2b of "source|uid"; each text adds its length and its UTF-8 bytes in little-endian
        words of eight, mixed after each word; so does the number, unless it is 0.

    Source:
        Steele, Lea, Flood, Fast splittable pseudorandom number generators, 2014: the mixing, Stafford's variant 13.
    """
    starts = np.array([_hash_of(f"{source}|{uid}") for uid in series.cat.categories], dtype=np.uint64)
    hashes = starts[series.cat.codes.to_numpy()]
    for text in texts:
        _add_text(hashes, text)
    num_repeated = _number_equals(hashes, precedence)
    return hashes.view(np.int64), num_repeated


def _hash_of(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=_BYTES_A_WORD).digest(), "little")


def _add_text(hashes: NDArray[np.uint64], text: pd.Series) -> None:
    """Mix a column of text into the hashes of its rows."""
    bounds, content = _layout_of(as_arrow(text))
    # Words are read from any byte; the last text is followed by zeros.
    words = np.ndarray(len(content) - _BYTES_A_WORD + 1, dtype="<u8", buffer=content, strides=(1,))
    for first in range(0, len(hashes), _BLOCK):
        _add_words(hashes[first : first + _BLOCK], words, bounds[first : first + _BLOCK + 1])


def _layout_of(cells: pa.StringArray) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """Return where each text starts (N + 1,), and the bytes of all texts, padded with eight zeros."""
    _, starts, content = cells.buffers()
    bounds = np.frombuffer(starts, dtype=np.int32)[cells.offset : cells.offset + len(cells) + 1]
    content = np.frombuffer(content or b"", dtype=np.uint8)
    return bounds, np.concatenate([content, np.zeros(_BYTES_A_WORD, dtype=np.uint8)])


def _add_words(hashes: NDArray[np.uint64], words: NDArray[np.uint64], bounds: NDArray[np.int32]) -> None:
    """Mix texts, word by word, into the hashes of their rows."""
    lengths = np.diff(bounds)
    # Without the length, "1", "23" and "12", "3" could give the same words.
    hashes += (lengths.astype(np.uint64) + np.uint64(1)) * _GOLDEN
    rows: slice | NDArray[np.intp] = slice(None)
    for place in range(0, max(1, int(lengths.max(initial=0))), _BYTES_A_WORD):
        if place:
            rows = np.flatnonzero(lengths > place)
        left = np.minimum(lengths[rows] - place, _BYTES_A_WORD)
        hashes[rows] = _mixed(hashes[rows] ^ (words[bounds[:-1][rows] + place] & _FIRST_BYTES[left]))


def _number_equals(hashes: NDArray[np.uint64], precedence: NDArray[np.float64]) -> int:
    """Mix each row's number among equal rows into its hash, except for the first of them; return how many these are."""
    ordered = np.sort(hashes)
    is_repeated = ordered[1:] == ordered[:-1]
    if not is_repeated.any():
        return 0
    rows = np.flatnonzero(np.isin(hashes, ordered[1:][is_repeated]))
    rows = rows[np.lexsort((precedence[rows], hashes[rows]))]
    _, firsts, counts = np.unique(hashes[rows], return_index=True, return_counts=True)
    number = (np.arange(len(rows)) - np.repeat(firsts, counts)).astype(np.uint64)
    later = rows[number > 0]
    hashes[later] = _mixed(hashes[later] + number[number > 0] * _GOLDEN)
    return len(later)


def _mixed(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Spread each bit over the whole word, in place; a bijection."""
    for shift, factor in zip(_SHIFTS[:2], _FACTORS, strict=True):
        words ^= words >> shift
        words *= factor
    words ^= words >> _SHIFTS[2]
    return words
