"""Diagnoses of small DICOM series with hand-made nodules."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from luna_pipeline.core.ct.formats.dicom_series import DicomReader
from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.diagnosis.result import Diagnosis, Nodule
from luna_pipeline_tests.core.ct.formats.enhanced_dicom import write_enhanced_ct
from luna_pipeline_tests.core.diagnosis.examples import FLIPPED, IDENTITY, diagnosis, nodule
from luna_pipeline_tests.phantoms import random_direction, random_hounsfield, write_dicom_series

UID = "1.2.3"
SIZE_IRC = (12, 24, 20)
# Columns point to the back, rows to the feet, slices to the right.
SAGITTAL = (0.0, 0.0, -1.0, 1.0, 0.0, 0.0, 0.0, -1.0, 0.0)
DIRECTIONS = {"flipped": FLIPPED, "sagittal": SAGITTAL, "oblique": random_direction(2)}


@dataclass(frozen=True)
class DicomCase:
    """A DICOM series and its diagnosis."""

    files: tuple[Path, ...]
    diagnosis: Diagnosis


def series(folder: Path, *, size_irc=SIZE_IRC, direction: Sequence[float] = IDENTITY, **options) -> DicomReader:
    write_dicom_series(folder, UID, random_hounsfield(size_irc), direction=direction, **options)
    return DicomReader(folder, UID)


def multi_frame_series(folder: Path) -> DicomReader:
    """Twelve frames whose order is not that of the slices."""
    folder.mkdir(parents=True, exist_ok=True)
    stored = (random_hounsfield(SIZE_IRC) + 1024).astype(np.uint16)
    write_enhanced_ct(folder / "ct.dcm", UID, stored, order=np.random.default_rng(0).permutation(12).tolist())
    return DicomReader(folder, UID)


def case_of(reader: DicomReader, *nodules: Nodule, **changes) -> DicomCase:
    values = {"of": reader.grid(), "series_instance_uid": reader.series_instance_uid} | changes
    return DicomCase(reader.files_in_slice_order(), diagnosis(*nodules, **values))


def ball(of: VoxelGrid, center_irc=(6, 12, 10), radius=2, **changes) -> Nodule:
    """A nodule without symmetry: a ball with one corner more."""
    offsets = np.indices((2 * radius + 1,) * 3) - radius
    mask = (offsets**2).sum(axis=0) <= radius**2
    mask[0, 0, 0] = True
    start_irc = tuple(center - radius for center in center_irc)
    return nodule(center_irc, of=of, mask=mask, mask_start_irc=start_irc, **changes)


def many_balls(of: VoxelGrid, num_nodules: int) -> list[Nodule]:
    """Disjoint nodules in falling order of probability."""
    num_i, num_r, num_c = (size // 4 for size in of.size_irc)
    places = [(i, r, c) for i in range(num_i) for r in range(num_r) for c in range(num_c)][:num_nodules]
    return [
        ball(of, tuple(4 * at + 1 for at in place), 1, probability=0.99 - number / 100, diameter_mm=3.0 + number / 7)
        for number, place in enumerate(places)
    ]


def painted(nodule: Nodule, grid: VoxelGrid):
    """The nodule's mask on the CT's grid."""
    voxels = np.zeros(grid.size_irc, dtype=bool)
    voxels[nodule.box] = nodule.mask
    return voxels
