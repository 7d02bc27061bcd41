"""A CT as an array of HU with its grid, from a MetaImage, NRRD or NIfTI file or a DICOM folder."""

# SimpleITK types half of its wrappers.
# mypy: allow-untyped-calls

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from luna_pipeline.core.ct.dicom import is_dicom_file, ordered_slices, scan_dicom_files
from luna_pipeline.core.ct.errors import UnreadableCtError, one_line
from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.ct.metaimage import (
    check_compressed_voxels,
    check_metaimage_size,
    read_metaimage_header,
)
from luna_pipeline.core.ct.nifti import check_nifti_size
from luna_pipeline.core.ct.quiet import quiet_itk

__all__ = [
    "FORMATS",
    "Ct",
    "UnreadableCtError",
    "format_of",
    "grid_of",
    "read_ct",
    "read_grid",
    "series_stem",
]

# Suffix -> word in the catalogue.
FORMATS = {".mhd": "metaimage", ".mha": "metaimage", ".nrrd": "nrrd", ".nii.gz": "nifti", ".nii": "nifti"}
# Label maps and pictures; HU need 12 bits.
_NARROW_TYPES = {sitk.sitkUInt8, sitk.sitkInt8}
_INT16 = np.iinfo(np.int16)


@dataclass(frozen=True)
class Ct:
    """A whole scan.

    Attributes:
        series_instance_uid: DICOM (0020,000E).
        hounsfield: HU as in the file, shape (I, R, C); padding below -1000 stays.
        grid: Where the voxels lie.
    """

    series_instance_uid: str
    hounsfield: NDArray[np.int16]
    grid: VoxelGrid


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
        return _read_dicom(path, uid=series_instance_uid)
    grid = read_grid(path, series_instance_uid=series_instance_uid)
    if format_of(path) == "metaimage":
        header = read_metaimage_header(path)
        if header.is_compressed:
            check_compressed_voxels(header, series_instance_uid=series_instance_uid)
    elif format_of(path) == "nifti":
        check_nifti_size(path, series_instance_uid=series_instance_uid)
    try:
        with quiet_itk():
            image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise _unreadable(path, series_instance_uid, error) from error
    return Ct(series_instance_uid, _hounsfield_of(image, uid=series_instance_uid), grid)


def read_grid(path: Path, *, series_instance_uid: str) -> VoxelGrid:
    """Read the grid of a CT in one file from its header alone; the voxel file's length is checked.

    Raises:
        UnreadableCtError: As ``read_ct``.
    """
    if format_of(path) is None or not path.is_file():
        msg = (
            f"A CT must be a file ({', '.join(FORMATS)}) or a DICOM folder that is there, got {path.name} "
            f"(series {series_instance_uid}). Check the data folder."
        )
        raise UnreadableCtError(msg)
    if format_of(path) == "metaimage":
        check_metaimage_size(read_metaimage_header(path), series_instance_uid=series_instance_uid)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        with quiet_itk():
            reader.ReadImageInformation()
        _check_kind(reader.GetNumberOfComponents(), reader.GetPixelIDValue(), uid=series_instance_uid)
        return grid_of(reader)
    except RuntimeError as error:
        raise _unreadable(path, series_instance_uid, error) from error
    except UnreadableCtError:
        raise
    except ValueError as error:
        msg = f"{error} (series {series_instance_uid})"
        raise UnreadableCtError(msg) from error


def grid_of(image: sitk.Image | sitk.ImageFileReader) -> VoxelGrid:
    """Return where the voxels of an ITK image, or of a header that was read, lie.

    Raises:
        ValueError: If it is not three-dimensional, or a spacing or the direction makes no sense.
    """
    if image.GetDimension() != 3:
        msg = f"A CT must have three dimensions, got {image.GetDimension()}. Check the CT's header."
        raise ValueError(msg)
    num_cols, num_rows, num_slices = (int(value) for value in image.GetSize())
    x_mm, y_mm, z_mm = (float(value) for value in image.GetOrigin())
    col_mm, row_mm, index_mm = (float(value) for value in image.GetSpacing())
    return VoxelGrid(
        size_irc=(num_slices, num_rows, num_cols),
        spacing_mm=(col_mm, row_mm, index_mm),
        origin_xyz=(x_mm, y_mm, z_mm),
        direction=tuple(float(value) for value in image.GetDirection()),
    )


def format_of(path: Path) -> str | None:
    """Return the catalogue's word for a file's format by its suffix, None for anything else."""
    return next((word for suffix, word in FORMATS.items() if path.name.lower().endswith(suffix)), None)


def series_stem(path: Path) -> str:
    """Return a CT file's name without its suffix: in LUNA16 the SeriesInstanceUID."""
    suffix = next(suffix for suffix in FORMATS if path.name.lower().endswith(suffix))
    return path.name[: -len(suffix)]


def _read_dicom(folder: Path, *, uid: str) -> Ct:
    found = scan_dicom_files(path for path in folder.iterdir() if path.is_file() and is_dicom_file(path))
    if uid not in found:
        msg = (
            f"The DICOM folder must hold series {uid}, got {sorted(found) or 'none'} ({folder}). Check the data folder."
        )
        raise UnreadableCtError(msg)
    slices, grid = ordered_slices(found[uid])
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(item.path) for item in slices])
    try:
        with quiet_itk():
            image = reader.Execute()
    except RuntimeError as error:
        raise _unreadable(folder, uid, error) from error
    return Ct(uid, _hounsfield_of(image, uid=uid), grid)


def _check_kind(num_channels: int, pixel_id: int, *, uid: str) -> None:
    if num_channels != 1 or pixel_id in _NARROW_TYPES:
        kind = sitk.GetPixelIDValueAsString(pixel_id)
        msg = (
            f"A CT must hold one number of 16 bits or more per voxel, got {num_channels} of {kind} (series {uid}). "
            "Leave label maps and pictures out of the data folder."
        )
        raise UnreadableCtError(msg)


def _hounsfield_of(image: sitk.Image, *, uid: str) -> NDArray[np.int16]:
    _check_kind(image.GetNumberOfComponentsPerPixel(), image.GetPixelIDValue(), uid=uid)
    values: NDArray[Any] = sitk.GetArrayViewFromImage(image)
    if values.dtype == np.int16:
        return np.array(values)
    if np.issubdtype(values.dtype, np.floating):
        if not np.isfinite(values).all():
            num_bad = int(np.sum(~np.isfinite(values)))
            msg = f"HU must be finite, got {num_bad} voxels that are not (series {uid}). Write the CT again."
            raise UnreadableCtError(msg)
        values = np.rint(values)
    return np.asarray(np.clip(values, _INT16.min, _INT16.max).astype(np.int16))


def _unreadable(path: Path, uid: str, error: RuntimeError) -> UnreadableCtError:
    return UnreadableCtError(
        f"A CT must be readable by ITK, got: {one_line(error)} ({path.name}, series {uid}). Copy it again."
    )
