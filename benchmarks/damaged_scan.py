"""A real scan made small, and whether a CT that was read from a damaged copy of it is right."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray

from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.ct.reading import Ct, read_ct

NUM_SLICES, STRIDE = 24, 4
NUM_LANDMARKS = 400
TOLERANCE_MM = 0.1
RIGHT = "right"
Shifts = Mapping[int, tuple[float, float, float]]


@dataclass(frozen=True, eq=False)
class Scan:
    """Neighbouring slices of a DICOM series, every fourth row and column.

    Attributes:
        files: DICOM files in the order of the slices, as bytes.
        ct: What they hold, as pydicom gives it.
    """

    files: tuple[bytes, ...]
    ct: Ct
    _world_of_slice: dict[bytes, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        slices = {voxels.tobytes(): place for place, voxels in enumerate(self.ct.hounsfield)}
        object.__setattr__(self, "_world_of_slice", slices)

    @cached_property
    def landmarks(self) -> tuple[NDArray[np.float64], NDArray[np.int16]]:
        """World positions (N, 3) in mm of random voxels, and their HU (N,)."""
        draws = np.random.default_rng(0)
        voxels = np.stack([draws.integers(0, size, NUM_LANDMARKS) for size in self.ct.grid.size_irc], axis=-1)
        return self.ct.grid.voxel_to_world(voxels), self.ct.hounsfield[tuple(voxels.T)]

    def verdict(self, hounsfield: NDArray[Any], grid: VoxelGrid, shifts_mm: Shifts | None = None) -> str:
        """Return ``right``, or what is wrong with a CT that was read from a copy.

        It is right where each landmark in it lies within 0.1 mm of the centre of a voxel with its HU.

        Args:
            hounsfield: Voxels, (I, R, C).
            grid: Their grid.
            shifts_mm: How far slices of the copy lie from those of the scan, where its positions are the truth.
        """
        world, hu = self.landmarks
        slices = np.rint(self.ct.grid.world_to_voxel(world)[:, 0]).astype(int)
        places = grid.world_to_voxel(world + np.array([_shift(shifts_mm, place) for place in slices]))
        voxels = np.floor(places + 0.5).astype(int)
        inside = grid.contains(voxels)
        if not inside.any():
            return "wrong: nothing of the scan"
        off_mm = np.linalg.norm((places - voxels)[inside] * grid.spacing_irc, axis=1)
        found_hu = hounsfield[tuple(voxels[inside].T)]
        moved_mm = self._moved_mm(hounsfield, grid, shifts_mm)
        if moved_mm > TOLERANCE_MM:
            return f"wrong: voxels up to {moved_mm:.3g} mm off"
        if not np.array_equal(found_hu, hu[inside]):
            return f"wrong: HU up to {np.abs(found_hu.astype(float) - hu[inside]).max():.4g} off"
        return RIGHT if off_mm.max() <= TOLERANCE_MM else f"wrong: voxels {off_mm.max():.3g} mm off"

    def _moved_mm(self, hounsfield: NDArray[Any], grid: VoxelGrid, shifts_mm: Shifts | None) -> float:
        """Return how far a slice lies from its place, 0 where none is recognised."""
        corners = np.array([[0, 0], [0, 1], [1, 0], [1, 1]]) * (np.asarray(self.ct.grid.size_irc[1:]) - 1)
        moved = [0.0]
        for index, voxels in enumerate(hounsfield):
            place = self._world_of_slice.get(voxels.astype(np.int16).tobytes())
            if place is not None:
                found = grid.voxel_to_world([(index, row, col) for row, col in corners])
                expected = self.ct.grid.voxel_to_world([(place, row, col) for row, col in corners])
                off_mm = np.linalg.norm(found - expected - _shift(shifts_mm, place), axis=1)
                moved.append(float(off_mm.max()))
        return max(moved)


def _shift(shifts_mm: Shifts | None, place: int) -> NDArray[np.float64]:
    return np.asarray((shifts_mm or {}).get(place, (0.0, 0.0, 0.0)), dtype=np.float64)


def small_scan(folder: Path, scratch: Path) -> Scan:
    """Return the middle slices of a DICOM series, every fourth row and column, with their own headers otherwise.

    Args:
        folder: Folder of the series' files.
        scratch: Empty folder for the small series.
    """
    datasets = [pydicom.dcmread(path) for path in sorted(folder.glob("*.dcm"))]
    datasets.sort(key=lambda dataset: float(dataset.ImagePositionPatient[2]))
    first = (len(datasets) - NUM_SLICES) // 2
    files = tuple(_small(dataset) for dataset in datasets[first : first + NUM_SLICES])
    for place, content in enumerate(files):
        (scratch / f"{place:03d}.dcm").write_bytes(content)
    return Scan(files, read_ct(scratch, series_instance_uid=str(datasets[0].SeriesInstanceUID)))


def edited(content: bytes, **values: Any) -> bytes:
    """Return a DICOM file with other values, by keyword; None removes an attribute."""
    dataset = pydicom.dcmread(BytesIO(content))
    for keyword, value in values.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    return as_bytes(dataset)


def as_bytes(dataset: pydicom.Dataset) -> bytes:
    """Return the file of a data set."""
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _small(dataset: pydicom.Dataset) -> bytes:
    pixels = dataset.pixel_array[::STRIDE, ::STRIDE]
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.PixelSpacing = [float(mm) * STRIDE for mm in dataset.PixelSpacing]
    dataset.PixelData = np.ascontiguousarray(pixels).tobytes()
    return as_bytes(dataset)
