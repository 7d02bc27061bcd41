"""Base class of the readers of all CT formats."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.ct.content_hash import content_fingerprint, file_states
from luna_pipeline.core.ct.geometry import VoxelGrid


@dataclass(frozen=True)
class Ct:
    """A whole scan.

    Attributes:
        series_instance_uid: DICOM (0020,000E).
        hounsfield: HU as in the file, shape (I, R, C), read only; padding below -1000 stays. Raw int16 of a
            MetaImage, NRRD or NIfTI is mapped from its file, which must not be shortened while the array is in use.
        grid: Where the voxels lie.
        files: All files that it was read from: header and voxel file, or all slices, sorted.
        is_hounsfield: False for gray values of an unknown scale: whether they can be HU is not checked.
    """

    series_instance_uid: str
    hounsfield: NDArray[np.int16]
    grid: VoxelGrid
    files: tuple[Path, ...]
    is_hounsfield: bool = True


@dataclass(frozen=True)
class CtReader(ABC):
    """Reads one CT; its headers are parsed once, when they are first needed.

    Attributes:
        path: The file that names the CT, or the folder with its DICOM files.
        series_instance_uid: The series; selects one in a DICOM folder with several.
        is_hounsfield: Whether the format holds HU, by its description or by convention.
    """

    is_hounsfield: ClassVar[bool] = True

    path: Path
    series_instance_uid: str

    @abstractmethod
    def files(self) -> tuple[Path, ...]:
        """Return all files that the CT is read from, sorted."""

    @abstractmethod
    def grid(self) -> VoxelGrid:
        """Return the grid from the headers alone; lengths that need no unpacking are checked."""

    @abstractmethod
    def voxels(self) -> NDArray[np.int16]:
        """Return the HU, shape (I, R, C), of a CT whose ``grid`` could be read."""

    def read(self) -> Ct:
        """Read the CT whole.

        Raises:
            UnreadableCtError: If the files are missing, incomplete, or no three-dimensional CT.
        """
        grid, voxels = self.grid(), self.voxels()
        # As a mapped file is.
        voxels.flags.writeable = False
        return Ct(self.series_instance_uid, voxels, grid, self.files(), self.is_hounsfield)

    def content_fingerprint(self) -> str:
        """Return a digest of what the CT is read from: the bytes of its files.

        Raises:
            OSError: If a file cannot be read.
        """
        return content_fingerprint(self.files())

    def file_states(self) -> list[tuple[str, int, int, int]]:
        """Return name, inode, size and time of each file; equal before and after a CT that stayed the same."""
        # The header's is taken before it is parsed, so that replacing it in between is noticed too.
        return file_states([self.path]) + file_states(self.files())
