"""The cutout index: file and row of each candidate, with the labels, which are not in the files."""

from collections.abc import Collection, Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from luna_pipeline.core.candidates.series_codes import order_by_series, rows_by_series, series_codes
from luna_pipeline.core.ct.catalogue import unreadable_series
from luna_pipeline.core.ct.errors import failure_of
from luna_pipeline.core.cutouts.store import CutoutSource
from luna_pipeline.core.storage.s3 import RemoteStoreError

INDEX_DTYPES = {
    "candidate_id": "int64",
    "series_instance_uid": "category",
    "row": "int64",
    "class": "int8",
    "is_malignant": "boolean",
    "diameter_mm": "float64",
    "source": "category",
    "fold": "int64",
    "fingerprint": "category",
}


PARAMETERS = "cutting_parameters"
"""Key of ``DataFrame.attrs``, which parquet keeps: the index names the parameters that its chunks are cut with."""
SAMPLED = "sampled candidates, not comparable"
"""What `describe_sample` finds, in a few words, for tables and pictures."""
LEFT_OUT = "left_out"
"""Key of ``DataFrame.attrs``: the reason by uid of each series that should be in the index and is not."""


def build_cutout_index(
    candidates: pd.DataFrame, folds: pd.DataFrame, store: CutoutSource, *, left_out: dict[str, str] | None = None
) -> pd.DataFrame:
    """Join candidates, folds and cutouts.

    Args:
        candidates: Candidates of all series that were cut.
        folds: One fold per series.
        store: The cutouts.
        left_out: If given, receives the reason by uid of each series without matching cutouts, whose candidates are
            left out. Otherwise such a series is an error.

    Returns:
        One row per candidate, sorted by series_instance_uid and candidate_id, with the columns of INDEX_DTYPES;
        ``row`` is its row in the file, ``fingerprint`` the file's digest.

    Raises:
        FileNotFoundError: If a series with candidates was not cut, without ``left_out``.
        ValueError: If a file is damaged or contains other candidates, without ``left_out``, or a series has no fold.
    """
    codes, uids = series_codes(candidates["series_instance_uid"])
    fold_of = folds.set_index("series_instance_uid")["fold"]
    if missing := sorted(set(uids) - set(fold_of.index)):
        msg = f"Each series must have a fold, got none for {len(missing)} (first: series {missing[0]})."
        raise ValueError(f"{msg} Materialize `folds` again.")
    candidate_id = candidates["candidate_id"].to_numpy(dtype=np.int64)
    order = order_by_series(codes, candidate_id)
    codes, candidate_id = codes[order], candidate_id[order]
    bounds = np.searchsorted(codes, np.arange(len(uids) + 1))
    rows, digests = np.empty(len(codes), dtype=np.int64), np.empty(len(uids), dtype=object)
    is_there = np.ones(len(codes), dtype=bool)
    for series, (start, stop) in enumerate(pairwise(bounds)):
        try:
            rows[start:stop], digests[series] = _rows_in_file(store, uids[series], candidate_id[start:stop])
        except Exception as error:
            # A server that does not respond does not mean that a series is missing.
            if left_out is None or isinstance(error, RemoteStoreError):
                raise
            left_out[uids[series]], is_there[start:stop] = failure_of(error, uids[series]), False
    order, codes, rows = order[is_there], codes[is_there], rows[is_there]
    folds_by_series = fold_of.reindex(uids).to_numpy(dtype=np.int64)
    index = candidates.iloc[order].reset_index(drop=True)
    index["series_instance_uid"] = pd.Categorical.from_codes(codes, categories=pd.Index(uids, dtype=object))
    index["fingerprint"] = pd.Categorical(digests).take(codes)
    index["row"], index["fold"] = rows, folds_by_series[codes]
    return index[list(INDEX_DTYPES)].astype(INDEX_DTYPES)


def lost_series(
    index: pd.DataFrame, *, candidates: pd.DataFrame, catalogue: pd.DataFrame, known: Collection[str]
) -> dict[str, str]:
    """Return the reason by uid of each series that should be in an index, but has no row in the candidate table.

    Args:
        index: The cutout index.
        candidates: The whole candidate table, before a sample is drawn.
        catalogue: One row per CT, with those that cannot be read.
        known: Series that were readable at an earlier time, such as Dagster's partitions.
    """
    reasons = unreadable_series(catalogue)
    rule = "A CT must have rows in the tables, got none that can be used"
    readable = set(catalogue["series_instance_uid"]).difference(reasons)
    reasons |= {uid: f"{rule} (series {uid}). Add its rows, or see table `rejected`." for uid in readable}
    rule = "A known series must have its CT, got none"
    gone = set(known).difference(reasons)
    reasons |= {uid: f"{rule} (series {uid}). Restore it, or run `luna prune --yes`." for uid in gone}
    there = {*index["series_instance_uid"].unique(), *candidates["series_instance_uid"].unique()}
    return {uid: reasons[uid] for uid in sorted(set(reasons).difference(there))}


def describe_sample(index: pd.DataFrame, candidates: pd.DataFrame) -> str:
    """Return how many of the detector's candidates of its series an index holds, in words; empty if it holds all.

    Fewer false candidates give fewer false positives per scan: scores of a sample are too good.

    Args:
        index: The cutout index, or a selection of candidates. Series without a row in it, such as those that could not
            be cut, do not count.
        candidates: The whole candidate table: ``candidate_id``, ``series_instance_uid``, ``source``.
    """
    series = index["series_instance_uid"].unique()
    is_asked = (candidates["source"] == "candidate") & candidates["series_instance_uid"].isin(series)
    asked = candidates.loc[is_asked, "candidate_id"]
    num_there = int(asked.isin(index["candidate_id"]).sum())
    if num_there == len(asked):
        return ""
    counts = f"{num_there:,} of {len(asked):,} candidates of these scans"
    return f"Sampled candidates, not comparable: {counts}. False-positive rates are too low, CPM is too high."


def index_of_files(store: CutoutSource, uids: Sequence[str]) -> pd.DataFrame:
    """Return an index of all rows of cutout files without a candidate table, for scoring.

    Args:
        store: The cutouts.
        uids: Their series.

    Returns:
        The columns that a data set needs: ``candidate_id``, ``series_instance_uid``, ``row``, ``fingerprint``, and
        ``class`` 0, because files have no labels.

    Raises:
        FileNotFoundError: If a series was not cut.
        ValueError: If a file is damaged.
    """
    tables = []
    for uid in uids:
        candidate_id, digest = store.identity(uid)
        rows = {"candidate_id": candidate_id, "row": np.arange(len(candidate_id))}
        tables.append(pd.DataFrame(rows).assign(series_instance_uid=uid, fingerprint=digest, **{"class": np.int8(0)}))
    columns = ["candidate_id", "series_instance_uid", "row", "class", "fingerprint"]
    return pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)


def centers_xyz(index: pd.DataFrame, store: CutoutSource) -> NDArray[np.float64]:
    """Return the world mm of each candidate (N, 3), LPS, in the order of the index.

    Args:
        index: ``series_instance_uid`` and ``row``.
        store: The cutouts.
    """
    centers = np.empty((len(index), 3))
    rows = index["row"].to_numpy(dtype=np.int64)
    for uid, places in rows_by_series(index["series_instance_uid"]).items():
        centers[places] = store.read(uid).center_xyz[rows[places]]
    return centers


def _rows_in_file(
    store: CutoutSource, series_instance_uid: str, candidate_id: NDArray[np.int64]
) -> tuple[NDArray[np.intp], str]:
    """Return the rows of candidates, sorted by id, in the file of their series, and the file's digest."""
    ids_in_file, digest = store.identity(series_instance_uid)
    order = np.argsort(ids_in_file)
    if not np.array_equal(ids_in_file[order], candidate_id):
        shared = len(np.intersect1d(ids_in_file, candidate_id))
        msg = (
            f"A file must hold the table's {len(candidate_id)} candidates, got {len(order)}, {shared} of them "
            f"shared (series {series_instance_uid}). Cut the series again."
        )
        raise ValueError(msg)
    return order, digest
