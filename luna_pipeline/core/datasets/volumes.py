"""Whole CTs in axial view for training, memory-mapped: only the voxels of a crop are read."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from luna_pipeline.core.ct.catalogue import grid_of_row
from luna_pipeline.core.ct.errors import UnreadableCtError
from luna_pipeline.core.ct.file_maps import map_of, mapped_file
from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.ct.orientation import AxialView
from luna_pipeline.core.ct.plausible_hu import check_plausible_hu
from luna_pipeline.core.ct.reading import read_ct
from luna_pipeline.core.storage.files import written_atomically

_DTYPE = np.dtype("<i2")


@dataclass(frozen=True, eq=False, slots=True)
class Volume:
    """A CT in axial view (index towards the head, row towards the back, col towards the patient's left).

    Attributes:
        hounsfield: int16 (I, R, C), mapped.
        grid: Grid of the view.
    """

    hounsfield: NDArray[np.int16]
    grid: VoxelGrid


@dataclass(frozen=True, eq=False)
class CtVolumes:
    """The CTs of a catalogue.

    Raw int16 files are mapped where they are. Packed files and DICOM series are decoded once, into a file below
    ``cache_dir`` that is named by the CT's fingerprint, and that file is mapped.

    Attributes:
        data_root: Folder that the catalogue's paths are relative to; only read.
        cache_dir: Local folder of the decoded CTs; may be removed at any time.
        rows: Readable rows of the catalogue by series.
    """

    data_root: Path
    cache_dir: Path
    rows: dict[str, dict[str, Any]] = field(repr=False)

    @classmethod
    def of_catalogue(cls, catalogue: pd.DataFrame, *, data_root: Path, cache_dir: Path) -> "CtVolumes":
        """Return the readable CTs of a catalogue (``catalogue_series``)."""
        readable = catalogue[catalogue["is_readable"].astype(bool)]
        rows = {str(row["series_instance_uid"]): row for row in readable.to_dict("records")}
        return cls(data_root, cache_dir, rows)  # type: ignore[arg-type]

    def fingerprint(self, series_instance_uid: str) -> str:
        """Return the catalogue's fingerprint of a CT's files."""
        return str(self._row(series_instance_uid)["fingerprint"])

    def grid(self, series_instance_uid: str) -> VoxelGrid:
        """Return the grid of the axial view, from the catalogue alone."""
        return AxialView(grid_of_row(self._row(series_instance_uid))).grid

    def read(self, series_instance_uid: str) -> Volume:
        """Return a CT, mapped.

        Raises:
            UnreadableCtError: If it is not in the catalogue, cannot be read, holds no HU, or has another grid than its
                catalogue row.
            OSError: If a decoded CT cannot be written.
        """
        row = self._row(series_instance_uid)
        view = AxialView(grid_of_row(row))
        decoded = self.cache_dir / "volumes" / f"{row['fingerprint']}.i2"
        if _has_bytes(decoded, view.original):
            return Volume(view.of(_mapped(decoded, view.original)), view.grid)
        ct = read_ct(self.data_root / row["path"], series_instance_uid=series_instance_uid)
        where = f"{row['path']}, series {series_instance_uid}"
        if ct.grid != view.original:
            msg = f"A CT must be as catalogued, got another grid ({where})."
            raise UnreadableCtError(f"{msg} Run `luna create_cutouts --index-only`, or materialize `ct_series`.")
        if ct.is_hounsfield:
            check_plausible_hu(ct.hounsfield, where=where)
        voxels: NDArray[np.int16] = ct.hounsfield
        if map_of(voxels) is None:
            with written_atomically(decoded, is_synced=False) as file:
                file.write(np.ascontiguousarray(voxels, dtype=_DTYPE).tobytes())
            voxels = _mapped(decoded, ct.grid)
        return Volume(view.of(voxels), view.grid)

    def _row(self, uid: str) -> dict[str, Any]:
        if uid not in self.rows:
            msg = f"A series must be in the catalogue, got {uid} (of {len(self.rows)} readable series)."
            raise UnreadableCtError(f"{msg} Check the uid, or materialize `ct_series` again.")
        return self.rows[uid]


def _has_bytes(file: Path, grid: VoxelGrid) -> bool:
    try:
        return file.stat().st_size == _DTYPE.itemsize * int(np.prod(grid.size_irc))
    except OSError:
        return False


def _mapped(file: Path, grid: VoxelGrid) -> NDArray[np.int16]:
    return np.frombuffer(mapped_file(file), dtype=_DTYPE).reshape(grid.size_irc)
