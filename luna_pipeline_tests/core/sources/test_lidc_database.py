"""The database of LIDC-IDRI's readers: what is read, and what is refused in one line."""

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from luna_pipeline.core.sources.lidc_database import (
    DATABASE_FILE,
    check_published_database,
    patients_of_series,
    read_lidc_database,
    read_lidc_scans,
)
from luna_pipeline_tests.lidc_databases import Mark, Scan, square, write_database

BALL = {4.0: square(10, 20, 2), 2.0: square(10, 20, 1)}


@pytest.fixture
def database(tmp_path: Path) -> Path:
    marks = [Mark(BALL, malignancy=5, holes={2.0: square(10, 20, 0)}), Mark({6.0: square(30, 20, 3)}, malignancy=1)]
    other = Scan("1.1", [Mark(BALL)], patient="LIDC-IDRI-9002", z_mm=(3.0, 1.0, 2.0))
    return write_database(tmp_path / DATABASE_FILE, [Scan("1.2", marks), other])


def test_marks_have_contours_by_z_with_inclusions_first(database: Path):
    first, second, third = read_lidc_database(database)
    assert [(mark.series_instance_uid, mark.mark_id) for mark in (first, second, third)] == [
        ("1.1", "3"),
        ("1.2", "1"),
        ("1.2", "2"),
    ]
    assert [(contour.z_mm, contour.is_inclusion) for contour in second.contours] == [
        (2.0, True),
        (2.0, False),
        (4.0, True),
    ]
    expected = [(9, 19), (10, 19), (11, 19), (11, 20), (11, 21), (10, 21), (9, 21), (9, 20), (9, 19)]
    np.testing.assert_array_equal(second.contours[0].points_cr, expected)
    assert second.contours[0].points_cr.dtype == np.int64
    assert (second.ratings["malignancy"], second.ratings["internal_structure"], second.reader) == (5, 3, -1)


def test_only_chosen_series_are_read(database: Path):
    assert [mark.mark_id for mark in read_lidc_database(database, {"1.1", "9.9"})] == ["3"]
    assert [scan.series_instance_uid for scan in read_lidc_scans(database, ["1.2"])] == ["1.2"]
    assert read_lidc_database(database, []) == []


def test_scans_have_ascending_positions(database: Path):
    scan, other = read_lidc_scans(database)
    assert scan.z_mm.tolist() == [1.0, 2.0, 3.0]
    assert (other.pixel_spacing_mm, other.slice_thickness_mm, other.is_contrast_used) == (0.5, 2.0, True)


def test_patients_are_found_in_the_folder_or_above_it(database: Path, tmp_path: Path):
    patients = {"1.2": "LIDC-IDRI-9001", "1.1": "LIDC-IDRI-9002"}
    (tmp_path / "luna16").mkdir()
    assert patients_of_series(tmp_path) == patients
    assert patients_of_series(tmp_path / "luna16") == patients
    assert patients_of_series(tmp_path / "luna16" / "subset0") == {}


def change(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(statement)


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE contours SET coords = '1,2' || char(10) || '3' WHERE id = 2", "column,row.*, got '1,2.*contour 2"),
        ("UPDATE contours SET coords = '1.5,2' WHERE id = 2", "column,row.*, got '1.5,2'.*contour 2"),
        ("UPDATE contours SET coords = '4095,4096' WHERE id = 2", "below 4096, got '4095,4096'.*contour 2"),
        ("UPDATE contours SET coords = '1,22222222222222222222' WHERE id = 2", "column,row.*got '1,2222.*contour 2"),
        ("UPDATE contours SET coords = NULL WHERE id = 2", "column,row.*, got 'None'.*contour 2"),
        ("UPDATE annotations SET malignancy = 6 WHERE id = 1", "1 to 5, got 6 for malignancy .annotation 1"),
        ("UPDATE annotations SET texture = NULL WHERE id = 2", "1 to 5, got None for texture .annotation 2"),
        ("DELETE FROM contours WHERE annotation_id = 2", "outline, got none .annotation 2"),
        ("ALTER TABLE annotations RENAME COLUMN texture TO structure", "got none named texture .table annotations"),
        ("DROP TABLE zvals", "got none named id, scan_id, val .table zvals"),
    ],
)
def test_a_wrong_database_is_refused_in_one_line(database: Path, statement: str, message: str):
    change(database, statement)
    with pytest.raises(ValueError, match=message) as error:
        read_lidc_database(database)
    assert "\n" not in str(error.value)
    assert "luna import_lidc_annotations" in str(error.value)


def test_files_that_are_no_database_are_refused(tmp_path: Path, database: Path):
    with pytest.raises(FileNotFoundError, match="got no file"):
        read_lidc_database(tmp_path / "missing.sqlite")
    text = tmp_path / "text.sqlite"
    text.write_text("seriesuid,coordX\n")
    with pytest.raises(ValueError, match=r"must be an SQLite file, got another one .text\.sqlite"):
        read_lidc_scans(text)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_truncated_database_is_refused_in_one_line(tmp_path: Path, share: float):
    outlines = {2.0 * index: square(200, 200, 60) for index in range(60)}
    path = write_database(tmp_path / "whole.sqlite", [Scan("1.2", [Mark(outlines)])])
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ValueError, match=r"LIDC-IDRI's database must be .*whole\.sqlite") as error:
        read_lidc_database(path)
    assert "\n" not in str(error.value)


def test_another_number_of_rows_is_not_the_published_database(database: Path):
    message = re.escape(f"1018 scans and 6859 annotations, got 2 and 3 ({DATABASE_FILE})")
    with pytest.raises(ValueError, match=message):
        check_published_database(database)
