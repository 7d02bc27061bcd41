"""The synthetic twin of a user's own scans: four file formats below ``scans``, ``scans.csv`` and ``nodules.csv``."""

# SimpleITK types half of its wrappers.
# mypy: allow-untyped-calls

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import SimpleITK as sitk

from luna_pipeline.core.phantom.dicom import write_dicom
from luna_pipeline.core.phantom.findings import Findings
from luna_pipeline.core.phantom.form import PhantomForm
from luna_pipeline.core.phantom.luna16 import image_of
from luna_pipeline.core.phantom.series import PhantomConfig, PhantomSeries
from luna_pipeline.core.phantom.shapes import Point

SCAN_COLUMNS = ("series", "patient", "fold", "site", "notes")
NODULE_COLUMNS = ("series", "x_mm", "y_mm", "z_mm", "frame", "diameter_mm", "kind", "malignant", "ratings", "notes")
_SUFFIXES = ("", ".mha", ".nii.gz", ".nrrd")


@dataclass
class CsvAndFolderForm(PhantomForm):
    """Series in turn as DICOM, MetaImage, NIfTI and NRRD; positions of NIfTI and NRRD in RAS, as their programs show.

    The fold is that of the patient, so that no patient is in two.
    """

    patterns = ("scans", "scans.csv", "nodules.csv")
    configs: list[PhantomConfig] = field(default_factory=list)

    def write_series(self, series: PhantomSeries) -> None:
        """Write a DICOM folder or a file."""
        uid, suffix = series.config.series_instance_uid, _suffix_of(series.config)
        folder = self.out / "scans"
        folder.mkdir(parents=True, exist_ok=True)
        if suffix:
            sitk.WriteImage(image_of(series), str(folder / f"{uid}{suffix}"), useCompression=True)
        else:
            write_dicom(folder / uid, series)
        self.configs.append(series.config)

    def tables(self) -> Mapping[str, bytes]:
        """Return both tables."""
        patients = sorted({config.patient_id for config in self.configs})
        folds = {patient: number % self.num_subsets for number, patient in enumerate(patients)}
        scans = [
            [config.series_instance_uid, config.patient_id, str(folds[config.patient_id]), "synthetic", ""]
            for config in self.configs
        ]
        nodules = [row for config in self.configs for row in _rows(config, self.findings[config.series_instance_uid])]
        return {"scans.csv": _csv(SCAN_COLUMNS, scans), "nodules.csv": _csv(NODULE_COLUMNS, nodules)}


def _suffix_of(config: PhantomConfig) -> str:
    return _SUFFIXES[config.number % len(_SUFFIXES)]


def _rows(config: PhantomConfig, findings: Findings) -> Iterator[list[str]]:
    for nodule, ratings in zip(findings.nodules, findings.ratings, strict=True):
        rated = " ".join(str(rating) for rating in ratings)
        yield [*_place(config, nodule.center_xyz), f"{nodule.diameter_mm:.10g}", "nodule", "", rated, ""]
    for spot in findings.excluded:
        size = f"{spot.diameter_mm:.10g}" if spot.diameter_mm > 0 else ""
        yield [*_place(config, spot.center_xyz), size, "excluded", "", "", ""]


def _place(config: PhantomConfig, center_xyz: Point) -> list[str]:
    is_ras = _suffix_of(config) in (".nii.gz", ".nrrd")
    signs = (-1, -1, 1) if is_ras else (1, 1, 1)
    numbers = [f"{sign * value:.10g}" for sign, value in zip(signs, center_xyz, strict=True)]
    return [config.series_instance_uid, *numbers, "RAS" if is_ras else "LPS"]


def _csv(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue().encode()
