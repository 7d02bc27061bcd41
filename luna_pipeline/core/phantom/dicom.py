"""Write a phantom's series as a folder of DICOM slices."""

# SimpleITK types half of its wrappers.
# mypy: allow-untyped-calls

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from luna_pipeline.core.ct.quiet import quiet_itk
from luna_pipeline.core.phantom.marker import MANUFACTURER
from luna_pipeline.core.phantom.series import PhantomSeries, phantom_uid

CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
# As most scanners have it; ITK subtracts it when it writes and adds it when it reads.
RESCALE_INTERCEPT_HU = -1024


def write_dicom(folder: Path, series: PhantomSeries) -> None:
    """Write one file a slice, ``0001.dcm`` on, that ITK reads back to the same HU and geometry."""
    folder.mkdir(parents=True, exist_ok=True)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    common = _series_tags(series)
    for index, slice_hu in enumerate(series.hounsfield):
        image = sitk.GetImageFromArray(slice_hu[None])
        image.SetSpacing(series.grid.spacing_mm)
        for tag, value in (common | _slice_tags(series, index)).items():
            image.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{index + 1:04d}.dcm"))
        with quiet_itk():
            writer.Execute(image)


def _series_tags(series: PhantomSeries) -> dict[str, str]:
    uid, patient = series.config.series_instance_uid, series.config.patient_id
    axes = np.asarray(series.grid.direction).reshape(3, 3)
    slice_mm = decimal_string(series.grid.spacing_mm[2])
    return {
        "0008|0008": "DERIVED\\SECONDARY\\AXIAL",
        "0008|0016": CT_IMAGE_STORAGE,
        "0008|0020": "20000101",
        "0008|0030": "000000",
        "0008|0060": "CT",
        "0008|0070": MANUFACTURER,
        "0008|103e": "synthetic chest phantom",
        "0010|0010": f"{patient}^Synthetic",
        "0010|0020": patient,
        "0018|0050": slice_mm,
        "0018|0088": slice_mm,
        "0020|000d": phantom_uid(f"study {uid}"),
        "0020|000e": uid,
        "0020|0011": "1",
        "0020|0037": "\\".join(decimal_string(value) for value in (*axes[:, 0], *axes[:, 1])),
        "0020|0052": phantom_uid(f"frame {uid}"),
        "0028|1052": str(RESCALE_INTERCEPT_HU),
        "0028|1053": "1",
        "0028|1054": "HU",
    }


def _slice_tags(series: PhantomSeries, index: int) -> dict[str, str]:
    position = series.grid.voxel_to_world((index, 0, 0))
    return {
        "0008|0018": phantom_uid(f"slice {series.config.series_instance_uid} {index}"),
        "0020|0013": str(index + 1),
        "0020|0032": "\\".join(decimal_string(value) for value in position),
    }


def decimal_string(value: float) -> str:
    """Write a number within the 16 characters of a DICOM decimal string, as exactly as fits."""
    for digits in range(15, 0, -1):
        text = f"{value:.{digits}g}"
        if len(text) <= 16:
            return text
    raise ValueError(f"Number must fit into 16 characters, got {value}. Choose a smaller coordinate.")
