"""Voxels of a diagnosed CT for a viewer: axial, coronal and sagittal slices from a file that is mapped, not read."""

import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.ct.orientation import AxialView
from luna_pipeline.core.diagnosis.pictures import PLANES
from luna_pipeline.core.storage.files import written_atomically
from luna_pipeline.launchers.diagnosis.input import read_input

VOXELS = "voxels.npy"
"""File beside the results with the axial view of the CT, int16 HU (I, R, C); removed with them."""

_making = threading.Lock()


def axial_voxels(ct: Path, output: Path) -> NDArray[np.int16]:
    """Return the axial view of a CT, mapped from the file ``VOXELS``, which the first call writes.

    A file keeps a viewer fast after a restart, and the memory of the service independent of the number of viewed CTs.

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
    path = output / VOXELS
    # A file that is there waits for no other CT.
    if not path.is_file():
        # One at a time: the three planes of a page ask together, and each CT takes its size in memory.
        with _making:
            if not path.is_file():
                _write(ct, path)
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False), dtype=np.int16)


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
    # A file that a power cut damages is made again after the results are; it is no result.
    with written_atomically(path, is_synced=False) as file:
        np.lib.format.write_array_header_1_0(file, header)
        for slice_hu in voxels:
            file.write(np.ascontiguousarray(slice_hu, dtype="<i2").tobytes())
