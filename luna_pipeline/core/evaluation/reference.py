"""Reference for predictions of folds: LUNA16's tables, restricted to the scans of the folds."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from luna_pipeline.core.candidates.table_places import ANNOTATION_FILES, EXCLUDED_FILES, SCAN_FILES, find_table
from luna_pipeline.core.candidates.uid_differences import describe_difference
from luna_pipeline.core.evaluation.froc_files import FrocTables, read_findings, read_scans


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Reference:
    """Nodules, excluded findings and scans of some folds.

    Attributes:
        nodules: As in ``FrocTables``.
        excluded: As in ``FrocTables``.
        scans: Series instance uids of the scans of the folds, in list order.
        notes: Limitations of the score, one sentence each.
    """

    nodules: pd.DataFrame
    excluded: pd.DataFrame
    scans: list[str]
    notes: tuple[str, ...]

    def tables_of(self, predictions: pd.DataFrame) -> FrocTables:
        """Return the input of the evaluation for the predictions of one model; the candidates are its marks."""
        return FrocTables(marks=predictions, nodules=self.nodules, excluded=self.excluded, scans=self.scans)

    def of_scans(self, series: Collection[str]) -> "Reference":
        """Return the reference restricted to some scans."""
        wanted = set(series)
        return replace(self, scans=[uid for uid in self.scans if uid in wanted])


def read_reference(data_root: Path, folds: pd.DataFrame, *, of_folds: Collection[int]) -> Reference | None:
    """Read LUNA16's tables for some folds.

    Args:
        data_root: Folder with ``annotations.csv``, and optionally ``annotations_excluded.csv`` and ``seriesuids.csv``.
        folds: Table of the asset `folds`: ``series_instance_uid``, ``fold``.
        of_folds: Folds with predictions.

    Returns:
        The reference; None without annotations. Without a list of scans, all series of the folds are used.

    Raises:
        ValueError: If a table lacks a column, or a value of these scans is not a finite number.
    """
    annotations = find_table(data_root, ANNOTATION_FILES)
    if annotations is None:
        return None
    excluded, listed = (find_table(data_root, names) for names in (EXCLUDED_FILES, SCAN_FILES))
    fold_of = folds.set_index("series_instance_uid")["fold"]
    available = set(fold_of.index[fold_of.isin(list(of_folds))])
    rows = read_scans(listed, is_corrected=True) if listed else sorted(available)
    scans = [uid for uid in rows if uid in available]
    notes = [] if excluded else ["There is no annotations_excluded.csv: marks on such findings are false positives."]
    if listed:
        notes += _note(sorted(available - set(rows)), "series of the folds are not in seriesuids.csv: left out")
        notes += _note(sorted(set(rows) - set(fold_of.index)), "scans of seriesuids.csv have no readable CT here")
    tables = {path: read_findings(path, scans) for path in (annotations, excluded)}
    series = {path.name: list(table["series_instance_uid"].unique()) for path, table in tables.items() if path}
    if listed:
        series[listed.name] = rows
    for name, uids in series.items():
        difference = describe_difference(sorted(set(uids) - set(fold_of.index)), fold_of.index)
        notes += [f"Series uids of {name} differ: {difference}"] if difference else []
    return Reference(nodules=tables[annotations], excluded=tables[excluded], scans=scans, notes=tuple(notes))


def _note(uids: list[str], what: str) -> list[str]:
    return [f"{len(uids)} {what} (the first is {uids[0]})."] if uids else []
