"""The voxels and grid of a file by SimpleITK, and of slices by pydicom: what an accepted input must equal."""

from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk

from luna_pipeline.core.ct.formats.reader import Ct
from luna_pipeline.core.ct.reading import format_of

_STRICTER = (
    *("don't yet have a valid dimension", "as field identifier", "can't have min, max, spacing, or units set"),
    *("must set all or none of",),
)
"""Refusals of NRRD's library for fields in another order, after a blank, or that have no meaning here."""


def difference(path: Path, ct: Ct) -> str | None:
    """Return how an accepted CT differs from what the other library reads; None if it does not."""
    return _from_pydicom(path, ct) if path.is_dir() else _from_itk(path, ct)


def must_be_listed(folder: Path) -> bool:
    """Return whether a folder holds what a catalogue must name: a file with a CT's suffix, or a DICOM file."""
    # Not by rglob, which recurses: one of the inputs is too deep for it.
    for path in [*folder.glob("*"), *folder.glob("*/*")]:
        if path.name.startswith("."):
            continue
        if format_of(path) is not None and not path.is_dir():
            return True
        if path.suffix == ".dcm" and path.is_file() and path.stat().st_size < 1 << 20:
            try:
                if pydicom.dcmread(path, stop_before_pixels=True).get("SeriesInstanceUID"):
                    return True
            except Exception:
                continue
    return False


def _as_hounsfield(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), -32768, 32767).astype(np.int16)


def _from_itk(path: Path, ct: Ct) -> str | None:
    if _is_packed_without_length(path):
        return None
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        # ITK reads no header with a long line, also where its key has no meaning for a CT.
        has_long_line = any(len(line) > 2000 for line in path.read_bytes()[:16384].split(b"\n")[:16])
        if any(text in str(error) for text in _STRICTER) or has_long_line:
            return None
        return f"SimpleITK reads nothing: {str(error).splitlines()[-1][:200]}"
    voxels = sitk.GetArrayFromImage(image)
    voxels = voxels.reshape(voxels.shape[-3:]) if voxels.ndim > 3 and voxels.size == ct.hounsfield.size else voxels
    if voxels.shape != ct.hounsfield.shape:
        return f"SimpleITK reads {voxels.shape}, here {ct.hounsfield.shape}"
    if not np.array_equal(_as_hounsfield(voxels), ct.hounsfield):
        return f"{(_as_hounsfield(voxels) != ct.hounsfield).sum()} voxels differ from SimpleITK's"
    return _grid_difference(image, ct)


def _grid_difference(image: sitk.Image, ct: Ct) -> str | None:
    for name, theirs, ours in (
        ("spacing", image.GetSpacing()[:3], ct.grid.spacing_mm),
        ("origin", image.GetOrigin()[:3], ct.grid.origin_xyz),
    ):
        if not np.allclose(theirs, ours, rtol=1e-4, atol=1e-3):
            return f"SimpleITK's {name} is {theirs}, here {ours}"
    return None


def _from_pydicom(folder: Path, ct: Ct) -> str | None:
    """Compare each slice with one of pydicom; padding is outside the scanned circle, and has a value of its own."""
    slices = []
    for path in ct.files:
        dataset = pydicom.dcmread(path, force=True)
        # What is taken for attributes that are missing.
        dataset.PhotometricInterpretation = dataset.get("PhotometricInterpretation") or "MONOCHROME2"
        dataset.BitsStored = dataset.get("BitsStored") or dataset.BitsAllocated
        dataset.SamplesPerPixel = dataset.get("SamplesPerPixel") or 1
        stored = dataset.pixel_array.astype(np.float64)
        values = _as_hounsfield(stored * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept))
        slices.append((values, stored == dataset.get("PixelPaddingValue", -1)))
    for index, ours in enumerate(ct.hounsfield):
        if not any(_equal(ours, *theirs) for theirs in slices):
            return f"slice {index} is none of pydicom's"
    return None


def _equal(ours: np.ndarray, values: np.ndarray, is_padding: np.ndarray) -> bool:
    return values.shape == ours.shape and np.array_equal(values[~is_padding], ours[~is_padding])


def _is_packed_without_length(path: Path) -> bool:
    """Return whether a MetaImage is one that ITK cannot unpack, which it tells by a line on the screen alone."""
    head = path.read_bytes()[:4096] if path.suffix in {".mha", ".mhd"} else b""
    return b"CompressedData = True" in head and b"CompressedDataSize" not in head
