"""Texture and calcification of candidates by readers, by hand."""

import pandas as pd
import pytest

from luna_pipeline.core.evaluation.reader_words import reader_words
from luna_pipeline.core.sources.source import READER_COLUMNS


def readers(textures, calcifications=(), *, uid="A", nodule=0, x_mm=0.0, diameter_mm=10.0) -> pd.DataFrame:
    """A nodule with one mark per texture."""
    count = len(textures)
    rows = pd.DataFrame({"texture": pd.array(textures, "Int8")}).reindex(columns=list(READER_COLUMNS))
    rows["calcification"] = pd.array([*calcifications, *[None] * (count - len(calcifications))], "Int8")
    return rows.assign(series_instance_uid=uid, nodule=nodule, x_mm=x_mm, y_mm=0.0, z_mm=0.0, diameter_mm=diameter_mm)


def words(table: pd.DataFrame, *places: float, uid="A") -> list[list[str | None]]:
    candidates = pd.DataFrame({"series_instance_uid": uid, "x_mm": places, "y_mm": 0.0, "z_mm": 0.0})
    found = reader_words(candidates, table)
    return [[None if pd.isna(word) else word for word in row] for row in found.to_numpy(dtype=object)]


@pytest.mark.parametrize(
    ("ratings", "texture"),
    [
        ([1, 2, 2, 5], "non-solid"),
        ([2, 3], "part-solid"),
        ([3, 3, 5], "part-solid"),
        ([3, 4], "part-solid"),
        ([4, 4, 1], "solid"),
        ([None, 5, None], "solid"),
        ([None, None], None),
    ],
)
def test_texture_is_the_median_of_the_readers(ratings, texture):
    assert words(readers(ratings), 0.0) == [[texture, None]]


@pytest.mark.parametrize(
    ("ratings", "calcification"),
    [([6, 6, 6], "not calcified"), ([6, 5, 6], "not calcified"), ([1, 6, 6, 3], "calcified"), ([5, None], "calcified")],
)
def test_a_nodule_is_calcified_by_half_of_the_readers(ratings, calcification):
    assert words(readers([5] * len(ratings), ratings), 0.0) == [["solid", calcification]]


def test_the_nearest_nodule_that_contains_a_candidate_counts():
    table = pd.concat([readers([1]), readers([5], nodule=1, x_mm=6.0, diameter_mm=4.0), readers([3], uid="B")])
    assert [texture for texture, _ in words(table, 0.0, 4.5, 5.0, 7.9, 8.0, -5.0)] == [
        *("non-solid", "solid", "solid", "solid"),
        *(None, None),
    ]
    assert words(table, 0.0, uid="B") == [["part-solid", None]]
    assert words(table, 0.0, uid="C") == [[None, None]]


def test_a_nodule_lies_at_the_mean_of_its_marks():
    table = pd.concat([readers([1], x_mm=-2.0, diameter_mm=4.0), readers([1], x_mm=2.0, diameter_mm=8.0)])
    assert [texture for texture, _ in words(table, 2.9, 3.0)] == ["non-solid", None]


def test_rows_keep_their_index_and_no_readers_say_nothing():
    candidates = pd.DataFrame({"series_instance_uid": ["A"], "x_mm": 0.0, "y_mm": 0.0, "z_mm": 0.0}, index=[7])
    assert reader_words(candidates, readers([4])).index.tolist() == [7]
    assert reader_words(candidates, readers([4]).iloc[:0]).isna().all().all()
