"""The cutouts of one series, read from a file or cut on demand."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.cutouts.chunks import Chunks
from luna_pipeline.core.cutouts.cutting import CuttingParameters
from luna_pipeline.core.cutouts.fingerprint import Fingerprint

FORMAT_VERSION = 2
# Version 1 lacks ct_content among the fingerprints and has its rows in the order of their ids.
READABLE_VERSIONS = (1, 2)
MAX_CHUNK_VOXELS = 1 << 28
ARRAYS = {"ct_chunks": np.int16, "center_irc": np.int32, "center_xyz": np.float64, "candidate_id": np.int64}


@dataclass(frozen=True, eq=False)
class SeriesCutouts:
    """The cutouts of one series.

    Attributes:
        ct_chunks: HU within the window, int16 (N, *chunk_shape_irc), axes index, row, col; a view of a mapped file, or
            cut from a CT on demand.
        center_irc: Voxel of each candidate in the CT, int32 (N, 3).
        center_xyz: World mm of each candidate, float64 (N, 3).
        candidate_id: int64 (N,).
        header: Geometry, parameters and fingerprints, as JSON values.

    Raises:
        ValueError: If dtypes differ, or the arrays are not of one length.
    """

    ct_chunks: Chunks
    center_irc: NDArray[np.int32]
    center_xyz: NDArray[np.float64]
    candidate_id: NDArray[np.int64]
    header: dict[str, Any]

    def __post_init__(self) -> None:
        got = {name: getattr(self, name) for name in ARRAYS}
        count, chunk_shape = len(self.candidate_id), self.ct_chunks.shape[1:]
        shapes = {"ct_chunks": (count, *chunk_shape), "candidate_id": (count,)}
        is_right = all(
            array.dtype == ARRAYS[name] and array.shape == shapes.get(name, (count, 3)) for name, array in got.items()
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
    """Return the header of a file, with which it can be used without its CT and tables."""
    return {
        "format_version": FORMAT_VERSION,
        "series_instance_uid": series_instance_uid,
        "spacing_mm": [float(value) for value in grid.spacing_mm],
        "origin_xyz": [float(value) for value in grid.origin_xyz],
        "direction": [float(value) for value in grid.direction],
        **parameters.as_dict(),
        "fingerprints": fingerprint.as_dict(),
        "note": "research use only",
    }


def header_problem(header: Mapping[str, Any], series_instance_uid: str) -> str | None:
    """Return rule and value of the first entry of a file's header that is not as written, None if all are.

    Args:
        header: Any JSON object.
        series_instance_uid: The series that the file is named after.
    """
    version, uid = header.get("format_version"), header.get("series_instance_uid")
    if type(version) is not int or version not in READABLE_VERSIONS or uid != series_instance_uid:
        return f"be of its series in format {READABLE_VERSIONS}, got series {_shown(uid)} in format {_shown(version)}"
    fingerprints = header.get("fingerprints")
    if not isinstance(fingerprints, dict) or not all(isinstance(value, str) for value in fingerprints.values()):
        return f"have texts as fingerprints, got {_shown(fingerprints)}"
    if not fingerprints.get("digest"):
        return f"have a digest among its fingerprints, got {_shown(sorted(fingerprints))}"
    shape = _numbers(header.get("chunk_shape_irc"), 3, int)
    if shape is None or min(shape) < 1 or math.prod(shape) > MAX_CHUNK_VOXELS:
        return f"have a chunk shape of three numbers of voxels, got {_shown(header.get('chunk_shape_irc'))}"
    for name, count in (("spacing_mm", 3), ("origin_xyz", 3), ("direction", 9)):
        if _numbers(header.get(name), count, int, float) is None:
            return f"have {count} finite numbers as {name}, got {_shown(header.get(name))}"
    return None


def _numbers(value: object, count: int, *kinds: type) -> list[Any] | None:
    """Return a list of so many finite numbers of these types, None if it is anything else."""
    is_right = isinstance(value, list) and len(value) == count and all(type(number) in kinds for number in value)
    return value if isinstance(value, list) and is_right and all(-1e300 < number < 1e300 for number in value) else None


def _shown(value: object) -> str:
    return repr(value)[:80]


class CutoutSource(Protocol):
    """Provides the cutouts of each series: a ``CutoutStore``, or ``UncutSeries``."""

    @property
    def origin(self) -> str:
        """Folder or address that the voxels are read from."""

    def read(self, series_instance_uid: str, /) -> SeriesCutouts:
        """Return the cutouts of a series."""

    def header(self, series_instance_uid: str, /) -> dict[str, Any]:
        """Return the header of a series: geometry, parameters and fingerprints."""

    def identity(self, series_instance_uid: str, /) -> tuple[NDArray[np.int64], str]:
        """Return the candidates of a series, int64 (N,) in the order of the rows, and its fingerprint's digest."""
