"""LUNA25's nodule blocks: a box of voxels around a nodule as ``.npy``, with its grid in a file beside it.

The files are named after annotations, which begin with the patient's number: names of series are digests of them.
"""

from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.ct.errors import UnreadableCtError, naming_series
from luna_pipeline.core.ct.formats.luna25_metadata import (
    MAX_METADATA_BYTES,
    RefusedPickleError,
    read_metadata,
)
from luna_pipeline.core.ct.formats.reader import CtReader
from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.ct.hounsfield import check_voxel_kind, to_hounsfield
from luna_pipeline.core.ct.limits import check_announced_bytes
from luna_pipeline.core.storage.regular_files import open_regular

CT_FOLDER = "luna25_images"
TABLE = "LUNA25_Public_Training_Development_Data.csv"
BLOCKS = "luna25_nodule_blocks"
IMAGES, METADATA = "image", "metadata"
BLOCK_SHAPE_IRC = (64, 128, 128)
PADDING_HU = -1024


def is_block(path: Path) -> bool:
    """Return whether a path is that of a block: ``luna25_nodule_blocks/image/<AnnotationID>.npy``."""
    return path.suffix == ".npy" and path.parts[-3:-1] == (BLOCKS, IMAGES)


def block_uid(annotation_id: str) -> str:
    """Return the name of a block's series, below 2.25, the root for unregistered UIDs: a digest of AnnotationID."""
    digest = blake2b(f"luna25 block {annotation_id}".encode(errors="surrogateescape"), digest_size=15).digest()
    return f"2.25.{int.from_bytes(digest, 'big')}"


@dataclass(frozen=True)
class Luna25BlockReader(CtReader):
    """Reads one block as a small CT; nothing is unpickled, and messages do not name its files."""

    def files(self) -> tuple[Path, ...]:
        """Return the paths of voxels and metadata, sorted."""
        return tuple(sorted((self.path, self._metadata_path)))

    def grid(self) -> VoxelGrid:
        """Return the block's grid.

        Source:
            Row i of ``transform`` is the step along the array's axis i in mm, its parts along z, y, x divided by the
            spacing of z, y and x (not of axis i): for an oblique CT it is no rotation.
        """
        values = self._metadata
        spacing_irc = values["spacing"]
        with naming_series(self.series_instance_uid):
            if not (spacing_irc > 0).all():
                raise ValueError(f"Spacing must be three positive lengths in mm, got {spacing_irc.tolist()}")
            steps = values["transform"] * spacing_irc[None, :]
            axes = (steps / spacing_irc[:, None])[::-1, ::-1].T
            num_slices, num_rows, num_cols = self._stored.shape
            index_mm, row_mm, col_mm = spacing_irc.tolist()
            z, y, x = values["origin"].tolist()
            direction = tuple(float(value) for value in axes.ravel())
            return VoxelGrid((num_slices, num_rows, num_cols), (col_mm, row_mm, index_mm), (x, y, z), direction)

    def voxels(self) -> NDArray[np.int16]:
        """Read the HU."""
        hounsfield = to_hounsfield(np.asarray(self._stored), series_instance_uid=self.series_instance_uid)
        return np.array(hounsfield, order="C")

    @property
    def _metadata_path(self) -> Path:
        return self.path.parents[1] / METADATA / self.path.name

    @cached_property
    def _metadata(self) -> dict[str, NDArray[np.float64]]:
        try:
            with open_regular(self._metadata_path) as file:
                return read_metadata(file.read(MAX_METADATA_BYTES + 1))
        except RefusedPickleError as error:
            raise self._refusal("Metadata must be a dictionary of origin, spacing and transform", str(error)) from error
        except OSError as error:
            rule = f"A block must have its metadata in {BLOCKS}/{METADATA}"
            raise self._refusal(rule, error.strerror or "no regular file") from error

    @cached_property
    def _stored(self) -> NDArray[np.generic]:
        """The voxels, mapped: checked to be three-dimensional numbers of the header's length."""
        try:
            open_regular(self.path).close()
            # Arrays of objects, which are pickled, are refused by numpy; archives are not opened.
            voxels = np.lib.format.open_memmap(self.path, mode="r")
        except (OSError, MemoryError):
            raise
        # Whatever a damaged header makes numpy raise.
        except Exception as error:
            raise self._refusal("A block must be a numpy file of numbers", "another or damaged one") from error
        if voxels.ndim != 3 or voxels.dtype.kind not in "iuf":
            raise self._refusal("A block must be a numpy file of numbers (z, y, x)", "another array")
        uid = self.series_instance_uid
        check_voxel_kind(voxels.dtype.name, 1, voxels.dtype.itemsize, series_instance_uid=uid)
        check_announced_bytes(voxels.nbytes, where=f"series {uid}")
        return voxels

    def _refusal(self, rule: str, got: str) -> UnreadableCtError:
        return UnreadableCtError(f"{rule}, got {got} (series {self.series_instance_uid}). Copy both files again.")
