"""Chunks that are cut from a CT on demand."""

from collections.abc import Iterator
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.ct.reading import Ct
from luna_pipeline.core.cutouts.cutting import CuttingParameters, cut_chunks
from luna_pipeline.core.cutouts.resampling import resample_chunks

# Bytes of voxels that are cut at once: they stay in the processor's cache until they are written.
_BLOCK_BYTES = 2 << 20


class Chunks(Protocol):
    """Chunks in HU, int16 (N, *chunk_shape_irc): an array, or cut on demand."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Always int16."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, *chunk_shape_irc)."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: Any, /) -> NDArray[np.int16]: ...


class CtChunks:
    """The chunks of one CT with the values, shape and dtype of the array in a file.

    ``center_irc`` holds the voxel of each candidate in the CT, int32 (N, 3).
    """

    dtype = np.dtype(np.int16)

    def __init__(self, ct: Ct, center_xyz: NDArray[np.float64], parameters: CuttingParameters) -> None:
        """Compute the candidates' voxels.

        Args:
            ct: The CT, in memory or mapped.
            center_xyz: World mm of the candidates, (N, 3).
            parameters: Cutting parameters.

        Raises:
            ValueError: If a candidate lies outside the CT.
        """
        self._ct = ct
        self._parameters = parameters
        self.center_irc = ct.grid.nearest_voxel(center_xyz)
        _check_inside(ct, center_xyz, self.center_irc)
        spacing_mm = parameters.resampled_spacing_mm
        self._grid = ct.grid if spacing_mm is None else ct.grid.resampled(spacing_mm)
        # A candidate up to half a voxel outside the outermost centres may have its resampled voxel just outside.
        last_irc = np.asarray(self._grid.size_irc) - 1
        self._cut_irc = np.clip(self._grid.nearest_voxel(center_xyz), 0, last_irc).astype(np.int32)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, *chunk_shape_irc)."""
        return (len(self._cut_irc), *self._parameters.chunk_shape_irc)

    def __len__(self) -> int:
        return len(self._cut_irc)

    def __getitem__(self, row: int) -> NDArray[np.int16]:
        return np.asarray(self._cut(self._cut_irc[row][None])[0])

    def blocks(self) -> Iterator[NDArray[np.int16]]:
        """Yield all chunks in their order, (n, *chunk_shape_irc) at a time, in two alternating buffers."""
        for number, start in enumerate(range(0, len(self), len(self._buffers[0]))):
            centers = self._cut_irc[start : start + len(self._buffers[0])]
            yield self._cut(centers, self._buffers[number % 2][: len(centers)])

    @cached_property
    def _buffers(self) -> NDArray[np.int16]:
        count = max(1, _BLOCK_BYTES // self._parameters.num_chunk_bytes)
        return np.empty((2, count, *self._parameters.chunk_shape_irc), dtype=np.int16)

    def _cut(self, centers_irc: NDArray[np.int32], out: NDArray[np.int16] | None = None) -> NDArray[np.int16]:
        if self._parameters.resampled_spacing_mm is None:
            return cut_chunks(self._ct.hounsfield, centers_irc, self._parameters, out)
        return resample_chunks(self._ct.hounsfield, self._ct.grid, centers_irc, self._parameters, out)


def _check_inside(ct: Ct, center_xyz: NDArray[np.float64], center_irc: NDArray[np.int32]) -> None:
    is_outside = ~ct.grid.contains(center_irc)
    if is_outside.any():
        row = int(is_outside.argmax())
        msg = (
            f"Each candidate must lie in its CT of shape {ct.grid.size_irc}, got voxel "
            f"{tuple(center_irc[row].tolist())} of {tuple(center_xyz[row].tolist())} mm ({int(is_outside.sum())} such, "
            f"series {ct.series_instance_uid}). Materialize `candidates` again."
        )
        raise ValueError(msg)
