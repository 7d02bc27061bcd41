"""A CT as an array of HU with its grid, from a MetaImage, NRRD or NIfTI file or a DICOM folder."""

from collections.abc import Mapping
from pathlib import Path

from luna_pipeline.core.ct.errors import UnreadableCtError
from luna_pipeline.core.ct.formats.dicom_series import DicomReader
from luna_pipeline.core.ct.formats.luna25_block import Luna25BlockReader, block_uid, is_block
from luna_pipeline.core.ct.formats.metaimage import MetaImageReader
from luna_pipeline.core.ct.formats.nifti import NiftiReader
from luna_pipeline.core.ct.formats.nodulemnist3d import NoduleMnistReader, is_container
from luna_pipeline.core.ct.formats.nrrd import NrrdReader
from luna_pipeline.core.ct.formats.reader import Ct, CtReader

__all__ = ["FORMATS", "Ct", "CtReader", "UnreadableCtError", "format_of", "open_ct", "read_ct", "series_stem"]

# Suffix -> format in the catalogue.
FORMATS = {
    **dict.fromkeys((".mhd", ".mha"), "metaimage"),
    **dict.fromkeys((".nrrd", ".nhdr"), "nrrd"),
    **dict.fromkeys((".nii.gz", ".nii"), "nifti"),
}
READERS: Mapping[str, type[CtReader]] = {
    "metaimage": MetaImageReader,
    "nrrd": NrrdReader,
    "nifti": NiftiReader,
    "dicom": DicomReader,
    "nodulemnist3d": NoduleMnistReader,
    "luna25_block": Luna25BlockReader,
}


def open_ct(path: Path, *, series_instance_uid: str) -> CtReader:
    """Return the reader of a CT; nothing is read yet.

    Args:
        path: A ``.mhd``, ``.mha``, ``.nrrd``, ``.nhdr``, ``.nii`` or ``.nii.gz`` file, a folder with DICOM files, or
            the file of NoduleMNIST3D.
        series_instance_uid: The series; selects one in a DICOM folder, or a nodule of NoduleMNIST3D.

    Raises:
        UnreadableCtError: If there is no such file or folder, or its suffix is unknown.
    """
    file_format = "dicom" if path.is_dir() else _kind_of_file(path) if path.is_file() else None
    if file_format is None:
        raise UnreadableCtError(
            f"A CT must be a file ({', '.join(FORMATS)}) or a DICOM folder that is there, got {path.name} "
            f"(series {series_instance_uid}). Check the data folder."
        )
    return READERS[file_format](path, series_instance_uid)


def read_ct(path: Path, *, series_instance_uid: str) -> Ct:
    """Read a scan whole.

    Returns:
        HU of every voxel: fractions are rounded, values outside int16 are clipped.

    Raises:
        UnreadableCtError: If the files are missing, incomplete, or no three-dimensional CT.
    """
    return open_ct(path, series_instance_uid=series_instance_uid).read()


def _kind_of_file(path: Path) -> str | None:
    # Not among FORMATS: one file with many series is found by its data source alone.
    return "nodulemnist3d" if is_container(path) else format_of(path)


def format_of(path: Path) -> str | None:
    """Return the catalogue's word for a file's format by its suffix, None for anything else."""
    if is_block(path):
        return "luna25_block"
    return next((word for suffix, word in FORMATS.items() if path.name.lower().endswith(suffix)), None)


def series_stem(path: Path) -> str:
    """Return a CT file's name without its suffix: in LUNA16 the SeriesInstanceUID. Blocks of LUNA25 have a digest."""
    if is_block(path):
        return block_uid(path.stem)
    suffix = next(suffix for suffix in FORMATS if path.name.lower().endswith(suffix))
    return path.name[: -len(suffix)]
