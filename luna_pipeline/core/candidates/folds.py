"""Assignment of one fold to each series: the only place where data are split.

LUNA16's own subsets are the folds. Without subsets, series are assigned by patient: no patient is in two folds.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from luna_pipeline.core.candidates.csv_columns import shown_value
from luna_pipeline.core.candidates.csv_tables import parse_numbers, read_table
from luna_pipeline.core.candidates.table_places import SUBSET_FILES, find_table
from luna_pipeline.core.candidates.uid_differences import describe_difference, shown_uid

# Far above any number of subsets; larger floats are no exact integers.
_MAX_SUBSET = 1_000_000
FOLD_COLUMNS = ("series_instance_uid", "fold", "patient_hash", "rule")


def assign_folds(catalogue: pd.DataFrame, *, data_root: Path, num_folds: int = 10, seed: int = 0) -> pd.DataFrame:
    """Assign a fold to each readable series.

    A series' fold is the first that is known of: the subset folder above it; its row in ``luna16_subsets.csv``; the
    fold of another series of its patient. Otherwise its group (its patient's series, or itself where the patient is
    not known) is assigned to the fold with the fewest series, groups in seeded order. The folds already in use are
    filled; with fewer than two of them ``num_folds``, but no more than there are groups.

    Args:
        catalogue: As from ``catalogue_series``.
        data_root: Folder that may hold ``luna16_subsets.csv``.
        num_folds: Number of folds for a data set without subsets.
        seed: Seed of the order of groups. Neither the patient key nor the order of rows matters.

    Returns:
        A row a readable series, sorted: series_instance_uid, fold (int64), patient_hash, rule.

    Raises:
        ValueError: If ``num_folds`` is below 1, or the table has an invalid or a second subset for a series.
    """
    if num_folds < 1:
        raise ValueError(f"There must be one fold or more, got {num_folds} (num_folds). Ask for 2 to 10.")
    readable = catalogue[catalogue["is_readable"].astype(bool)].sort_values("series_instance_uid")
    folds = readable[["series_instance_uid", "patient_hash"]].reset_index(drop=True)
    folders = readable["subset"].astype("Int64").reset_index(drop=True)
    table = folds["series_instance_uid"].map(_read_subsets(data_root)).astype("Int64")
    folds["fold"] = folders.fillna(table)
    has_patient = folds["patient_hash"].notna()
    folds["rule"] = np.select(
        [folders.notna(), table.notna(), has_patient], ["subset folder", "subset table", "patient group"], "series"
    )
    _follow_patients(folds)
    _deal(folds, num_folds=num_folds, seed=seed)
    return folds.astype({"fold": "int64"})[list(FOLD_COLUMNS)]


def check_folds(folds: pd.DataFrame) -> list[str]:
    """Find series and patients that are in two folds.

    Args:
        folds: Columns series_instance_uid, fold, patient_hash.

    Returns:
        A line for each violation, patients by the first 12 digits of their hash.
    """
    lines = []
    for kind, column, num_digits in (("Series", "series_instance_uid", None), ("Patient", "patient_hash", 12)):
        in_folds = folds[folds[column].notna()].groupby(column)["fold"].unique()
        for name, numbers in in_folds[in_folds.map(len) > 1].items():
            places = sorted(int(number) for number in numbers)
            lines.append(f"{kind} {str(name)[:num_digits]} must be in one fold, got {places}.")
    return lines


def describe_folds(folds: pd.DataFrame) -> list[str]:
    """Report series of many patients that have the same patient id, as de-identification may leave it.

    Args:
        folds: Columns series_instance_uid, fold, patient_hash.

    Returns:
        A line or none.
    """
    sizes = folds["patient_hash"].value_counts()
    num_series, num_folds = len(folds), folds["fold"].nunique()
    largest = int(sizes.max()) if len(sizes) else 0
    if largest < 2 or (2 * largest <= num_series) or (largest < 3 and num_folds > 1):
        return []
    count = f"All {num_series}" if largest == num_series else f"{largest} of {num_series}"
    found = (
        f"{count} series have the same patient id, so they count as one patient; the number of folds is {num_folds}."
    )
    cure = "give each patient its own PatientID, or each series a row in luna16_subsets.csv (seriesuid,subset)"
    return [f"Warning: {found} If they are of several patients, {cure}."]


def describe_subset_table(folds: pd.DataFrame, data_root: Path) -> list[str]:
    """Report a table of subsets whose series are not those of the CTs: it decides no fold.

    Args:
        folds: Column series_instance_uid.
        data_root: Folder that may hold ``luna16_subsets.csv``.

    Returns:
        A line or none.
    """
    known, subsets = set(folds["series_instance_uid"]), _read_subsets(data_root)
    absent = sorted(subsets.keys() - known)
    difference = describe_difference(absent, known)
    if difference is None and (known & subsets.keys() or not absent or not known):
        return []
    difference = difference or f"{shown_uid(absent[0])} in the table, {shown_uid(min(known))} of the CTs."
    found = f"{len(known & subsets.keys())} of {len(known)} CTs are in {SUBSET_FILES[0]}; series uids differ"
    return [f"Warning: {found}: {difference}"]


def _read_subsets(data_root: Path) -> dict[str, int]:
    """Read the table of subsets; empty without one."""
    path = find_table(data_root, SUBSET_FILES)
    if path is None:
        return {}
    table = read_table(path, ("series_instance_uid", "subset"))
    numbers, _ = parse_numbers(table["subset"])
    is_wrong = ~((numbers >= 0) & (numbers < _MAX_SUBSET) & (np.floor(numbers) == numbers))
    if is_wrong.any():
        row = table[is_wrong].iloc[0]
        where = f"{path.name} line {row['line']}"
        raise ValueError(
            f"A subset must be a whole number from 0, got {shown_value(row['subset'])} ({where}). Correct it."
        )
    subsets = pd.DataFrame({"uid": table["series_instance_uid"], "subset": numbers.astype(np.int64)}).drop_duplicates()
    twice = subsets.loc[subsets["uid"].duplicated(), "uid"]
    if len(twice):
        numbers_of = sorted(subsets.loc[subsets["uid"] == twice.iloc[0], "subset"].tolist())
        msg = f"A series must be in one subset, got {numbers_of} (series {twice.iloc[0]} in {path.name}). Keep one row."
        raise ValueError(msg)
    return dict(zip(subsets["uid"], subsets["subset"].tolist(), strict=True))


def _follow_patients(folds: pd.DataFrame) -> None:
    """Assign series without a fold to the fold of their patient."""
    placed = folds.dropna(subset=["fold", "patient_hash"]).drop_duplicates("patient_hash")
    of_patient = placed.set_index("patient_hash")["fold"]
    folds["fold"] = folds["fold"].fillna(folds["patient_hash"].map(of_patient).astype("Int64"))


def _deal(folds: pd.DataFrame, *, num_folds: int, seed: int) -> None:
    """Assign the remaining series to the folds with the fewest series."""
    left = folds[folds["fold"].isna()]
    groups = left.groupby(left["patient_hash"].fillna(left["series_instance_uid"])).indices
    # By their smallest uid, for the rows are sorted by uid: another patient key changes no fold.
    members = sorted(groups.values(), key=lambda rows: int(min(rows)))
    sizes = folds["fold"].value_counts()
    num_series = {int(fold): int(size) for fold, size in zip(sizes.index, sizes, strict=True)}
    if len(num_series) < 2:
        # With fewer groups than folds, the last folds stay empty and so do not exist.
        num_series |= {fold: num_series.get(fold, 0) for fold in range(num_folds)}
    for place in np.random.default_rng(seed).permutation(len(members)):
        rows = left.index[members[place]]
        fold = min(num_series, key=lambda number: (num_series[number], number))
        num_series[fold] += len(rows)
        folds.loc[rows, "fold"] = fold
