"""Assignment of one fold to each series: the only place where data are split.

LUNA16's own subsets are the folds. Without subsets, series are assigned by patient: no patient is in two folds.
"""

from collections.abc import Mapping, Sequence
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


def assign_folds(
    catalogue: pd.DataFrame,
    *,
    data_root: Path | None = None,
    own: Mapping[str, int] | None = None,
    links: Mapping[str, str] | None = None,
    num_folds: int = 10,
    seed: int = 0,
) -> pd.DataFrame:
    """Assign a fold to each readable series.

    A series' fold is the first that is known of: the subset folder above it; the fold that its data source defines,
    such as its row in ``luna16_subsets.csv``; the fold of another series of its group. A group is the series of one
    patient, and the series that show one scan. Otherwise the group (or the series itself where neither is known) is
    assigned to the fold with the fewest series, groups in seeded order. The folds already in use are filled; with
    fewer than two of them ``num_folds``, but no more than there are groups. Where a group lies in several data sources
    whose folds differ, the whole group follows the first source of the catalogue's ``data_source`` categories.

    Args:
        catalogue: As from ``catalogue_series``; with several sources ``data_source``.
        data_root: Folder that may hold ``luna16_subsets.csv``; None to use ``own`` alone.
        own: Fold by series, as the data sources define them.
        links: Group by series: series of one group show the same scan.
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
    known = (read_subsets(data_root) if data_root is not None else {}) | dict(own or {})
    table = folds["series_instance_uid"].map(known).astype("Int64")
    folds["fold"] = folders.fillna(table)
    has_patient = folds["patient_hash"].notna()
    folds["group"] = _groups(folds, links or {})
    is_linked = folds["series_instance_uid"].isin(set(links or {}))
    folds["rule"] = np.select(
        [folders.notna(), table.notna(), has_patient, is_linked],
        ["subset folder", "subset table", "patient group", "same scan"],
        "series",
    )
    _follow_groups(folds)
    if "data_source" in readable:
        _follow_first_source(folds, readable["data_source"].reset_index(drop=True))
    _deal(folds, num_folds=num_folds, seed=seed)
    return folds.astype({"fold": "int64"})[list(FOLD_COLUMNS)]


def _groups(folds: pd.DataFrame, links: Mapping[str, str]) -> pd.Series:
    """Return the group of each series, as the row of its first series: joined by patient or by scan."""
    above = list(range(len(folds)))

    def root_of(row: int) -> int:
        while above[row] != row:
            row = above[row]
        return row

    for key in (folds["patient_hash"], folds["series_instance_uid"].map(links)):
        for rows in folds.groupby(key).indices.values():
            first = min(root_of(int(row)) for row in rows)
            for row in rows:
                above[root_of(int(row))] = first
    return pd.Series([root_of(row) for row in range(len(folds))], index=folds.index)


def with_patients(folds: pd.DataFrame, catalogue: pd.DataFrame) -> pd.DataFrame:
    """Return a table of folds with the patients that the catalogue knows now; the folds stay."""
    hashes = catalogue[catalogue["is_readable"].astype(bool)].set_index("series_instance_uid")["patient_hash"]
    now = folds["series_instance_uid"].map(hashes).astype(object)
    is_there = folds["series_instance_uid"].isin(hashes.index)
    return folds.assign(patient_hash=now.where(is_there & now.notna(), folds["patient_hash"].where(~is_there, None)))


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
    known, subsets = set(folds["series_instance_uid"]), read_subsets(data_root)
    absent = sorted(subsets.keys() - known)
    difference = describe_difference(absent, known)
    if difference is None and (known & subsets.keys() or not absent or not known):
        return []
    difference = difference or f"{shown_uid(absent[0])} in the table, {shown_uid(min(known))} of the CTs."
    found = f"{len(known & subsets.keys())} of {len(known)} CTs are in {SUBSET_FILES[0]}; series uids differ"
    return [f"Warning: {found}: {difference}"]


def read_subsets(data_root: Path) -> dict[str, int]:
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


def _follow_groups(folds: pd.DataFrame) -> None:
    """Assign series without a fold to the fold of their group."""
    placed = folds.dropna(subset=["fold"]).drop_duplicates("group")
    of_group = placed.set_index("group")["fold"]
    folds["fold"] = folds["fold"].fillna(folds["group"].map(of_group).astype("Int64"))


def _follow_first_source(folds: pd.DataFrame, sources: pd.Series) -> None:
    """Put each group of several sources with several folds into the fold that its first source gives it."""
    order: Sequence[str] = (
        list(sources.cat.categories) if isinstance(sources.dtype, pd.CategoricalDtype) else sorted(set(sources))
    )
    if len(order) < 2:
        return
    rank = sources.map({name: place for place, name in enumerate(order)}).astype("int64")
    for _, rows in folds.groupby("group").indices.items():
        if sources.iloc[rows].nunique() > 1 and folds["fold"].iloc[rows].nunique() > 1:
            first = rows[int(np.argmin(rank.iloc[rows].to_numpy()))]
            folds.loc[rows, "fold"] = int(folds["fold"].iloc[first])


def _deal(folds: pd.DataFrame, *, num_folds: int, seed: int) -> None:
    """Assign the remaining series to the folds with the fewest series."""
    left = folds[folds["fold"].isna()]
    groups = left.groupby(left["group"]).indices
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
