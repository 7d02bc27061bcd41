import hashlib
import itertools

import numpy as np
import pandas as pd
import pytest

from luna_pipeline.core.candidates.candidate_ids import candidate_ids

A = ("1.2.3", "1.0", "2.0", "3.0")
B = ("1.2.3", "1.0", "2.0", "3.5")
MASK = (1 << 64) - 1


def ids_of(rows, *, source="candidate", precedence=None):
    """Ids of (uid, text, text, ...) rows."""
    columns = [pd.Series(column, dtype=object) for column in zip(*rows, strict=True)]
    precedence = np.zeros(len(rows)) if precedence is None else np.asarray(precedence, dtype=float)
    return candidate_ids(columns[0].astype("category"), columns[1:], source=source, precedence=precedence)[0]


def mixed(word):
    """SplitMix64's finalizer, as in its authors' C code."""
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & MASK
    return word ^ (word >> 31)


def by_hand(uid, *texts, source="candidate", number=0):
    """The hash by its definition, a row and a word at a time."""
    value = int.from_bytes(hashlib.blake2b(f"{source}|{uid}".encode(), digest_size=8).digest(), "little")
    for text in texts:
        content = text.encode()
        value = (value + (len(content) + 1) * 0x9E3779B97F4A7C15) & MASK
        for start in range(0, max(len(content), 1), 8):
            value = mixed(value ^ int.from_bytes(content[start : start + 8], "little"))
    if number:
        value = mixed((value + number * 0x9E3779B97F4A7C15) & MASK)
    return value - (1 << 64) if value >> 63 else value


@pytest.mark.seed_defect(30)
def test_ids_are_the_same_on_every_machine_and_for_ever():
    assert ids_of([A, B, A]).tolist() == [3954708656161365389, -1901223833190572972, -5289851991605952394]
    assert ids_of([("1.2.3", "", "-128.6994211", "é" * 20)], source="annotation").tolist() == [-1384670534764439444]
    assert ids_of([A]).dtype == np.int64


@pytest.mark.seed_defect(30)
def test_an_id_is_the_hash_that_is_written_down():
    texts = ["", "1", "-12.5", "1234567", "12345678", "123456789", "é" * 8, "x" * 16, "y" * 17, "z" * 40]
    rows = [(f"1.{place}", *triple) for place, triple in enumerate(itertools.product(texts, repeat=3))]
    assert ids_of(rows).tolist() == [by_hand(*row) for row in rows]
    assert ids_of([A, B, A, A]).tolist() == [by_hand(*A), by_hand(*B), by_hand(*A, number=1), by_hand(*A, number=2)]


@pytest.mark.seed_defect(30)
def test_equal_rows_have_ids_of_their_own():
    assert len(set(ids_of([A, A, B, A]).tolist())) == 4


@pytest.mark.seed_defect(30)
def test_equal_rows_are_counted_by_precedence_then_by_their_order():
    first, second, third = ids_of([A, A, A]).tolist()
    assert ids_of([A, A, A], precedence=[1, 0, 1]).tolist() == [second, first, third]


@pytest.mark.seed_defect(30)
def test_ids_outlive_other_rows():
    alone = ids_of([A])[0]
    assert ids_of([B, A, B])[1] == alone
    assert sorted(ids_of([B, A])) == sorted(ids_of([A, B]))
    assert ids_of([("0.1", "a" * 50, "b", ""), A])[1] == alone


@pytest.mark.parametrize("place", range(4))
def test_each_part_of_a_row_counts(place):
    other = list(A)
    other[place] += "0"
    assert ids_of([tuple(other)])[0] != ids_of([A])[0]
    assert ids_of([A], source="annotation")[0] != ids_of([A])[0]


def test_texts_split_elsewhere_differ():
    text = "1234567890"
    rows = [
        ("1.2", text[:first], text[first:second], text[second:]) for first in range(11) for second in range(first, 11)
    ]
    assert len(set(ids_of(rows).tolist())) == len(rows)
    assert len(set(ids_of([("1.2", "\0" * length, "", "") for length in range(20)]).tolist())) == 20


def test_a_million_rows_share_no_id():
    axis = np.array([f"{value / 10:.1f}" for value in range(-500, 500)], dtype=object)
    x, y = np.meshgrid(axis, axis, indexing="ij")
    columns = [pd.Series(values.ravel()) for values in (x, y)]
    uids = pd.Series(pd.Categorical.from_codes(np.zeros(1_000_000, dtype=np.int8), ["1.2.3"]))
    ids = candidate_ids(uids, columns, source="candidate", precedence=np.zeros(1_000_000))[0]
    # As with random numbers: of the 1,048,576 values of the top 20 bits 61.5 % occur.
    assert len(np.unique(ids)) == 1_000_000
    assert len(np.unique(ids >> 44)) == pytest.approx(1_048_576 * (1 - np.exp(-1_000_000 / 1_048_576)), rel=0.005)
    assert len(np.unique(ids & 0xFFFFF)) == pytest.approx(1_048_576 * (1 - np.exp(-1_000_000 / 1_048_576)), rel=0.005)


@pytest.mark.parametrize("length", [1, 5, 8, 9, 16, 23])
def test_one_changed_character_turns_half_of_the_bits(length):
    rng = np.random.default_rng(length)
    rows, changed = [], []
    for _ in range(2000):
        texts = ["".join(rng.choice(list("0123456789.-"), length)) for _ in range(3)]
        column, place = rng.integers(3), rng.integers(length)
        text = texts[column]
        other = text[:place] + chr(ord(text[place]) ^ 1) + text[place + 1 :]
        rows.append(("1.2.3", *texts))
        changed.append(("1.2.3", *texts[:column], other, *texts[column + 1 :]))
    turned = np.unpackbits((ids_of(rows) ^ ids_of(changed)).view(np.uint8).reshape(-1, 8), axis=1)
    assert turned.mean() == pytest.approx(0.5, abs=0.01)
    # Every bit changes as often as in 2,000 coin tosses.
    assert np.abs(turned.mean(axis=0) - 0.5).max() < 0.06


def test_no_rows_no_ids():
    empty = pd.Series([], dtype=object)
    assert candidate_ids(empty.astype("category"), [empty], source="candidate", precedence=np.empty(0))[0].shape == (0,)
