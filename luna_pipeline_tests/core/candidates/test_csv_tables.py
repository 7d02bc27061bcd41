import math

import numpy as np
import pandas as pd
import pytest

from luna_pipeline.core.candidates.csv_tables import parse_numbers, read_table
from luna_pipeline.core.candidates.table_places import find_table

WORLD = ("series_instance_uid", "x", "y", "z")


def table_of(tmp_path, text, columns=WORLD, **options):
    path = tmp_path / "table.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_table(path, columns, **options)


@pytest.mark.parametrize("header", ["seriesuid,coordX,coordY,coordZ", "series_instance_uid,coord_x,coord_y,coord_z"])
def test_both_spellings_are_read(tmp_path, header):
    table = table_of(tmp_path, f"{header}\n1.2.3,1,2,3\n")
    assert table.to_dict("records") == [{"series_instance_uid": "1.2.3", "x": "1", "y": "2", "z": "3", "line": 2}]


def test_text_stays_as_written(tmp_path):
    table = table_of(tmp_path, "seriesuid,coordX,coordY,coordZ\n1.2.3,-1.50,NaN,1e-3\n1.2.3,,abc,007\n")
    assert table[["x", "y", "z"]].to_numpy().tolist() == [["-1.50", "NaN", "1e-3"], ["", "abc", "007"]]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lines_are_those_of_the_file(tmp_path, end):
    lines = ["seriesuid,coordX,coordY,coordZ", "a,1,1,1", "", "b,2,2,2", "c,3", "", ""]
    table = table_of(tmp_path, end.join(lines))
    assert table.series_instance_uid.tolist() == ["a", "b", "c"]
    assert table.line.tolist() == [2, 4, 5]
    assert table.z.tolist() == ["1", "2", ""]


def test_spreadsheets_leave_marks_and_spaces_that_do_not_matter(tmp_path):
    text = b"\xef\xbb\xbfseriesuid, coordX ,coordY,coordZ,note\n 1.2.3 ,1,2,3,\xff\n"
    table = table_of(tmp_path, text)
    assert table.series_instance_uid.tolist() == ["1.2.3"]
    assert list(table.columns) == [*WORLD, "line"]


@pytest.mark.seed_defect(16)
def test_a_missing_column_is_named_with_those_found(tmp_path):
    with pytest.raises(ValueError, match=r"Column coordY, coordZ must be .* got seriesuid, coordX, y \(table.csv\)"):
        table_of(tmp_path, "seriesuid,coordX,y\n1.2.3,1,2\n")


def test_optional_columns_are_taken_where_they_are(tmp_path):
    assert "ratings" not in table_of(tmp_path, "seriesuid,mal_bool\na,True\n", WORLD[:1], optional=("ratings",))
    table = table_of(tmp_path, "seriesuid,mal_bool\na,True\n", WORLD[:1], optional=("ratings", "is_malignant"))
    assert table.is_malignant.tolist() == ["True"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "an empty file"),
        ("seriesuid,coordX\na,1\nb,1,2\n", "Expected 2 fields in line 3, saw 3"),
        ("seriesuid,coordX\na,1,2\nb,1\n", "as many values as the header"),
        ('seriesuid,coordX\na,"1\nb,1\n', r"A quote must be closed on its line, .* \(table.csv line 2\)"),
    ],
)
def test_a_file_that_is_no_table_is_refused_in_one_line(tmp_path, text, words):
    with pytest.raises(ValueError, match=words) as caught:
        table_of(tmp_path, text, ("series_instance_uid",))
    assert "table.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_table_without_rows_is_empty(tmp_path):
    table = table_of(tmp_path, "seriesuid,coordX,coordY,coordZ\n")
    assert len(table) == 0
    assert list(table.columns) == [*WORLD, "line"]


def test_numbers_are_told_from_words():
    text = pd.Series(["1.5", " -2 ", "1e3", "NaN", "inf", "-inf", "abc", "", "1_0", "1,5", "0x10"])
    values, is_number = parse_numbers(text)
    np.testing.assert_array_equal(values, [1.5, -2, 1000, *[np.nan], np.inf, -np.inf, *[np.nan] * 5])
    assert is_number.tolist() == [True] * 6 + [False] * 5


@pytest.mark.seed_defect(25)
def test_numbers_are_exact_to_the_last_bit():
    written = np.random.default_rng(0).uniform(-300, 300, 1000)
    values, is_number = parse_numbers(pd.Series([repr(value) for value in written.tolist()]))
    np.testing.assert_array_equal(values, written)
    assert is_number.all()


def test_not_a_number_among_numbers_only_is_still_one():
    values, is_number = parse_numbers(pd.Series(["1", "nan"]))
    assert is_number.all()
    assert math.isnan(values[1])


def test_the_first_file_that_is_there_counts(tmp_path):
    names = ("candidates_V2.csv", "candidates.csv")
    assert find_table(tmp_path, names) is None
    (tmp_path / names[1]).write_text("")
    assert find_table(tmp_path, names).name == names[1]
    (tmp_path / names[0]).write_text("")
    assert find_table(tmp_path, names).name == names[0]
