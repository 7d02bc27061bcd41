"""Voxels of a diagnosed CT for a viewer: axial, coronal and sagittal slices from a file that is mapped, not read."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.ct.orientation import AxialView
from luna_pipeline.core.diagnosis.pictures import PLANES
from luna_pipeline.core.storage.files import written_atomically
from luna_pipeline.launchers.diagnosis.input import read_input

VOXELS = "voxels.npy"
"""File beside the results with the axial view of the CT, int16 HU (I, R, C); removed with them."""


def kept_voxels(output: Path) -> NDArray[np.int16] | None:
    """Return the voxels that ``made_voxels`` has written, mapped, HU (I, R, C); None for no file or a damaged one.

    A file keeps a viewer fast after a restart, and the memory of the service independent of the number of viewed CTs.
    """
    try:
        return np.asarray(np.load(output / VOXELS, mmap_mode="r", allow_pickle=False), dtype=np.int16)
    # EOFError is an empty file, ValueError one that is too short or holds something else.
    except (FileNotFoundError, EOFError, ValueError):
        return None


def made_voxels(ct: Path, output: Path) -> NDArray[np.int16]:
    """Return the axial view of a CT, mapped from the file ``VOXELS``, which is written if it is not there.

    Call it in one thread at a time: the planes of a page ask together, and each CT takes its size in memory.

    Args:
        ct: Folder of the files of one CT.
        output: Folder of its results.

    Returns:
        HU (I, R, C), index towards the head, row towards the back, col towards the patient's left; read only.

    Raises:
        FileNotFoundError: If the CT or the folder was removed.
        UnreadableCtError: If the CT cannot be read.
        OSError: If the disk is full.
    """
    voxels = kept_voxels(output)
    if voxels is None:
        _write(ct, output / VOXELS)
        voxels = kept_voxels(output)
    if voxels is None:
        raise FileNotFoundError("The voxels of a view must be there, got none. The diagnosis was deleted.")
    return voxels


def plane_slice(voxels: NDArray[np.int16], plane: str, number: int) -> NDArray[np.int16]:
    """Return one slice of an axial view as it is shown, (rows from top to bottom, columns from left to right).

    Args:
        voxels: HU (I, R, C) of an axial view.
        plane: ``axial``, ``coronal`` or ``sagittal``, see ``core.diagnosis.pictures.PLANES``.
        number: Voxel along the plane's axis, from 0.

    Raises:
        IndexError: If there is no such slice.
    """
    shown = PLANES[plane]
    size = voxels.shape[shown.axis]
    if not 0 <= number < size:
        msg = f"A slice must be from 0 to {size - 1}, got {number} ({plane}). Take the size from `view`."
        raise IndexError(msg)
    values: NDArray[np.int16] = np.moveaxis(voxels, shown.axis, 0)[number]
    return values[::-1] if shown.is_upside_down else values


def _write(ct: Path, path: Path) -> None:
    # It was checked when it was diagnosed. The recorded series may be a pseudonym, which no file has.
    given = read_input(ct, assume_hu=True)
    voxels = AxialView(given.ct.grid).of(given.ct.hounsfield)
    header = {"descr": "<i2", "fortran_order": False, "shape": voxels.shape}
    if not path.parent.is_dir():
        raise FileNotFoundError("The folder of the results must be there, got none. The diagnosis was deleted.")
    # Flushed: zeros that a power cut leaves in place of voxels would be shown as a CT.
    with written_atomically(path) as file:
        np.lib.format.write_array_header_1_0(file, header)
        for slice_hu in voxels:
            file.write(np.ascontiguousarray(slice_hu, dtype="<i2").tobytes())
