"""Where the tables of a data root are, and tables that are not read because they are elsewhere."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from luna_pipeline.core.storage.regular_files import is_regular, kind_of, shown_name

# Accepted file names; the first existing one is read.
CANDIDATE_FILES = ("candidates_V2.csv", "candidates.csv")
ANNOTATION_FILES = ("annotations.csv",)
MALIGNANCY_FILES = ("annotations_with_malignancy.csv",)
SUBSET_FILES = ("luna16_subsets.csv",)
EXCLUDED_FILES = ("annotations_excluded.csv", "annotations_excluded.csv.gz")
SCAN_FILES = ("seriesuids.csv", "seriesuids.csv.gz")

_KINDS = (CANDIDATE_FILES, ANNOTATION_FILES, MALIGNANCY_FILES, SUBSET_FILES)
# Endings that programs and packers add to a name.
_MORE_ENDINGS = ("", ".gz", ".csv", ".txt", ".zip", ".xlsx")


def find_table(data_root: Path, names: Sequence[str]) -> Path | None:
    """Return the first of the files that is there, None without one."""
    return next((data_root / name for name in names if is_regular(data_root / name)), None)


def find_misplaced(data_root: Path) -> list[str]:
    """Find tables that are not read, since they are one folder too deep, or have another name or kind of file.

    Args:
        data_root: Folder whose top should hold the tables.

    Returns:
        A line for each.
    """
    entries = sorted(_entries(data_root), key=lambda path: path.name)
    folders = [path for path in entries if path.is_dir()]
    lines: list[str] = []
    for names in _KINDS:
        found = find_table(data_root, names)
        # A table after the one that is read would not be read at the top either.
        for name in names[: names.index(found.name)] if found else names:
            lines += _misplaced(name, entries, folders)
    return lines


def _entries(folder: Path) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        yield from (Path(entry.path) for entry in entries)


def _misplaced(name: str, entries: Sequence[Path], folders: Sequence[Path]) -> Iterator[str]:
    alike = {f"{stem}{ending}".lower() for stem in (name, Path(name).stem) for ending in _MORE_ENDINGS} - {
        Path(name).stem.lower()
    }
    for path in entries:
        if path.name == name:
            yield f"{name} must be a regular file, got {kind_of(path)}: it is not read. Replace it."
        elif path.name.lower() in alike and is_regular(path):
            yield f"{name} must be at the top of the data folder, got {path.name}: it is not read. Rename or unpack it."
    for folder in folders:
        if is_regular(folder / name):
            place = f"{shown_name(folder)}/{name}"
            yield f"{name} must be at the top of the data folder, got {place}: it is not read. Move it."
