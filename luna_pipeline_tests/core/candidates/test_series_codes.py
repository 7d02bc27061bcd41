import numpy as np
import pandas as pd
import pytest

from luna_pipeline.core.candidates.series_codes import order_by_series, rows_by_series, series_codes

TEXT = pd.Series(["1.3", "1.2", "1.3", "1.10"])
COLUMNS = [
    TEXT,
    TEXT.astype("category"),
    # Unsorted, with two categories that do not occur.
    pd.Series(pd.Categorical(TEXT, categories=["9.9", "1.3", "1.10", "0.0", "1.2"])),
]


@pytest.mark.parametrize("column", COLUMNS)
def test_series_are_numbered_in_the_order_of_their_uids(column):
    codes, uids = series_codes(column)
    assert uids == ["1.10", "1.2", "1.3"]
    assert codes.tolist() == [2, 1, 2, 0]


@pytest.mark.parametrize("column", COLUMNS)
def test_each_series_has_its_rows(column):
    rows = {uid: places.tolist() for uid, places in rows_by_series(column).items()}
    assert list(rows.items()) == [("1.10", [3]), ("1.2", [1]), ("1.3", [0, 2])]


def test_an_index_of_another_kind_does_not_matter():
    assert rows_by_series(TEXT.set_axis([7, 7, 8, 9]))["1.3"].tolist() == [0, 2]


@pytest.mark.parametrize("kind", [object, "category"])
def test_no_rows_no_series(kind):
    column = pd.Series([], dtype=kind)
    assert series_codes(column)[1] == []
    assert rows_by_series(column) == {}


def test_more_series_than_a_byte_holds():
    uids = [f"1.{number}" for number in range(40_000)]
    codes, found = series_codes(pd.Series(uids[::-1]))
    assert [found[code] for code in codes[:300]] == uids[::-1][:300]
    assert {uid: rows.tolist() for uid, rows in rows_by_series(pd.Series(uids)).items()} == {
        uid: [row] for row, uid in enumerate(uids)
    }


def test_rows_are_ordered_by_series_then_by_id():
    rng = np.random.default_rng(0)
    codes, ids = rng.integers(0, 9, 1000).astype(np.int8), rng.permutation(1000) - 500
    np.testing.assert_array_equal(order_by_series(codes, ids), np.lexsort((ids, codes)))
