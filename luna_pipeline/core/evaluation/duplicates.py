"""Detection of duplicate CTs across folds: the same voxels would be used for training and testing."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from luna_pipeline.core.candidates.series_codes import rows_by_series
from luna_pipeline.core.ct.file_maps import advise_random_access
from luna_pipeline.core.cutouts.chunks import Chunks
from luna_pipeline.core.cutouts.store import CutoutSource

NUM_NAMED = 4
DUPLICATE_COLUMNS = ("group", "content", "candidate_id", "series_instance_uid", "fold")


def same_content_in_two_folds(index: pd.DataFrame, store: CutoutSource) -> pd.DataFrame:
    """Return the cutouts with identical voxels in different folds.

    Two rows of voxels in the middle of each cutout are compared first; only on a match is the whole cutout read.
    Cutouts with a single value (air around the patient) are ignored.

    Args:
        index: Rows of the cutout index: ``candidate_id``, ``series_instance_uid``, ``row``, ``fold``.
        store: Reads the cutouts.

    Returns:
        One row per candidate with ``DUPLICATE_COLUMNS``, duplicates next to each other: ``group`` counts from 1,
        ``content`` is the xxh3_128 of the voxels, 32 hexadecimal digits. Empty without duplicates.

    Raises:
        FileNotFoundError: If a series has no cutouts.
        ValueError: If a file of cutouts is damaged.
    """
    folds = index["fold"].to_numpy(dtype=np.int64)
    suspects = index[_is_in_two_folds(_middle_hashes(index, store), folds)]
    contents = _contents(suspects, store)
    is_found = _is_in_two_folds(contents, suspects["fold"].to_numpy(dtype=np.int64)) & (contents != "")
    found: pd.DataFrame = suspects.loc[is_found, ["candidate_id", "series_instance_uid", "fold"]]
    found = found.assign(content=contents[is_found])
    found["series_instance_uid"] = found["series_instance_uid"].astype(str)
    found = found.sort_values(["content", "fold", "series_instance_uid", "candidate_id"], ignore_index=True)
    found.insert(0, "group", found.groupby("content").ngroup() + 1)
    return found.reindex(columns=list(DUPLICATE_COLUMNS))


def describe_duplicates(duplicates: pd.DataFrame) -> str:
    """Return an error message for the result of ``same_content_in_two_folds``; empty without duplicates."""
    if duplicates.empty:
        return ""
    rows = duplicates.head(NUM_NAMED).itertuples()
    named = "; ".join(f"{row.candidate_id} (series {row.series_instance_uid}, fold {row.fold})" for row in rows)
    msg = f"A cutout must be in one fold, got {len(duplicates)} that are in two: {named}."
    return f"{msg} Remove one of the CTs, or put them into one fold."


def _middle_hashes(index: pd.DataFrame, store: CutoutSource) -> NDArray[np.uint64]:
    """Return a hash (N,) of two rows of voxels in the middle of each cutout."""
    import xxhash

    hashes, rows = np.zeros(len(index), dtype=np.uint64), index["row"].to_numpy(dtype=np.int64)
    for uid, places in rows_by_series(index["series_instance_uid"]).items():
        chunks = store.read(uid).ct_chunks
        # Read-ahead would read the whole file.
        advise_random_access(chunks)
        _, num_slices, num_rows, _ = chunks.shape
        middle = (num_slices // 2, slice((num_rows - 1) // 2, (num_rows - 1) // 2 + 2))
        # In file order, for sequential disk access.
        for place in places[np.argsort(rows[places])]:
            hashes[place] = xxhash.xxh3_64_intdigest(np.ascontiguousarray(chunks[rows[place]][middle]).data)
    return hashes


def _contents(index: pd.DataFrame, store: CutoutSource) -> NDArray[np.object_]:
    """Return a hash (N,) of all voxels of each cutout; empty where all voxels are equal."""
    contents, rows = np.full(len(index), "", dtype=object), index["row"].to_numpy(dtype=np.int64)
    for uid, places in rows_by_series(index["series_instance_uid"]).items():
        chunks = store.read(uid).ct_chunks
        for place in places:
            contents[place] = _content(chunks, int(rows[place]))
    return contents


def _content(chunks: Chunks, row: int) -> str:
    import xxhash

    chunk = np.ascontiguousarray(chunks[row])
    return "" if (chunk == chunk.flat[0]).all() else xxhash.xxh3_128_hexdigest(chunk.data)


def _is_in_two_folds(keys: NDArray[np.uint64] | NDArray[np.object_], folds: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return whether each key (N,) occurs in more than one fold."""
    num_folds = pd.Series(folds).groupby(keys).transform("nunique")
    return num_folds.to_numpy() > 1
