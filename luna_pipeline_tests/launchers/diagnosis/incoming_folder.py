"""A folder of incoming CTs for tests: small DICOM series and volume files, written whole or file by file."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from luna_pipeline.core.phantom.dicom import write_dicom
from luna_pipeline.core.phantom.series import PhantomConfig, make_series

SIZE_IRC, NUM_SLICES = (32, 32, 32), 8


@dataclass(frozen=True)
class DicomFiles:
    """A DICOM series that waits outside of the folder; `put` copies files of it into a folder."""

    uid: str
    files: tuple[Path, ...]

    def put(self, folder: Path, numbers=None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(len(self.files)) if numbers is None else numbers:
            shutil.copy(self.files[number], folder / f"{self.uid[-6:]}-{number}.dcm")


def dicom_files(folder: Path, number: int = 0) -> DicomFiles:
    series = make_series(PhantomConfig(5, number, SIZE_IRC))
    uid = series.config.series_instance_uid
    write_dicom(folder / uid, series)
    return DicomFiles(uid, tuple(sorted((folder / uid).iterdir())[:NUM_SLICES]))


def write_volume(path: Path, value: int = -800) -> None:
    image = sitk.GetImageFromArray(np.full(SIZE_IRC, value, np.int16))
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))
