"""A user's own scans: a folder of CTs in any readable format, ``scans.csv`` and ``nodules.csv``."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.arrays import BooleanArray

from luna_pipeline.core.candidates.csv_tables import parse_numbers
from luna_pipeline.core.candidates.malignancy import parse_ratings
from luna_pipeline.core.candidates.table_places import find_table
from luna_pipeline.core.sources.card import SourceCard
from luna_pipeline.core.sources.cell_rules import Column
from luna_pipeline.core.sources.checked_tables import CheckedTable
from luna_pipeline.core.sources.faults import Fault, raise_faults
from luna_pipeline.core.sources.source import (
    CANDIDATE_COLUMNS,
    NODULE_COLUMNS,
    RATED_COLUMNS,
    UNKNOWN_DIAMETER_MM,
    DataSource,
    SourceTables,
)
from luna_pipeline.core.sources.table_forms import TableForm, check_forms, diameter_column, flag_column, point_columns

SCANS_FILE = "scans.csv"
NODULES_FILE = "nodules.csv"
NODULE, EXCLUDED, NOT_NODULE = "nodule", "excluded", "not_nodule"
_OPTIONAL: dict[str, Any] = {"is_required": False, "may_be_empty": True}
_SERIES = Column(name="series", spellings=("series", "seriesuid", "SeriesInstanceUID"), kind="uid")
_POINTS = ("x_mm", "y_mm", "z_mm")

SCANS = TableForm(
    files=(SCANS_FILE,),
    columns=(
        _SERIES,
        Column(name="patient", is_secret=True),
        Column(name="fold", kind="whole", least=0, most=999_999, **_OPTIONAL),
    ),
    unique=(("series",),),
    is_required=True,
    series="series",
    is_of_scans=True,
    covers_scans=True,
)
NODULES = TableForm(
    files=(NODULES_FILE,),
    columns=(
        _SERIES,
        *point_columns(_POINTS, {}),
        Column(name="frame", kind="word", words=("LPS", "RAS")),
        diameter_column(may_be_empty=True),
        Column(name="kind", kind="word", words=(NODULE, EXCLUDED, NOT_NODULE), **_OPTIONAL),
        flag_column("malignant", **_OPTIONAL),
        Column(name="ratings", kind="ratings", **_OPTIONAL),
    ),
    unique=(("series", *_POINTS),),
    is_required=True,
    series="series",
    points=_POINTS,
    frame="frame",
)


class CsvAndFolder(DataSource):
    """A folder of CTs, a row for each in ``scans.csv``, and a row for each finding in ``nodules.csv``."""

    card: ClassVar[SourceCard] = SourceCard(
        name="csv_and_folder",
        title="Own scans with two CSV tables",
        licence="That of your scans: check consent, ethics approval and de-identification before you use them",
        citation="That of your scans, if they are published",
        address="docs/how_to/sources/csv_and_folder.md",
        size="That of your scans",
        layout="CTs (DICOM folders, MetaImage, NRRD or NIfTI) at any depth, with scans.csv and nodules.csv at the top.",
        traps=(
            "Positions are world mm; the column frame says LPS (DICOM, ITK) or RAS (NIfTI, 3D Slicer) in each row.",
            "A CT without a row in scans.csv is not used; masks need no row.",
            "Scans of one patient need the same value in the column patient, or they may be in two folds.",
            "Findings that are not in nodules.csv count as errors of a detector: list doubtful ones as excluded.",
        ),
    )
    table_forms = (SCANS, NODULES)

    def is_at(self, root: Path) -> bool:
        """Return whether the folder holds one of the tables: `luna check_data` reports that the other is missing."""
        return any(find_table(root, form.files) is not None for form in self.table_forms)

    def catalogue(
        self, root: Path, *, data_root: Path, patient_key: bytes, kept: pd.DataFrame | None = None
    ) -> pd.DataFrame:
        """List the series below the root; those without a row in ``scans.csv`` are marked as not readable.

        Raises:
            FileNotFoundError: If there is no CT or no ``scans.csv``.
            ValueError: If ``scans.csv`` is malformed.
        """
        catalogue = super().catalogue(root, data_root=data_root, patient_key=patient_key, kept=kept)
        is_left_out = catalogue["is_readable"] & ~catalogue["series_instance_uid"].isin(_read(root)["series"])
        # The size stays: an earlier catalogue's row is readable again when the table has it.
        catalogue.loc[is_left_out, "is_readable"] = False
        catalogue.loc[is_left_out, "reason"] = [
            f"A CT must have a row in {SCANS_FILE}, got none (series {uid}). Add a row to use it."
            for uid in catalogue.loc[is_left_out, "series_instance_uid"]
        ]
        return catalogue

    def patients(self, root: Path) -> Mapping[str, str]:
        """Return the patient by series, as in ``scans.csv``."""
        scans = _read(root)
        return dict(zip(scans["series"], scans["patient"], strict=True))

    def folds(self, root: Path, catalogue: pd.DataFrame) -> Mapping[str, int]:
        """Return the fold by series, as in ``scans.csv``; without those that have none."""
        scans = _read(root)
        if "fold" not in scans:
            return {}
        pairs = zip(scans["series"], parse_numbers(scans["fold"])[0], strict=True)
        return {str(uid): int(fold) for uid, fold in pairs if np.isfinite(fold)}

    def tables(self, root: Path, catalogue: pd.DataFrame) -> SourceTables:
        """Read both tables.

        Raises:
            FileNotFoundError: If a table is missing.
            ValueError: If a table is malformed: the first fault with file and line, and the number of the others.
        """
        tables, faults = _require(root, SCANS, NODULES)
        raise_faults([*faults, *self.faults(tables)])
        return _source_tables(tables[SCANS_FILE].rows, tables[NODULES_FILE].rows)

    def faults(self, tables: Mapping[str, CheckedTable]) -> Sequence[Fault]:
        """Return what is wrong between columns and between the tables."""
        nodules = tables[NODULES_FILE].rows if NODULES_FILE in tables else pd.DataFrame()
        scans = tables[SCANS_FILE].rows if SCANS_FILE in tables else pd.DataFrame()
        return [*_without_diameter(nodules), *_without_scan(nodules, scans), *_in_two_folds(scans)]


def _require(root: Path, *forms: TableForm) -> tuple[dict[str, CheckedTable], list[Fault]]:
    for form in forms:
        if find_table(root, form.files) is None:
            msg = f"The data folder must hold {form.files[0]}, got none (in {root})."
            raise FileNotFoundError(f"{msg} Write one: `luna check_data --template FOLDER` shows its form.")
    return check_forms(root, forms)


def _read(root: Path) -> pd.DataFrame:
    """Return the rows of ``scans.csv``."""
    tables, faults = _require(root, SCANS)
    raise_faults(faults)
    return tables[SCANS_FILE].rows


def _kinds(nodules: pd.DataFrame) -> pd.Series:
    """Return the kind of each finding in small letters; empty cells are nodules."""
    if "kind" not in nodules:
        return pd.Series(NODULE, index=nodules.index, dtype=object)
    return nodules["kind"].str.lower().replace("", NODULE)


def _without_diameter(nodules: pd.DataFrame) -> Iterator[Fault]:
    if "diameter_mm" not in nodules:
        return
    is_wrong = (nodules["diameter_mm"] == "") & (_kinds(nodules) == NODULE)
    if is_wrong.any():
        lines = tuple(nodules.loc[is_wrong, "line"].tolist())
        cure = "Fill it in, or write excluded or not_nodule as kind."
        yield Fault(rule="A nodule must have a diameter_mm", got="''", cure=cure, file=NODULES_FILE, lines=lines)


def _without_scan(nodules: pd.DataFrame, scans: pd.DataFrame) -> Iterator[Fault]:
    if "series" not in nodules or "series" not in scans:
        return
    for uid, rows in nodules[~nodules["series"].isin(scans["series"])].groupby("series", sort=False):
        if uid:
            lines, cure = tuple(rows["line"].tolist()), f"Add a row to {SCANS_FILE}, or correct the name."
            rule = f"A series of {NODULES_FILE} must have a row in {SCANS_FILE}"
            yield Fault(rule=rule, got=repr(str(uid)), cure=cure, file=NODULES_FILE, lines=lines)


def _in_two_folds(scans: pd.DataFrame) -> Iterator[Fault]:
    if not {"patient", "fold"} <= set(scans.columns):
        return
    folds = pd.Series(parse_numbers(scans["fold"])[0], index=scans.index)
    known = scans[folds.notna() & (scans["patient"] != "")]
    for _, rows in known.groupby("patient", sort=False):
        numbers = sorted({int(fold) for fold in folds[rows.index] if np.isfinite(fold)})
        if len(numbers) > 1:
            lines, cure = tuple(rows["line"].tolist()), "Give all scans of a patient the same fold."
            yield Fault(rule="A patient must be in one fold", got=str(numbers), cure=cure, file=SCANS_FILE, lines=lines)


def _source_tables(scans: pd.DataFrame, nodules: pd.DataFrame) -> SourceTables:
    kinds = _kinds(nodules)
    rows = NODULES.points_of(nodules).drop(columns="line")
    rows["diameter_mm"] = parse_numbers(nodules["diameter_mm"])[0]
    rows["is_malignant"] = _labels(nodules)
    rows["ratings"] = [parse_ratings(text) for text in nodules.get("ratings", pd.Series("", index=nodules.index))]
    is_nodule, is_other = (kinds == NODULE).to_numpy(), (kinds == NOT_NODULE).to_numpy()
    found = rows[is_nodule].reset_index(drop=True)
    excluded = rows[(kinds == EXCLUDED).to_numpy()].fillna({"diameter_mm": UNKNOWN_DIAMETER_MM})
    is_rated = found["is_malignant"].notna() | found["ratings"].map(bool)
    return SourceTables(
        annotations=found[list(NODULE_COLUMNS)],
        candidates=_candidates(rows, is_nodule, is_other) if is_other.any() else None,
        excluded=excluded[list(NODULE_COLUMNS)].reset_index(drop=True) if len(excluded) else None,
        ratings=found.loc[is_rated, list(RATED_COLUMNS)].reset_index(drop=True) if is_rated.any() else None,
        scans=sorted(scans["series"]),
        notes=_notes(nodules, num_others=int(is_other.sum())),
    )


def _labels(nodules: pd.DataFrame) -> BooleanArray:
    words = nodules.get("malignant", pd.Series("", index=nodules.index)).str.lower()
    labels = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}
    return pd.array([labels.get(word) for word in words], dtype="boolean")


def _candidates(rows: pd.DataFrame, is_nodule: NDArray[np.bool_], is_other: NDArray[np.bool_]) -> pd.DataFrame:
    """Return nodules and findings that are none as candidates of class 1 and 0."""
    classes = rows.assign(**{"class": is_nodule.astype(np.int64)})[is_nodule | is_other]
    return classes[list(CANDIDATE_COLUMNS)].reset_index(drop=True)


def _notes(nodules: pd.DataFrame, *, num_others: int) -> tuple[str, ...]:
    num_ras = int((nodules["frame"].str.upper() == "RAS").sum())
    notes = [f"{num_ras} of {len(nodules)} rows of {NODULES_FILE} are RAS, read as LPS."] if num_ras else []
    if num_others:
        notes.append(f"{num_others} rows of {NODULES_FILE} are not_nodule: with the nodules they are the candidates.")
    return tuple(notes)
