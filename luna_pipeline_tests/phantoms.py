"""Small images and tables that tests make for themselves in ``tmp_path``."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from luna_pipeline.core.ct.geometry import VoxelGrid

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
# DICOM stores unsigned numbers; this is what scanners subtract from them.
INTERCEPT_HU = -1024


def random_hounsfield(size_irc: tuple[int, int, int] = (6, 8, 10), *, seed: int = 0) -> NDArray[np.int16]:
    """Noise between -1000 and 400 HU, shape (I, R, C): every voxel can be told from its neighbour."""
    return np.random.default_rng(seed).integers(-1000, 400, size=size_irc).astype(np.int16)


def random_direction(seed: int) -> tuple[float, ...]:
    """Nine numbers of a random orthonormal matrix, row by row; every second seed mirrors an axis."""
    matrix, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    if (np.linalg.det(matrix) < 0) != bool(seed % 2):
        matrix[:, 0] *= -1
    return tuple(float(value) for value in matrix.ravel())


def make_image(
    hounsfield: NDArray[np.int16],
    *,
    spacing_mm: Sequence[float] = (0.7, 0.8, 2.5),
    origin_xyz: Sequence[float] = (-50.0, -40.0, -300.0),
    direction: Sequence[float] = IDENTITY,
) -> sitk.Image:
    """A SimpleITK image of HU, shape (I, R, C)."""
    image = sitk.GetImageFromArray(hounsfield)
    image.SetSpacing([float(value) for value in spacing_mm])
    image.SetOrigin([float(value) for value in origin_xyz])
    image.SetDirection([float(value) for value in direction])
    return image


def grid_of(image: sitk.Image) -> VoxelGrid:
    """The grid of a SimpleITK image of three dimensions."""
    num_cols, num_rows, num_slices = image.GetSize()
    col_mm, row_mm, index_mm = image.GetSpacing()
    x, y, z = image.GetOrigin()
    return VoxelGrid((num_slices, num_rows, num_cols), (col_mm, row_mm, index_mm), (x, y, z), image.GetDirection())


def write_ct(
    folder: Path,
    uid: str,
    hounsfield: NDArray[np.int16],
    *,
    spacing_mm: Sequence[float] = (0.7, 0.8, 2.5),
    origin_xyz: Sequence[float] = (-50.0, -40.0, -300.0),
    direction: Sequence[float] = IDENTITY,
    suffix: str = ".mhd",
    is_compressed: bool = False,
) -> Path:
    """Write ``folder/uid.mhd`` with its ``.raw`` (or another suffix that ITK knows) and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{uid}{suffix}"
    image = make_image(hounsfield, spacing_mm=spacing_mm, origin_xyz=origin_xyz, direction=direction)
    sitk.WriteImage(image, str(path), useCompression=is_compressed)
    return path


def write_dicom_series(
    folder: Path,
    uid: str,
    hounsfield: NDArray[np.int16],
    *,
    spacing_mm: Sequence[float] = (0.7, 0.8, 2.5),
    origin_xyz: Sequence[float] = (-50.0, -40.0, -300.0),
    direction: Sequence[float] = IDENTITY,
    patient_id: str = "phantom",
    tags: dict[str, object] | None = None,
    prefix: str = "slice",
) -> Path:
    """Write a DICOM series, one file a slice, and return its folder.

    The files are named against the order of the slices, and SliceThickness is wrong on purpose (twice the
    spacing): only the slices' positions tell the truth. ``tags`` overwrites attributes of every slice.
    """
    folder.mkdir(parents=True, exist_ok=True)
    axes = np.asarray(direction, dtype=np.float64).reshape(3, 3)
    num_slices = hounsfield.shape[0]
    for index in range(num_slices):
        position = np.asarray(origin_xyz) + index * spacing_mm[2] * axes[:, 2]
        dataset = _ct_slice(uid, hounsfield[index], index + 1)
        dataset.PatientID = patient_id
        dataset.ImagePositionPatient = [_decimal(value) for value in position]
        dataset.ImageOrientationPatient = [_decimal(value) for value in (*axes[:, 0], *axes[:, 1])]
        dataset.PixelSpacing = [_decimal(spacing_mm[1]), _decimal(spacing_mm[0])]
        dataset.SliceThickness = _decimal(2 * spacing_mm[2])
        for keyword, value in (tags or {}).items():
            setattr(dataset, keyword, value)
        dataset.save_as(folder / f"{prefix}{num_slices - index:04d}.dcm", enforce_file_format=True)
    return folder


def write_tables(
    folder: Path,
    *,
    candidates: Sequence[Sequence[object]] | None = None,
    annotations: Sequence[Sequence[object]] | None = None,
    malignancy: Sequence[Sequence[object]] | None = None,
    subsets: Sequence[Sequence[object]] | None = None,
) -> None:
    """Write LUNA16's tables, values as ``str`` gives them.

    A row is (uid, x, y, z, class), (uid, x, y, z, diameter_mm), (uid, x, y, z, diameter_mm, is_malignant,
    ratings as text) or (uid, subset).
    """
    folder.mkdir(parents=True, exist_ok=True)
    world = ("coordX", "coordY", "coordZ")
    book = ("coord_x", "coord_y", "coord_z", "diameter_mm", "is_malignant", "malignant_details")
    for name, header, rows in (
        ("candidates_V2.csv", ("seriesuid", *world, "class"), candidates),
        ("annotations.csv", ("seriesuid", *world, "diameter_mm"), annotations),
        ("annotations_with_malignancy.csv", ("seriesuid", *book), malignancy),
        ("luna16_subsets.csv", ("seriesuid", "subset"), subsets),
    ):
        if rows is not None:
            lines = [",".join(header), *(",".join(_cell(value) for value in row) for row in rows)]
            (folder / name).write_text("\n".join(lines) + "\n")


def _cell(value: object) -> str:
    text = str(value)
    return f'"{text}"' if "," in text else text


def _decimal(value: float) -> str:
    """A number as DICOM's decimal string (at most 16 characters)."""
    return f"{float(value):.10g}"[:16]


def _ct_slice(uid: str, hounsfield: NDArray[np.int16], instance: int) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = f"{uid}.{instance}"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, f"{uid}.{instance}"
    dataset.SeriesInstanceUID, dataset.StudyInstanceUID = uid, f"{uid}.0"
    dataset.Modality, dataset.InstanceNumber = "CT", instance
    dataset.Rows, dataset.Columns = hounsfield.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation = 0
    dataset.RescaleIntercept, dataset.RescaleSlope = str(INTERCEPT_HU), "1"
    dataset.PixelData = (hounsfield.astype(np.int32) - INTERCEPT_HU).astype("<u2").tobytes()
    return dataset


def edit_dicom(path: Path, **tags: object) -> None:
    """Overwrite attributes of one DICOM file by keyword."""
    dataset = pydicom.dcmread(path)
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path, enforce_file_format=True)
