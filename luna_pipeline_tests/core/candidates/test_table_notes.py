"""Rows that vanish are reported: those without a CT, rejected, doubled, negated, and tables that are not read."""

import os

import numpy as np
import pytest

from luna_pipeline.core.candidates.tables import build_candidates
from luna_pipeline.core.ct.catalogue import catalogue_series
from luna_pipeline.core.storage.tables import check_table
from luna_pipeline_tests.phantoms import random_hounsfield, write_ct, write_tables

A, B, C = "1.2.840.1", "1.2.840.2", "1.2.840.3"
# 20 x 20 x 20 mm, away from the origin in x and y.
ORIGIN = (40.0, 60.0, -10.0)
INSIDE = (50.0, 70.0, 0.0)


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory):
    root = tmp_path_factory.mktemp("cts")
    for uid in (A, B, C):
        write_ct(root, uid, random_hounsfield((20, 20, 20)), origin_xyz=ORIGIN, spacing_mm=(1.0, 1.0, 1.0))
    return catalogue_series(root, patient_key=b"key")


@pytest.fixture
def notes_of(tmp_path, catalogue):
    def run(**tables):
        write_tables(tmp_path, **tables)
        return build_candidates(tmp_path, catalogue).notes

    return run


def rows(*uids, point=INSIDE, value=0, number=1):
    return [(uid, point[0] + place, *point[1:], value) for uid in uids for place in range(number)]


def test_tables_in_which_everything_belongs_to_a_ct_have_no_notes(notes_of):
    assert notes_of(candidates=rows(A, B, C), annotations=rows(A, value=5)) == ()


def test_many_rows_of_absent_cts_are_one_line_and_no_warning(notes_of):
    notes = notes_of(candidates=rows(A, B, C, *(f"1.2.840.{number}" for number in range(10, 99)), number=2))
    assert notes == (
        "candidates_V2.csv: 6 of 184 rows belong to 3 of 3 readable CTs; 89 of 92 series of the table have no CT.",
    )


def test_few_is_a_share_of_the_cts_and_not_of_the_rows(notes_of):
    assert notes_of(candidates=rows(A, number=9)) == ("Warning: 2 of 3 readable CTs have no row in any table.",)
    assert notes_of(candidates=rows(A), annotations=rows(B, value=5)) == (
        "1 of 3 readable CTs have no row in any table.",
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("{}.mhd", "they end in '.mhd'. Remove that"),
        ("'{}", 'they begin with "\'". Remove that'),
        ("{}.nii.gz", "they end in '.nii.gz'"),
        ("1.3E+51", "a spreadsheet has made numbers of them"),
        ("9.9.9.9", "'9.9.9.9' in the table, '1.2.840.1' of the CTs."),
    ],
)
def test_uids_that_match_no_ct_are_shown_beside_those_of_the_cts(notes_of, change, words):
    counts, differ = notes_of(candidates=rows(*(change.format(uid) for uid in (A, B, C))))
    assert "Warning: candidates_V2.csv: 0 of 3 rows belong to 0 of 3 readable CTs" in counts
    assert differ.startswith("Warning: candidates_V2.csv: series uids differ: ")
    assert words in differ


def test_some_uids_that_differ_are_warned_of_too(notes_of):
    notes = notes_of(candidates=rows(A, B, f"{C}.mhd"))
    assert any("they end in '.mhd'" in note and note.startswith("Warning") for note in notes)


@pytest.mark.parametrize(
    "tables",
    [
        {"candidates": rows(f"{A}.mhd")},
        {"candidates": rows("9.9.9"), "annotations": rows("9.9.8", value=5)},
        {"candidates": []},
        {"annotations": []},
        {"candidates": rows(A, point=(0, 0, 0))},
    ],
)
def test_tables_without_a_usable_row_are_refused(tmp_path, catalogue, tables):
    write_tables(tmp_path, **tables)
    built = build_candidates(tmp_path, catalogue)
    with pytest.raises(ValueError, match=r"must hold candidates or annotations of readable CTs, got \d rows and none"):
        built.require_rows()


def test_one_usable_row_is_enough(tmp_path, catalogue):
    write_tables(tmp_path, candidates=rows(A))
    built = build_candidates(tmp_path, catalogue)
    built.require_rows()
    assert built.counts["kept"] == 1


def test_rejected_rows_are_counted_by_reason_with_the_first_lines_and_value(notes_of):
    bad = [(A, "abc", 0, 0, 0), (A, *INSIDE, "nodule"), (A, 50, "inf", 0, 0), (A, 0, 0, 0, 0)]
    notes = notes_of(
        candidates=[*rows(A, B, C), *bad, *[(A, "x" * 99, 0, 0, 0)] * 6],
        annotations=[(A, *INSIDE, "-3"), (A, *INSIDE, 2e5)],
    )
    assert [note for note in notes if note.startswith("Rejected")] == [
        "Rejected 7 rows of candidates_V2.csv: coordinate is not a number, got 'abc' (line 5, 9, 10, 11, 12, ...).",
        "Rejected 1 rows of candidates_V2.csv: class is not 0 or 1, got 'nodule' (line 6).",
        "Rejected 1 rows of candidates_V2.csv: coordinate is not finite, got 'inf' (line 7).",
        "Rejected 1 rows of candidates_V2.csv: outside the CT, got (0, 0, 0) mm (line 8).",
        "Rejected 1 rows of annotations.csv: diameter is not a positive number of mm, got '-3' (line 2).",
        "Rejected 1 rows of annotations.csv: diameter is 100,000 mm or more, got '200000.0' (line 3).",
    ]


def test_doubled_rows_are_counted_whatever_their_class(notes_of):
    notes = notes_of(candidates=[*rows(A, B, C, number=3), *rows(A, number=2), *rows(B, value=1)])
    assert notes == ("Warning: candidates_V2.csv: 3 rows are there twice, and kept. Remove them if unintended.",)
    assert any("annotations.csv: 1 rows are there twice" in note for note in notes_of(annotations=rows(A, A, value=5)))


@pytest.mark.parametrize("words", [("True", "False"), ("TRUE", "FALSE"), ("true", " false")])
def test_booleans_are_classes(tmp_path, catalogue, words):
    write_tables(tmp_path, candidates=[*rows(A, value=words[0]), *rows(B, value=words[1]), *rows(C, value=1)])
    built = build_candidates(tmp_path, catalogue)
    assert built.candidates["class"].tolist() == [1, 0, 1]
    assert built.notes == ("candidates_V2.csv: 2 rows have True or False as class, read as 1 and 0.",)


def test_a_diameter_is_no_boolean(notes_of):
    assert any(
        "diameter is not a positive number" in note for note in notes_of(annotations=rows(A, B, C, value="True"))
    )


@pytest.mark.parametrize(
    ("point", "words"),
    [
        ((-50, -70, 0), "with x and y negated 3 would lie inside (RAS instead of LPS?)"),
        ((0, 70, 50), "with x and z exchanged 3 would lie inside"),
        ((10, 11, 12), "as voxels (column, row, slice) 3 would lie inside"),
    ],
)
def test_other_coordinates_than_lps_mm_are_recognised(notes_of, point, words):
    notes = notes_of(candidates=[*rows(A, B, C), *rows(A, B, C, point=point)])
    assert any(f"Warning: candidates_V2.csv: 3 of 6 rows lie outside their CT; {words}" in note for note in notes)


def test_rows_that_are_simply_outside_have_no_such_note(notes_of):
    assert not any("lie outside their CT" in note for note in notes_of(candidates=rows(A, point=(500, 500, 500))))


def test_negated_rows_inside_a_ct_around_the_origin_are_recognised(tmp_path):
    write_ct(tmp_path, A, random_hounsfield((20, 40, 40)), origin_xyz=(-20, -20, -10), spacing_mm=(1.0, 1.0, 1.0))
    catalogue = catalogue_series(tmp_path, patient_key=b"key")
    points = np.array([(9.0, 5.0, 0.0), (-8.0, 6.0, 1.0), (3.0, -9.0, 2.0)])
    write_tables(tmp_path, annotations=[(A, *point, 4) for point in points.tolist()])
    write_tables(tmp_path, candidates=[(A, *point, 1) for point in (points * (-1, -1, 1)).tolist()])
    (note,) = build_candidates(tmp_path, catalogue).notes
    assert "3 of 3 rows of class 1 lie in no annotation; with x and y negated 3 would" in note
    write_tables(tmp_path, candidates=[(A, *point, 1) for point in points.tolist()])
    assert build_candidates(tmp_path, catalogue).notes == ()


@pytest.mark.parametrize(
    "place",
    [
        "candidates_V2/candidates_V2.csv",
        "candidates_V2.csv/candidates_V2.csv",
        "Candidates_v2.csv",
        "candidates_V2.csv.gz",
    ],
)
def test_a_table_that_is_not_read_is_named(tmp_path, catalogue, place):
    write_tables(tmp_path, candidates=rows(A, B, C))
    (tmp_path / "candidates_V2.csv").rename(tmp_path / "moved")
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / "moved").rename(tmp_path / place)
    with pytest.raises(FileNotFoundError, match=rf"got neither .*_V2.csv must be .* got .*{place}: it is not"):
        build_candidates(tmp_path, catalogue)
    (tmp_path / "candidates.csv").write_text(f"seriesuid,coordX,coordY,coordZ,class\n{A},50,70,0,0\n")
    assert any(f"got {place}: it is not read" in note for note in build_candidates(tmp_path, catalogue).notes)


def test_odd_files_with_a_tables_name_are_named_and_cost_nothing(notes_of, tmp_path):
    os.mkfifo(tmp_path / "candidates_V2.csv")
    (tmp_path / "luna16_subsets.csv").symlink_to(tmp_path / "gone")
    notes = notes_of(annotations=rows(A, B, C, value=5))
    assert notes == (
        "Warning: candidates_V2.csv must be a regular file, got a FIFO: it is not read. Replace it.",
        "Warning: luna16_subsets.csv must be a regular file, got a dangling link: it is not read. Replace it.",
    )


def test_a_second_version_of_the_candidates_is_no_misplaced_table(notes_of, tmp_path):
    (tmp_path / "candidates.csv").write_text("seriesuid,coordX,coordY,coordZ,class\n")
    assert notes_of(candidates=rows(A, B, C)) == ()


def test_ratings_of_series_that_do_not_match_are_reported(notes_of):
    rating = [(f"{A}.mhd", *INSIDE, 5, True, "[4]")]
    notes = notes_of(candidates=rows(A, B, C), malignancy=rating)
    assert len(notes) == 2
    assert all(note.startswith("Warning: annotations_with_malignancy.csv: ") for note in notes)


def test_a_uid_of_another_form_costs_its_rows_and_not_the_run(tmp_path, catalogue):
    """A catalogue of an older version may hold such uids."""
    odd = "9" * 65
    catalogue = catalogue.assign(series_instance_uid=catalogue["series_instance_uid"].replace({A: odd, B: "a b"}))
    write_tables(tmp_path, candidates=rows(odd, "a b", C))
    built = build_candidates(tmp_path, catalogue)
    check_table("candidates", built.candidates)
    assert built.candidates["series_instance_uid"].tolist() == [C]
    assert any("Rejected 2 rows of" in note and "uid is not 1 to 64 characters" in note for note in built.notes)


def test_a_row_far_away_costs_itself_and_not_the_run(tmp_path, catalogue):
    write_tables(tmp_path, candidates=[*rows(A, point=(150_000.0, 70.0, 0.0)), *rows(B, C)])
    built = build_candidates(tmp_path, catalogue)
    check_table("candidates", built.candidates)
    assert len(built.candidates) == 2
    assert any("outside the CT, got (150000.0, 70.0, 0.0) mm (line 2)" in note for note in built.notes)
