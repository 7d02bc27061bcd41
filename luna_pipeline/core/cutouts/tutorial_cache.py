"""The original project's cutouts: one ``<uid>_<index>:<row>:<col>.npz`` per candidate."""

import io
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.cutouts.job import SeriesJob
from luna_pipeline.core.cutouts.store import SeriesCutouts, build_header
from luna_pipeline.core.storage.files import written_atomically
from luna_pipeline.core.storage.regular_files import NotRegularFileError, is_regular, open_regular
from luna_pipeline.core.storage.zip_limits import zip_problem

_INT16 = np.iinfo(np.int16)
_SHAPE_IRC = (32, 48, 48)
# A file of the original project has 295,500 bytes.
_MAX_BYTES = 4 << 20


class TutorialCutout(NamedTuple):
    """A cutout of the original project's cache.

    Attributes:
        ct_chunk: HU, int16 (32, 48, 48), axes index, row, col; cut by the ``shift`` rule.
        center_irc: Voxel of the candidate in its CT, int32 (3,).
        series_instance_uid: Its series.
    """

    ct_chunk: NDArray[np.int16]
    center_irc: NDArray[np.int32]
    series_instance_uid: str


def read_tutorial_cutout(path: Path) -> TutorialCutout:
    """Return a cutout of the original project.

    Args:
        path: ``<uid>_<index>:<row>:<col>.npz`` with ``ct_chunk`` (float32, HU) and ``center_irc``.

    Raises:
        FileNotFoundError: If there is none.
        OSError: If it cannot be read.
        ValueError: If it is no regular file, or its name, members, values or voxel are not those of the original
            project's files.

    Source:
        tomas-janicek/luna16, data_processing/cutouts.py.
    """
    named = re.fullmatch(r"(?P<uid>[0-9.]+)_(\d+)[:_-](\d+)[:_-](\d+)\.npz", path.name)
    if named is None:
        raise ValueError(_refusal(path, "be named <uid>_<index>:<row>:<col>.npz", path.name))
    chunk, center = _arrays(path)
    expected = [int(named[group]) for group in (2, 3, 4)]
    if chunk.shape != _SHAPE_IRC or center.shape != (3,) or center.tolist() != expected:
        got = f"{chunk.shape} around {center.tolist()}"
        raise ValueError(_refusal(path, f"hold {_SHAPE_IRC} voxels around {expected}", got))
    if chunk.dtype.kind not in "fiu" or center.dtype.kind not in "iu":
        raise ValueError(_refusal(path, "hold numbers", f"{chunk.dtype} and {center.dtype}"))
    if not (np.isfinite(chunk).all() and chunk.min() >= _INT16.min and chunk.max() <= _INT16.max):
        raise ValueError(_refusal(path, "hold HU", f"values {chunk.min()} to {chunk.max()}"))
    return TutorialCutout(np.rint(chunk).astype(np.int16), center.astype(np.int32), named["uid"])


def _arrays(path: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return chunk and centre; what the file announces is compared with the limits before it is unpacked."""
    rule = "hold ct_chunk and center_irc"
    try:
        with open_regular(path) as file:
            content = io.BytesIO(file.read(_MAX_BYTES + 1))
    except NotRegularFileError as error:
        raise ValueError(_refusal(path, "be a file", str(error))) from error
    if content.getbuffer().nbytes > _MAX_BYTES:
        raise ValueError(_refusal(path, f"have at most {_MAX_BYTES} bytes", "more"))
    if problem := zip_problem(content, max_member_bytes=_MAX_BYTES):
        raise ValueError(_refusal(path, rule, problem))
    try:
        with np.load(content, allow_pickle=False) as members:
            return members["ct_chunk"], members["center_irc"]
    # A damaged member raises errors of many kinds: of zipfile, zlib and numpy.
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(_refusal(path, rule, reason)) from error


def write_tutorial_cutouts(folder: Path, cutouts: SeriesCutouts) -> int:
    """Write the cutouts of a series in the original project's format and return the number of files.

    Args:
        folder: Folder of the files; created if it is missing.
        cutouts: Chunks of 32 x 48 x 48 voxels; with the edge rule ``shift`` they equal the original project's.

    Raises:
        ValueError: If the chunks have another shape.
    """
    uid, shape = cutouts.header["series_instance_uid"], cutouts.ct_chunks.shape[1:]
    if shape != _SHAPE_IRC:
        msg = f"The original project's cutouts must be {_SHAPE_IRC} voxels, got {shape} (series {uid})."
        raise ValueError(f"{msg} Cut with its chunk shape first.")
    voxels, rows = np.unique(cutouts.center_irc, axis=0, return_index=True)
    for (index, row, col), number in zip(voxels.tolist(), rows.tolist(), strict=True):
        with written_atomically(folder / f"{uid}_{index}:{row}:{col}.npz", is_synced=False) as file:
            chunk = cutouts.ct_chunks[number].astype(np.float32)
            np.savez(file, ct_chunk=chunk, center_irc=np.array([index, row, col], dtype=np.int16))
    return len(voxels)


def read_tutorial_series(folder: Path, job: SeriesJob, grid: VoxelGrid) -> SeriesCutouts | None:
    """Return the cutouts of a series from the original project's cache, None if it lacks a candidate.

    Args:
        folder: The cache.
        job: Candidates of the series; its parameters must be the original project's (edge rule ``shift``).
        grid: Grid of the CT.
    """
    center_irc = grid.nearest_voxel(job.center_xyz)
    names = [f"{job.series_instance_uid}_{index}:{row}:{col}.npz" for index, row, col in center_irc.tolist()]
    if not all(is_regular(folder / name) for name in names):
        return None
    ct_chunks = np.empty((len(names), *_SHAPE_IRC), dtype=np.int16)
    lower_hu, upper_hu = job.parameters.hu_window
    for chunk, name in zip(ct_chunks, names, strict=True):
        np.clip(read_tutorial_cutout(folder / name).ct_chunk, np.int16(lower_hu), np.int16(upper_hu), out=chunk)
    return SeriesCutouts(
        ct_chunks=ct_chunks,
        center_irc=center_irc,
        center_xyz=job.center_xyz,
        candidate_id=job.candidate_id,
        header=build_header(job.series_instance_uid, grid=grid, parameters=job.parameters, fingerprint=job.wanted),
    )


def _refusal(path: Path, rule: str, got: str) -> str:
    return f"A cutout of the original project must {rule}, got {got} ({path}). Hand over a file of its cache."
