"""LUNA25: screening CTs of patients over time, and nodules with a binary label of malignancy."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd

from luna_pipeline.core.candidates.matching import POINT_COLUMNS
from luna_pipeline.core.candidates.table_notes import WARNING
from luna_pipeline.core.candidates.usable_rows import SeriesGrids, are_inside
from luna_pipeline.core.ct.formats.luna25_block import BLOCKS, CT_FOLDER, IMAGES, TABLE, block_uid, is_block
from luna_pipeline.core.sources.card import SourceCard
from luna_pipeline.core.sources.checked_tables import CheckedTable
from luna_pipeline.core.sources.faults import Fault
from luna_pipeline.core.sources.luna25_table import FORM, faults_between_columns, find_annotations, read_annotations
from luna_pipeline.core.sources.source import CANDIDATE_COLUMNS, DataSource, SourceTables

_SIGNS = {
    "x and y": (-1.0, -1.0, 1.0),
    "z": (1.0, 1.0, -1.0),
    "y and z": (1.0, -1.0, -1.0),
    "x, y and z": (-1.0, -1.0, -1.0),
}


class Luna25(DataSource):
    """4,069 CTs of 2,120 patients with 6,163 annotated nodules, 555 malignant.

    Where the images are not there, each nodule block is a small CT: its series is named by a digest of AnnotationID.
    """

    card: ClassVar[SourceCard] = SourceCard(
        name="luna25",
        title="LUNA25 (training and development data)",
        licence="Images: CC BY 4.0 (Zenodo 14223624); table: CC BY-NC 4.0 (Zenodo 14673658)",
        citation="The LUNA25 Challenge: Public Training and Development Set, Zenodo, doi:10.5281/zenodo.14223624 "
        "(imaging data) and doi:10.5281/zenodo.14673658 (annotation data)",
        address="https://luna25.grand-challenge.org",
        size="4,069 CTs of 2,120 patients, about 225 GB in 46 parts",
        layout=f"{CT_FOLDER}/<SeriesInstanceUID>.mha, or {BLOCKS}/{IMAGES}/<AnnotationID>.npy with metadata/, and one "
        "CSV table at the top.",
        traps=(
            "A nodule is there up to three times, once a year, always with the same label: a patient in two folds "
            "gives the labels away.",
            "Rows of one nodule are not independent: intervals over rows are too narrow, see `luna evaluate_luna25`.",
            "The metadata of nodule blocks is pickled: loading it as numpy does runs whatever it names. It is read "
            "here without unpickling.",
            "Three blocks have flipped y and z axes; positions are found by each file's own geometry.",
            "AnnotationID begins with the patient's number: it is not stored, and names of block files are not shown.",
            "Nodules have no diameter and no ratings: detection cannot be evaluated with them.",
        ),
    )

    table_forms = (FORM,)

    def is_at(self, root: Path) -> bool:
        """Return whether the folder holds LUNA25's images, blocks or table by its published name."""
        return (root / CT_FOLDER).is_dir() or (root / BLOCKS / IMAGES).is_dir() or (root / TABLE).is_file()

    def is_scan(self, path: Path) -> bool:
        """Return whether a file is a CT: blocks are, where no image is there beside them."""
        return not is_block(path) or not _has_images(path.parents[2])

    def patients(self, root: Path) -> Mapping[str, str]:
        """Return PatientID by series, of scans and of blocks."""
        rows = read_annotations(find_annotations(root))
        of_scans = dict(zip(rows["series_instance_uid"], rows["patient"], strict=True))
        of_blocks = {
            block_uid(name): patient for name, patient in zip(rows["annotation"], rows["patient"], strict=True)
        }
        return of_scans | of_blocks

    def faults(self, tables: Mapping[str, CheckedTable]) -> Sequence[Fault]:
        """Return what is wrong between the columns of the table."""
        return [fault for name, table in tables.items() for fault in faults_between_columns(table.rows, name)]

    def tables(self, root: Path, catalogue: pd.DataFrame) -> SourceTables:
        """Read the nodules: candidates of class 1 with their own labels.

        Raises:
            FileNotFoundError: If there is no table.
            ValueError: If the table is malformed, or its coordinates have other signs than the CTs.
        """
        path = find_annotations(root)
        rows = read_annotations(path)
        notes = [*_label_notes(rows, path.name), *_repeat_notes(rows)]
        series = rows["series_instance_uid"].astype(str)
        if (catalogue["format"] == "luna25_block").any():
            blocks = rows["annotation"].map(block_uid)
            series = series.where(series.isin(set(catalogue["series_instance_uid"])), blocks)
            notes.append("Nodule blocks are read as small CTs; other nodules within a block are not listed for it.")
        rows["series_instance_uid"] = series
        _check_signs(rows, SeriesGrids.of_catalogue(catalogue), path.name)
        rows["class"] = 1
        rows["is_malignant"] = rows["is_malignant"].astype("boolean")
        return SourceTables(candidates=rows[[*CANDIDATE_COLUMNS, "is_malignant"]], notes=tuple(notes))


def _has_images(root: Path) -> bool:
    return any((root / CT_FOLDER).glob("*.mha"))


def _label_notes(rows: pd.DataFrame, file: str) -> Iterator[str]:
    """Yield warnings about labels that differ within a nodule or a patient: the published table has none."""
    for column, words in (("nodule", "nodules over time"), ("patient", "patients")):
        is_mixed = rows.groupby(column)["is_malignant"].transform("nunique") > 1
        if is_mixed.any():
            lines = ", ".join(str(line) for line in rows.loc[is_mixed, "line"].head(5))
            number = rows.loc[is_mixed, column].nunique()
            yield (
                f"{WARNING}{file}: {number} {words} have malignant and benign rows (line {lines}). The published table "
                "has none: check the labels."
            )


def _repeat_notes(rows: pd.DataFrame) -> Iterator[str]:
    """Yield how often nodules were seen."""
    times = rows.groupby("nodule").size()
    counts = ", ".join(f"{int((times == number).sum())} seen {number} times" for number in sorted(set(times)))
    num_malignant = int(rows["is_malignant"].sum())
    yield (
        f"{len(rows)} annotations ({num_malignant} malignant) of {len(times)} nodules of {rows['patient'].nunique()} "
        f"patients: {counts}."
    )


def _check_signs(rows: pd.DataFrame, grids: SeriesGrids, file: str) -> None:
    """Refuse coordinates most of which lie outside their CT as they are, and inside with other signs.

    Raises:
        ValueError: With the first line.
    """
    known = rows[rows["series_instance_uid"].isin(set(grids.readable))].reset_index(drop=True)
    if known.empty:
        return
    series, points = known["series_instance_uid"], known[POINT_COLUMNS].to_numpy(dtype=np.float64)
    everywhere = np.ones(len(known), dtype=bool)
    is_outside = ~are_inside(series, points, everywhere, grids.readable)
    if not is_outside.any():
        return
    for axes, signs in _SIGNS.items():
        is_inside = are_inside(series, points * np.array(signs), everywhere, grids.readable)
        if is_inside[is_outside].all() and is_inside.mean() > 1 - is_outside.mean():
            first = known[is_outside].iloc[0]
            place = ", ".join(f"{value:g}" for value in first[POINT_COLUMNS])
            rule = (
                f"Coordinates must be LPS mm within their CT, got ({place}) outside it, and inside with {axes} negated"
            )
            where = f"{file} line {first['line']}, {int(is_outside.sum())} of {len(known)} rows with a CT"
            raise ValueError(f"{rule} ({where}). Write x to the left, y to the back, z to the head.")
