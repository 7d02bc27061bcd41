"""NoduleMNIST3D: 1,633 cutouts of nodules of LIDC-IDRI in one file, with the label benign or malignant."""

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd

from luna_pipeline.core.ct.catalogue import catalogue_of_rows
from luna_pipeline.core.ct.catalogue_rows import CATALOGUE_COLUMNS, GRID_COLUMNS, Row, odd_row
from luna_pipeline.core.ct.content_hash import file_states
from luna_pipeline.core.ct.errors import failure_of
from luna_pipeline.core.ct.formats.nodulemnist3d import (
    EDGE_VOXELS,
    GRAY_NOTE,
    SPLITS,
    grid_of,
    nodule_in,
    num_nodules,
    place_of,
    read_labels,
    uid_of,
)
from luna_pipeline.core.sources.card import SourceCard
from luna_pipeline.core.sources.source import DataSource, SourceTables
from luna_pipeline.core.storage.regular_files import is_regular, open_regular, shown_name

# The first fold is the test fold and the next one the validation fold, unless others are chosen.
_FOLDS = ("test", "val", "train")
_MD5 = {
    "nodulemnist3d.npz": "8755a7e9e05a4d9ce80a24c3e7a256f3",
    "nodulemnist3d_64.npz": "c47c5b7d457bf6332200d2ea6d64ecd8",
}


class NoduleMnist3d(DataSource):
    """Cubes of 28 or 64 mm around nodules; each is a series of its own, and its centre is the candidate."""

    card: ClassVar[SourceCard] = SourceCard(
        name="nodulemnist3d",
        title="NoduleMNIST3D (MedMNIST 3.0.2)",
        licence="CC BY 4.0 (cutouts and labels); made from LIDC-IDRI, CC BY 3.0",
        citation="Yang et al., Scientific Data 10:41 (2023), doi:10.1038/s41597-022-01721-8",
        address="https://zenodo.org/records/10519652",
        size="1,633 nodules (1,158 training, 165 validation, 310 test); unpacked 36 MB (28 voxels) or 428 MB (64)",
        layout="One of nodulemnist3d.npz and nodulemnist3d_64.npz at the top.",
        traps=(
            "Gray values 0 to 255, not HU: the range of HU that they were made from is not published.",
            "No patients and no positions: nodules of a patient lie in training and test; leak state: unknown.",
            "Its nodules are LIDC-IDRI's: a model trained on LUNA16 or LIDC-IDRI has seen most of its test nodules.",
            "Labels are ratings, not diagnoses: 1 for ratings of 4 or 5, 0 for 1 or 2; nodules rated 3 are left out.",
            "All nodules are nodules: there are no candidates of class 0, so it trains no nodule classifier.",
            "Files of MedMNIST before 2022 have the same names and 526 test nodules; the md5 tells them apart.",
        ),
        checksums=_MD5,
    )

    def is_at(self, root: Path) -> bool:
        """Return whether one of the two files is there."""
        return any(is_regular(root / name) for name in EDGE_VOXELS)

    def is_scan(self, path: Path) -> bool:
        """Return False: the nodules are in one file, which ``catalogue`` reads."""
        return False

    def catalogue(
        self, root: Path, *, data_root: Path, patient_key: bytes, kept: pd.DataFrame | None = None
    ) -> pd.DataFrame:
        """List the nodules, from the arrays' headers alone; a file that cannot be read is one row with the reason.

        Raises:
            FileNotFoundError: If neither file is there.
            ValueError: If both are there.
        """
        path = _file_in(root)
        try:
            numbers = num_nodules(path)
        except Exception as error:
            row = odd_row(path, data_root, failure_of(error, shown_name(path)))
            return catalogue_of_rows([{column: row[column] for column in CATALOGUE_COLUMNS}])
        status = path.stat()
        grid = grid_of(EDGE_VOXELS[path.name])
        common: Row = dict.fromkeys(CATALOGUE_COLUMNS) | {
            "format": "nodulemnist3d",
            "path": path.relative_to(data_root).as_posix(),
            **{column: list(getattr(grid, column)) for column in GRID_COLUMNS},
            "num_bytes": int(np.prod(grid.size_irc)),
            "is_readable": True,
            "notes": GRAY_NOTE,
        }
        state = f"{path.name}\0{status.st_size}\0{status.st_mtime_ns}"
        uids = sorted(uid_of(split, index) for split, number in numbers.items() for index in range(number))
        return catalogue_of_rows(
            [common | {"series_instance_uid": uid, "fingerprint": _fingerprint(uid, state)} for uid in uids]
        )

    def tables(self, root: Path, catalogue: pd.DataFrame) -> SourceTables:
        """Return the centre of each nodule as a candidate of class 1 with its label.

        Raises:
            FileNotFoundError: If neither file is there.
            ValueError: If both are there, the labels are damaged, or the file has fewer nodules than the catalogue.
        """
        path = _file_in(root)
        readable = catalogue.loc[catalogue["is_readable"].astype(bool), "series_instance_uid"].tolist()
        labels = {split: read_labels(path, split) for split in SPLITS} if readable else {}
        places = [place_of(uid, path) for uid in readable]
        is_malignant = [bool(nodule_in(labels[split], split, index, path)) for split, index in places]
        # The voxel from which cutting counts: a cube's own size is cut whole.
        center_mm = float(EDGE_VOXELS[path.name] // 2)
        candidates = pd.DataFrame(
            {
                "series_instance_uid": readable,
                **dict.fromkeys(("x_mm", "y_mm", "z_mm"), center_mm),
                "class": 1,
                "is_malignant": pd.array(is_malignant, dtype="boolean"),
            }
        )
        return SourceTables(candidates=candidates, notes=_notes(path, candidates))

    def folds(self, root: Path, catalogue: pd.DataFrame) -> Mapping[str, int]:
        """Return the published split: 0 test, 1 validation, 2 training, so that defaults train as published."""
        path = _file_in(root)
        readable = catalogue.loc[catalogue["is_readable"].astype(bool), "series_instance_uid"]
        return {uid: _FOLDS.index(place_of(uid, path)[0]) for uid in readable}


def _file_in(root: Path) -> Path:
    found = [root / name for name in EDGE_VOXELS if is_regular(root / name)]
    if not found:
        names = " or ".join(EDGE_VOXELS)
        raise FileNotFoundError(f"The folder must hold {names}, got neither ({root}). Copy one of them there.")
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise ValueError(f"The folder must hold one size of NoduleMNIST3D, got {names} ({root}). Keep one of them.")
    return found[0]


def _fingerprint(uid: str, state: str) -> str:
    """Return the catalogue's fingerprint of a nodule: other nodules of the file have others."""
    return hashlib.sha256(f"{uid}\n{state}".encode()).hexdigest()


def _notes(path: Path, candidates: pd.DataFrame) -> tuple[str, ...]:
    num_malignant = int(candidates["is_malignant"].sum())
    counts = f"{len(candidates)} nodules, {num_malignant} malignant by ratings of 4 or 5"
    patients = "The patients of its nodules are not published: no check can find one in two folds (leak: unknown)."
    md5 = _md5_of(path, tuple(file_states([path])))
    notes = [f"NoduleMNIST3D: {counts}.", GRAY_NOTE, f"Warning: {patients}"]
    if md5 != _MD5[path.name]:
        rule = f"{path.name} should have the published md5 {_MD5[path.name]}, got {md5}"
        notes.append(f"Warning: {rule}. Download it again, unless it is another edition or a synthetic twin.")
    return tuple(notes)


@lru_cache(maxsize=4)
def _md5_of(path: Path, _states: tuple[tuple[str, int, int, int], ...]) -> str:
    with open_regular(path) as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
