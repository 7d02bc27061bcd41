"""A CT as an array of HU with its grid, from a MetaImage, NRRD or NIfTI file or a DICOM folder."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.ct.errors import UnreadableCtError, naming_series
from luna_pipeline.core.ct.formats.dicom_series import DicomSeries, is_dicom_file, ordered_slices, scan_dicom_files
from luna_pipeline.core.ct.formats.dicom_voxels import read_slice_voxels
from luna_pipeline.core.ct.formats.itk import read_itk_grid, read_itk_voxels
from luna_pipeline.core.ct.formats.metaimage import (
    check_metaimage_kind,
    check_metaimage_size,
    grid_of_header,
    read_metaimage_header,
    read_voxels,
    unpacked_voxels,
)
from luna_pipeline.core.ct.formats.nifti import check_nifti_size, is_packed_nifti
from luna_pipeline.core.ct.formats.nrrd import check_nrrd_size, read_nrrd_header
from luna_pipeline.core.ct.geometry import VoxelGrid

__all__ = ["FORMATS", "Ct", "UnreadableCtError", "files_of_series", "format_of", "read_ct", "read_grid", "series_stem"]

# Suffix -> word in the catalogue.
FORMATS = {".mhd": "metaimage", ".mha": "metaimage", ".nrrd": "nrrd", ".nii.gz": "nifti", ".nii": "nifti"}


@dataclass(frozen=True)
class Ct:
    """A whole scan.

    Attributes:
        series_instance_uid: DICOM (0020,000E).
        hounsfield: HU as in the file, shape (I, R, C), read only; padding below -1000 stays. A raw MetaImage is
            mapped from its file, which must not be shortened while the array is in use.
        grid: Where the voxels lie.
        files: All files that it was read from: header and voxel file, or all slices, sorted.
    """

    series_instance_uid: str
    hounsfield: NDArray[np.int16]
    grid: VoxelGrid
    files: tuple[Path, ...]


def read_ct(path: Path, *, series_instance_uid: str) -> Ct:
    """Read a scan whole.

    Args:
        path: A ``.mhd``, ``.mha``, ``.nrrd``, ``.nii`` or ``.nii.gz`` file, or a folder with DICOM files.
        series_instance_uid: The series; in a DICOM folder with several it says which.

    Returns:
        HU of every voxel: fractions are rounded, values that int16 cannot hold become its limits.

    Raises:
        UnreadableCtError: If the files are not there, not whole, no three-dimensional CT, or not for ITK to read.
    """
    if path.is_dir():
        series = _dicom_series(path, uid=series_instance_uid)
        slices, grid = ordered_slices(series)
        voxels, files = read_slice_voxels(slices, series_instance_uid=series_instance_uid), tuple(series.paths)
    else:
        grid = read_grid(path, series_instance_uid=series_instance_uid)
        voxels = _file_voxels(path, uid=series_instance_uid)
        files = files_of_series(path, series_instance_uid=series_instance_uid)
    # A map cannot be written to; no format shall behave otherwise.
    voxels.flags.writeable = False
    return Ct(series_instance_uid, voxels, grid, files)


def read_grid(path: Path, *, series_instance_uid: str) -> VoxelGrid:
    """Read the grid of a CT in one file from its header alone; the voxels' length is checked without unpacking them.

    Raises:
        UnreadableCtError: As ``read_ct``.
    """
    _check_is_there(path, uid=series_instance_uid)
    if format_of(path) == "metaimage":
        header = read_metaimage_header(path)
        check_metaimage_size(header, series_instance_uid=series_instance_uid)
        with naming_series(series_instance_uid):
            grid = grid_of_header(header)
        if grid is not None:
            check_metaimage_kind(header, series_instance_uid=series_instance_uid)
            return grid
    elif format_of(path) == "nifti" and not is_packed_nifti(path):
        check_nifti_size(path, series_instance_uid=series_instance_uid)
    elif format_of(path) == "nrrd" and not (nrrd := read_nrrd_header(path)).is_packed:
        check_nrrd_size(nrrd, series_instance_uid=series_instance_uid)
    return read_itk_grid(path, series_instance_uid=series_instance_uid)


def files_of_series(path: Path, *, series_instance_uid: str) -> tuple[Path, ...]:
    """Return all files that a CT is read from, sorted, without reading a voxel.

    Raises:
        UnreadableCtError: If they are not there, or the header that names them cannot be read.
    """
    if path.is_dir():
        return tuple(_dicom_series(path, uid=series_instance_uid).paths)
    _check_is_there(path, uid=series_instance_uid)
    if format_of(path) == "metaimage":
        return tuple(sorted({path, read_metaimage_header(path).data_path}))
    if format_of(path) == "nrrd":
        return tuple(sorted({path, read_nrrd_header(path).data_path}))
    return (path,)


def format_of(path: Path) -> str | None:
    """Return the catalogue's word for a file's format by its suffix, None for anything else."""
    return next((word for suffix, word in FORMATS.items() if path.name.lower().endswith(suffix)), None)


def series_stem(path: Path) -> str:
    """Return a CT file's name without its suffix: in LUNA16 the SeriesInstanceUID."""
    suffix = next(suffix for suffix in FORMATS if path.name.lower().endswith(suffix))
    return path.name[: -len(suffix)]


def _file_voxels(path: Path, *, uid: str) -> NDArray[np.int16]:
    """Read the voxels of a file whose header has been read; what ITK would not notice is checked before."""
    if format_of(path) == "metaimage":
        header = read_metaimage_header(path)
        if grid_of_header(header) is not None:
            return read_voxels(header, series_instance_uid=uid)
        if header.is_compressed:
            unpacked_voxels(header, series_instance_uid=uid)
    elif format_of(path) == "nifti" and is_packed_nifti(path):
        check_nifti_size(path, series_instance_uid=uid)
    elif format_of(path) == "nrrd" and (nrrd := read_nrrd_header(path)).is_packed:
        check_nrrd_size(nrrd, series_instance_uid=uid)
    return read_itk_voxels(path, series_instance_uid=uid)


def _check_is_there(path: Path, *, uid: str) -> None:
    if format_of(path) is None or not path.is_file():
        msg = (
            f"A CT must be a file ({', '.join(FORMATS)}) or a DICOM folder that is there, got {path.name} "
            f"(series {uid}). Check the data folder."
        )
        raise UnreadableCtError(msg)


def _dicom_series(folder: Path, *, uid: str) -> DicomSeries:
    # Hidden files are passed over, as in the catalogue: some systems leave one beside each file.
    paths = (path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    found = scan_dicom_files(path for path in paths if is_dicom_file(path))
    if uid not in found:
        msg = (
            f"A DICOM folder must hold the series that is asked for, got {sorted(found) or 'none'} ({folder}, series "
            f"{uid}). Check the data folder."
        )
        raise UnreadableCtError(msg)
    return found[uid]
