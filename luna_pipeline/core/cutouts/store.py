"""The cutouts of a series in one .npz: whole or not there, readable by numpy alone, mapped without a copy.

Members, in this order: ``ct_chunks`` int16 (N, *chunk_shape_irc) in HU, ``center_irc`` int32 (N, 3),
``center_xyz`` float64 (N, 3) in mm, ``candidate_id`` int64 (N,), ``header`` JSON as uint8. No labels: a new
label re-cuts nothing.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.cutouts.aligned_npz import (
    DamagedCutoutsError,
    Member,
    first_overwritten,
    locate_members,
    map_members,
    read_json,
    write_aligned_npz,
)
from luna_pipeline.core.cutouts.cutting import CuttingParameters
from luna_pipeline.core.cutouts.fingerprint import Fingerprint
from luna_pipeline.core.files import sweep_temporary_files, written_atomically

__all__ = ["CutoutStore", "CutoutWriteError", "DamagedCutoutsError", "SeriesCutouts", "build_header"]

FORMAT_VERSION = 1
_ARRAYS = {"ct_chunks": np.int16, "center_irc": np.int32, "center_xyz": np.float64, "candidate_id": np.int64}
_MEMBERS = (*_ARRAYS, "header")


class CutoutWriteError(OSError):
    """A file of cutouts that could not be written: full disk, no right, read-only folder."""


@dataclass(frozen=True, eq=False)
class SeriesCutouts:
    """The cutouts of one series.

    Attributes:
        ct_chunks: HU within the window, int16 (N, *chunk_shape_irc), axes index, row, col.
        center_irc: Voxel of each candidate in the CT, int32 (N, 3).
        center_xyz: World mm of each candidate, float64 (N, 3).
        candidate_id: int64 (N,).
        header: Geometry, parameters and fingerprints, as JSON knows them.

    Raises:
        ValueError: If dtypes differ, or the arrays are not of one length.
    """

    ct_chunks: NDArray[np.int16]
    center_irc: NDArray[np.int32]
    center_xyz: NDArray[np.float64]
    candidate_id: NDArray[np.int64]
    header: dict[str, Any]

    def __post_init__(self) -> None:
        got = {name: getattr(self, name) for name in _ARRAYS}
        count, chunk_shape = len(self.candidate_id), self.ct_chunks.shape[1:]
        shapes = {"ct_chunks": (count, *chunk_shape), "candidate_id": (count,)}
        is_right = all(
            array.dtype == _ARRAYS[name] and array.shape == shapes.get(name, (count, 3)) for name, array in got.items()
        )
        if not is_right or list(chunk_shape) != self.header.get("chunk_shape_irc"):
            found = ", ".join(f"{name} {array.dtype} {array.shape}" for name, array in got.items())
            msg = (
                "Cutouts must be int16, int32, float64 and int64 arrays of one length with the header's "
                f"chunk shape {self.header.get('chunk_shape_irc')}, got {found}. Cut with cut_chunks."
            )
            raise ValueError(msg)


def build_header(
    series_instance_uid: str, *, grid: VoxelGrid, parameters: CuttingParameters, fingerprint: Fingerprint
) -> dict[str, Any]:
    """Return what a file says about itself: enough to use it without the CT and the tables it came from."""
    return {
        "format_version": FORMAT_VERSION,
        "series_instance_uid": series_instance_uid,
        "spacing_mm": [float(value) for value in grid.spacing_mm],
        "origin_xyz": [float(value) for value in grid.origin_xyz],
        "direction": [float(value) for value in grid.direction],
        **parameters.as_dict(),
        "resampling": None,
        "fingerprints": fingerprint.as_dict(),
        "note": "research use only",
    }


@dataclass(frozen=True)
class CutoutStore:
    """A folder of cutouts, one file a series; several processes may write to it at once.

    Attributes:
        root: The folder; it is made by the first write.
    """

    root: Path

    def path(self, series_instance_uid: str) -> Path:
        """Return where the file of a series is or will be.

        Raises:
            ValueError: If the uid is not fit to be a file's name.
        """
        if not re.fullmatch(r"[0-9A-Za-z_-][0-9A-Za-z._-]{0,199}", series_instance_uid):
            msg = f"A series_instance_uid must be letters, digits, '.', '-', '_', got {series_instance_uid!r}."
            raise ValueError(f"{msg} Check the CT's header or the file's name.")
        return self.root / f"{series_instance_uid}.npz"

    def write(self, series_instance_uid: str, cutouts: SeriesCutouts) -> int:
        """Write the file of a series, whole or not at all, and return its number of bytes.

        Raises:
            ValueError: If the header is of another series.
            CutoutWriteError: If the disk is full or the folder cannot be written; what was there stays.
        """
        path = self.path(series_instance_uid)
        if cutouts.header.get("series_instance_uid") != series_instance_uid:
            msg = f"Cutouts must be of their file's series, got {cutouts.header.get('series_instance_uid')!r}"
            raise ValueError(f"{msg} (series {series_instance_uid}). Build the header for this series.")
        header = json.dumps(cutouts.header, allow_nan=False).encode()
        arrays = {name: np.ascontiguousarray(getattr(cutouts, name)) for name in _ARRAYS}
        try:
            with written_atomically(path) as file:
                write_aligned_npz(file, {**arrays, "header": np.frombuffer(header, dtype=np.uint8)})
                return file.tell()
        except OSError as error:
            msg = (
                f"Cutouts must be written whole, got {error.strerror or error} (series "
                f"{series_instance_uid}, folder {self.root}). Make room or make the folder writable, and cut "
                "again: what is done stays."
            )
            failure = CutoutWriteError(msg)
            failure.errno = error.errno
            raise failure from error

    def read(self, series_instance_uid: str) -> SeriesCutouts:
        """Return the cutouts of a series; ``ct_chunks`` is mapped from the file, read-only, and not copied.

        Raises:
            FileNotFoundError: If the series was not cut.
            DamagedCutoutsError: If the file is not whole, or not of this series.
        """
        with self._opened(series_instance_uid) as file:
            return _read(file, *self._described(file, series_instance_uid))

    def header(self, series_instance_uid: str) -> dict[str, Any]:
        """Return what the file says about itself; the chunks are not read.

        Raises:
            FileNotFoundError: If the series was not cut.
            DamagedCutoutsError: If the file is not whole, or not of this series.
        """
        with self._opened(series_instance_uid) as file:
            return self._described(file, series_instance_uid)[1]

    def digest(self, series_instance_uid: str) -> str | None:
        """Return the fingerprint's digest of a series, None where its file is absent or damaged."""
        try:
            return str(self.header(series_instance_uid)["fingerprints"]["digest"])
        except (FileNotFoundError, DamagedCutoutsError):
            return None

    def check(self, series_instance_uid: str) -> str | None:
        """Read the whole file and say in one line why it is damaged or missing; None where it is right."""
        try:
            with self._opened(series_instance_uid) as file:
                members, header = self._described(file, series_instance_uid)
                _read(file, members, header)
                name = first_overwritten(file, members)
        except (FileNotFoundError, DamagedCutoutsError) as error:
            return str(error)
        if name is None:
            return None
        path = self.path(series_instance_uid)
        msg = f"A file of cutouts must be as written, got another CRC of {name} ({path})."
        return f"{msg} Cut the series again."

    def uids(self) -> list[str]:
        """Return the series that have a file, sorted."""
        return sorted(path.name.removesuffix(".npz") for path in self.root.glob("[!.]*.npz"))

    def sweep(self, *, older_than_seconds: float = 3600.0) -> list[Path]:
        """Remove what killed writers left behind; see ``sweep_temporary_files``."""
        return sweep_temporary_files(self.root, older_than_seconds=older_than_seconds)

    def _opened(self, series_instance_uid: str) -> BinaryIO:
        """Open a file once for all that is read of it: another process may put a new one in its place."""
        try:
            return self.path(series_instance_uid).open("rb")
        except (FileNotFoundError, NotADirectoryError) as error:
            msg = f"A series must be cut before it is read, got no file (series {series_instance_uid},"
            raise FileNotFoundError(f"{msg} folder {self.root}). Run the job `cut`.") from error

    def _described(self, file: BinaryIO, series_instance_uid: str) -> tuple[dict[str, Member], dict[str, Any]]:
        members = locate_members(file, _MEMBERS)
        header = read_json(file, members["header"])
        expected = {"format_version": FORMAT_VERSION, "series_instance_uid": series_instance_uid}
        found = {name: header.get(name) for name in expected}
        is_complete = "digest" in header.get("fingerprints", ()) and "chunk_shape_irc" in header
        if found != expected or not is_complete:
            missing = "" if is_complete else " without fingerprint or chunk shape"
            msg = f"A file of cutouts must be of {expected}, got {found}{missing} ({file.name})."
            raise DamagedCutoutsError(f"{msg} Cut the series again.")
        return members, header


def _read(file: BinaryIO, members: dict[str, Member], header: dict[str, Any]) -> SeriesCutouts:
    row_shapes = {"ct_chunks": tuple(header["chunk_shape_irc"]), "candidate_id": ()}
    rows = {name: np.dtype((dtype, row_shapes.get(name, (3,)))) for name, dtype in _ARRAYS.items()}
    mapped = map_members(file, members, rows)
    small = {name: mapped[name].copy() for name in _ARRAYS if name != "ct_chunks"}
    try:
        return SeriesCutouts(ct_chunks=mapped["ct_chunks"], header=header, **small)
    except ValueError as error:
        raise DamagedCutoutsError(f"{error} ({file.name})") from error
