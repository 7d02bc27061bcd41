"""The tutorial's own cutouts: one ``<uid>_<index>:<row>:<col>.npz`` a candidate."""

import re
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_INT16 = np.iinfo(np.int16)


class TutorialCutout(NamedTuple):
    """A cutout of the tutorial's cache.

    Attributes:
        ct_chunk: HU, int16 (32, 48, 48), axes index, row, col; cut by the ``shift`` rule, so near a border
            the candidate is not in the middle, and by how much is not in the file.
        center_irc: Voxel of the candidate in its CT, int32 (3,).
        series_instance_uid: Its series.
    """

    ct_chunk: NDArray[np.int16]
    center_irc: NDArray[np.int32]
    series_instance_uid: str


def read_tutorial_cutout(path: Path) -> TutorialCutout:
    """Read a cutout that the tutorial cut.

    Args:
        path: ``<uid>_<index>:<row>:<col>.npz`` with ``ct_chunk`` (float32, HU) and ``center_irc``.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is no such file: other members, not finite, or not of the voxel that its name
            states.

    Source:
        tomas-janicek/luna16, data_processing/cutouts.py.
    """
    named = re.fullmatch(r"(?P<uid>[0-9.]+)_(\d+)[:_-](\d+)[:_-](\d+)\.npz", path.name)
    if named is None:
        raise ValueError(_refusal(path, "be named <uid>_<index>:<row>:<col>.npz", path.name))
    try:
        with np.load(path, allow_pickle=False) as members:
            chunk, center = members["ct_chunk"], members["center_irc"]
    except (KeyError, EOFError, zipfile.BadZipFile, ValueError) as error:
        raise ValueError(_refusal(path, "hold ct_chunk and center_irc", str(error))) from error
    expected = [int(named[group]) for group in (2, 3, 4)]
    if chunk.shape != (32, 48, 48) or center.shape != (3,) or center.tolist() != expected:
        got = f"{chunk.shape} around {center.tolist()}"
        raise ValueError(_refusal(path, f"hold (32, 48, 48) voxels around {expected}", got))
    if not (np.isfinite(chunk).all() and chunk.min() >= _INT16.min and chunk.max() <= _INT16.max):
        raise ValueError(_refusal(path, "hold HU", f"values {chunk.min()} to {chunk.max()}"))
    return TutorialCutout(np.rint(chunk).astype(np.int16), center.astype(np.int32), named["uid"])


def _refusal(path: Path, rule: str, got: str) -> str:
    return f"A cutout of the tutorial must {rule}, got {got} ({path}). Hand over a file of its cache."
