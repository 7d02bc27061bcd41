"""The synthetic twin of LIDC-IDRI: DICOM folders with the XML file of four made-up readers beside the slices."""

# SimpleITK types half of its wrappers.
# mypy: allow-untyped-calls

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from luna_pipeline.core.ct.quiet import quiet_itk
from luna_pipeline.core.phantom.dicom import write_dicom
from luna_pipeline.core.phantom.form import PhantomForm
from luna_pipeline.core.phantom.lidc_readers import draw_readings
from luna_pipeline.core.phantom.lidc_xml import ct_message, xray_message
from luna_pipeline.core.phantom.series import PhantomSeries, phantom_uid
from luna_pipeline.core.storage.files import write_bytes

_XRAY_EVERY = 3
_XRAY_STORAGE = "1.2.840.10008.5.1.4.1.1.1"


class LidcIdriForm(PhantomForm):
    """``LIDC-IDRI-<patient>/<study>/<series>/*.dcm`` and ``<number>.xml``; every third series has a chest X-ray, too.

    The directions of LIDC-IDRI's series are all the identity; those of the phantom are as in its other forms.
    """

    patterns = ("LIDC-IDRI-PHANTOM-[0-9]*",)

    def write_series(self, series: PhantomSeries) -> None:
        """Write the slices and the readers' marks."""
        config = series.config
        uid, patient = config.series_instance_uid, self.out / f"LIDC-IDRI-{config.patient_id}"
        study = phantom_uid(f"study {uid}")
        folder = patient / study / uid
        write_dicom(folder, series)
        message = ct_message(uid, study, draw_readings(series))
        write_bytes(folder / f"{config.number + 1:03d}.xml", message.encode())
        if config.number % _XRAY_EVERY == 0:
            self._write_xray(patient, series)

    def tables(self) -> Mapping[str, bytes]:
        """Return no table: everything is beside the slices."""
        return {}

    def _write_xray(self, patient: Path, series: PhantomSeries) -> None:
        """Write a chest X-ray: a sum along the rows."""
        uid = series.config.series_instance_uid
        own, study = phantom_uid(f"x-ray {uid}"), phantom_uid(f"x-ray study {uid}")
        folder = patient / study / own
        folder.mkdir(parents=True, exist_ok=True)
        image = sitk.GetImageFromArray(np.rint(series.hounsfield[::-1].mean(axis=1) + 3024).astype(np.uint16)[None])
        tags = {
            "0008|0016": _XRAY_STORAGE,
            "0008|0018": phantom_uid(f"x-ray image {uid}"),
            "0008|0060": "CR",
            "0010|0010": f"{series.config.patient_id}^Synthetic",
            "0010|0020": series.config.patient_id,
            "0020|000d": study,
            "0020|000e": own,
        }
        for tag, value in tags.items():
            image.SetMetaData(tag, value)
        writer = sitk.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.SetFileName(str(folder / "000001.dcm"))
        with quiet_itk():
            writer.Execute(image)
        write_bytes(folder / f"{series.config.number + 1:03d}.xml", xray_message(own, study).encode())
