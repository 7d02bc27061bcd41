"""Tables of a data source in LUNA16's form: the files that candidates, folds and official scores are made from."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from luna_pipeline.core.candidates.csv_columns import SPELLINGS
from luna_pipeline.core.candidates.csv_content import read_content
from luna_pipeline.core.candidates.csv_tables import read_table
from luna_pipeline.core.candidates.table_places import (
    ANNOTATION_FILES,
    CANDIDATE_FILES,
    EXCLUDED_FILES,
    MALIGNANCY_FILES,
    SCAN_FILES,
    SUBSET_FILES,
    find_table,
)
from luna_pipeline.core.sources.source import CANDIDATE_COLUMNS, NODULE_COLUMNS, RATED_COLUMNS, SourceTables
from luna_pipeline.core.sources.table_rules import ratings_of
from luna_pipeline.core.storage.files import write_bytes

_OURS = {"x": "x_mm", "y": "y_mm", "z": "z_mm"}
_READ = ("series_instance_uid", "x", "y", "z")


def read_luna16_form(root: Path) -> SourceTables:
    """Read the tables of a folder in LUNA16's form as text; rows are validated when the candidates are made.

    Args:
        root: Folder with ``annotations.csv`` and the like; each is optional.

    Raises:
        ValueError: If a table lacks a column.
    """
    scans = find_table(root, SCAN_FILES)
    return SourceTables(
        annotations=_read(root, ANNOTATION_FILES, ("diameter_mm",)),
        candidates=_read(root, CANDIDATE_FILES, ("class",), ("is_malignant",)),
        excluded=_read(root, EXCLUDED_FILES, ("diameter_mm",)),
        ratings=_read(root, MALIGNANCY_FILES, ("diameter_mm",), ("is_malignant", "ratings")),
        scans=None if scans is None else _scans(scans),
    )


def luna16_form(tables: SourceTables, folds: Mapping[str, int]) -> dict[str, bytes]:
    """Return tables as files in LUNA16's form, by name; numbers are read back as the same float64.

    Args:
        tables: Tables of one source or of several together.
        folds: Fold by series, for ``luna16_subsets.csv``; empty for none.
    """
    rated = tables.ratings
    if rated is not None and "ratings" in rated:
        rated = rated.assign(ratings=[value if isinstance(value, str) else _text(value) for value in rated["ratings"]])
    files = {
        ANNOTATION_FILES[0]: (tables.annotations, NODULE_COLUMNS),
        CANDIDATE_FILES[0]: (tables.candidates, (*CANDIDATE_COLUMNS, "is_malignant")),
        EXCLUDED_FILES[0]: (tables.excluded, NODULE_COLUMNS),
        MALIGNANCY_FILES[0]: (rated, RATED_COLUMNS),
    }
    made = {name: _csv(table, columns) for name, (table, columns) in files.items() if table is not None}
    if tables.scans is not None:
        made[SCAN_FILES[0]] = "".join(f"{uid}\n" for uid in tables.scans).encode()
    if folds:
        subsets = pd.DataFrame({"series_instance_uid": list(folds), "subset": list(folds.values())})
        made[SUBSET_FILES[0]] = _csv(subsets, ("series_instance_uid", "subset"))
    return made


def write_luna16_form(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write the files of ``luna16_form``; each is replaced atomically, and those of earlier tables are removed."""
    for name in (ANNOTATION_FILES, CANDIDATE_FILES, EXCLUDED_FILES, MALIGNANCY_FILES, SCAN_FILES, SUBSET_FILES):
        if name[0] in files:
            path = folder / name[0]
            # An unchanged file keeps its time: what depends on it stays up to date.
            if not path.exists() or path.read_bytes() != files[name[0]]:
                write_bytes(path, files[name[0]])
        else:
            (folder / name[0]).unlink(missing_ok=True)


def _read(root: Path, names: Sequence[str], values: Sequence[str], optional: Sequence[str] = ()) -> pd.DataFrame | None:
    path = find_table(root, names)
    if path is None:
        return None
    return read_table(path, (*_READ, *values), optional=optional).rename(columns=_OURS).drop(columns="line")


def _scans(path: Path) -> list[str]:
    text = bytes(read_content(path, first_line="a scan in each line")).decode("utf-8-sig")
    return [uid for line in text.splitlines() if (uid := line.split(",")[0].strip())]


def _text(ratings: Any) -> str:
    return " ".join(str(rating) for rating in ratings_of(ratings) or ())


def _csv(table: pd.DataFrame, columns: Sequence[str]) -> bytes:
    ours = {name: short for short, name in _OURS.items()}
    known = [name for name in columns if name in table]
    names = {name: SPELLINGS[ours.get(name, name)][0] for name in known}
    return table[known].rename(columns=names).to_csv(index=False, lineterminator="\n").encode()
