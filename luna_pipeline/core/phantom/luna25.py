"""The synthetic twin of LUNA25: MetaImage files, nodule blocks with their metadata, and the table of annotations.

The last two of each four series are one patient's, a year apart: their nodules have the same LesionIDs. All nodules of
a patient have one label, as in LUNA25: every second patient is malignant; nodules of the other label are not listed.
"""

# SimpleITK types half of its wrappers.
# mypy: allow-untyped-calls

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from luna_pipeline.core.ct.formats.luna25_block import (
    BLOCK_SHAPE_IRC,
    BLOCKS,
    CT_FOLDER,
    IMAGES,
    METADATA,
    PADDING_HU,
    TABLE,
)
from luna_pipeline.core.phantom.form import PhantomForm
from luna_pipeline.core.phantom.luna16 import image_of
from luna_pipeline.core.phantom.series import PhantomConfig, PhantomSeries
from luna_pipeline.core.phantom.shapes import Point
from luna_pipeline.core.storage.files import written_atomically

CSV_COLUMNS = (
    *("PatientID", "SeriesInstanceUID", "StudyDate", "CoordX", "CoordY", "CoordZ", "LesionID", "AnnotationID"),
    *("NoduleID", "label", "Age_at_StudyDate", "Gender"),
)
_STUDY_DATES = ("19990102", "20000108")
_MALIGNANT_MEAN = 3.0


@dataclass
class Luna25Form(PhantomForm):
    """``luna25_images/<uid>.mha``, ``luna25_nodule_blocks/{image,metadata}/<AnnotationID>.npy`` and the table."""

    patterns = (CT_FOLDER, BLOCKS, TABLE)
    rows: list[list[str]] = field(default_factory=list)

    def write_series(self, series: PhantomSeries) -> None:
        """Write the CT and the block of each nodule that is listed; a CT without any is left out, as by LUNA25."""
        listed = list(_listed(series))
        if not listed:
            return
        (self.out / CT_FOLDER).mkdir(parents=True, exist_ok=True)
        path = self.out / CT_FOLDER / f"{series.config.series_instance_uid}.mha"
        sitk.WriteImage(image_of(series), str(path), useCompression=True)
        for lesion, center_xyz, is_malignant in listed:
            row = _row(series.config, lesion, center_xyz, is_malignant=is_malignant)
            self.rows.append(row)
            self._write_block(row[CSV_COLUMNS.index("AnnotationID")], series, center_xyz)

    def tables(self) -> Mapping[str, bytes]:
        """Return LUNA25's table."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(CSV_COLUMNS)
        writer.writerows(self.rows)
        return {TABLE: text.getvalue().encode()}

    def _write_block(self, annotation_id: str, series: PhantomSeries, center_xyz: Point) -> None:
        voxels, metadata = block_of(series, center_xyz)
        values: tuple[tuple[str, object], ...] = ((IMAGES, voxels), (METADATA, metadata))
        for folder, value in values:
            with written_atomically(self.out / BLOCKS / folder / f"{annotation_id}.npy", is_synced=False) as file:
                # A dictionary is pickled by numpy, as LUNA25's are.
                np.save(file, np.asarray(value))


def block_of(series: PhantomSeries, center_xyz: Point) -> tuple[NDArray[np.int16], dict[str, NDArray[np.float64]]]:
    """Return the voxels around a nodule and their metadata.

    Returns:
        HU (64, 128, 128), z, y, x at the CT's own spacing, the nodule's voxel at half of each size, -1024 outside the
        CT; and ``origin`` (3,), ``spacing`` (3,), ``transform`` (3, 3) in LUNA25's form, see ``Luna25BlockReader``.
    """
    grid = series.grid
    shape = np.asarray(BLOCK_SHAPE_IRC)
    start = grid.nearest_voxel(center_xyz) - shape // 2
    low, high = np.maximum(start, 0), np.minimum(start + shape, grid.size_irc)
    voxels = np.full(BLOCK_SHAPE_IRC, PADDING_HU, dtype=np.int16)
    source = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    target = tuple(slice(int(a), int(b)) for a, b in zip(low - start, high - start, strict=True))
    voxels[target] = series.hounsfield[source]
    origin_xyz = grid.voxel_to_world(start)
    steps_zyx = (grid.voxel_to_world(start + np.eye(3)) - origin_xyz)[:, ::-1]
    return voxels, {
        "origin": np.array(origin_xyz[::-1]),
        "spacing": grid.spacing_irc,
        "transform": steps_zyx @ np.diag(1 / grid.spacing_irc),
    }


def _listed(series: PhantomSeries) -> Iterator[tuple[int, Point, bool]]:
    """Yield number, position and label of the nodules with their patient's label."""
    is_malignant = int(series.config.patient_id.rpartition("-")[2]) % 2 == 1
    rated = sorted(
        zip(series.findings.nodules, series.findings.ratings, strict=True),
        key=lambda pair: float(np.mean(pair[1])),
        reverse=is_malignant,
    )
    alike = [nodule for nodule, ratings in rated if (np.mean(ratings) >= _MALIGNANT_MEAN) == is_malignant]
    # The nodule that fits the label best is listed where none does.
    alike = alike or [nodule for nodule, _ in rated[:1]]
    for lesion, nodule in enumerate(alike, start=1):
        yield lesion, nodule.center_xyz, is_malignant


def _row(config: PhantomConfig, lesion: int, center_xyz: Point, *, is_malignant: bool) -> list[str]:
    visit = int(config.number % 4 == 3)
    date = _STUDY_DATES[visit]
    nodule = f"{config.patient_id}_{lesion}"
    number = int(config.patient_id.rpartition("-")[2])
    return [
        *(config.patient_id, config.series_instance_uid, date, *(f"{value:.4f}" for value in center_xyz), str(lesion)),
        *(f"{nodule}_{date}", nodule, str(int(is_malignant)), str(55 + number % 20 + visit)),
        ("Female", "Male")[number % 3 % 2],
    ]
