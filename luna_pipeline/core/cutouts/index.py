"""Which row of which file holds which candidate, with the labels that are not in the files."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from luna_pipeline.core.cutouts.store import CutoutStore

INDEX_DTYPES = {
    "candidate_id": "int64",
    "series_instance_uid": "object",
    "row": "int64",
    "class": "int8",
    "is_malignant": "boolean",
    "diameter_mm": "float64",
    "source": "object",
    "fold": "int64",
    "fingerprint": "object",
}


def build_cutout_index(candidates: pd.DataFrame, folds: pd.DataFrame, store: CutoutStore) -> pd.DataFrame:
    """Join candidates, folds and the files themselves.

    Args:
        candidates: Candidates of all series that were cut.
        folds: One fold a series.
        store: The cutouts.

    Returns:
        A row a candidate, sorted by series_instance_uid and candidate_id, with the columns of INDEX_DTYPES;
        ``row`` is its place in the file, ``fingerprint`` the file's digest.

    Raises:
        FileNotFoundError: If a series with candidates was not cut.
        ValueError: If a file is damaged or holds other candidates than the table, or a series has no fold.
    """
    fold_of = folds.set_index("series_instance_uid")["fold"]
    if missing := sorted(set(candidates["series_instance_uid"]) - set(fold_of.index)):
        msg = f"Each series must have a fold, got none for {len(missing)} (first: series {missing[0]})."
        raise ValueError(f"{msg} Materialize `folds` again.")
    parts = list(_parts(candidates.sort_values(["series_instance_uid", "candidate_id"]), store))
    index = pd.concat(parts, ignore_index=True) if parts else candidates.assign(row=0, fingerprint="")
    index["fold"] = index["series_instance_uid"].map(fold_of)
    return index[list(INDEX_DTYPES)].astype(INDEX_DTYPES)


def _parts(candidates: pd.DataFrame, store: CutoutStore) -> Iterator[pd.DataFrame]:
    for uid, rows in candidates.groupby("series_instance_uid", observed=True):
        series_instance_uid = str(uid)
        cutouts = store.read(series_instance_uid)
        order = np.argsort(cutouts.candidate_id)
        if not np.array_equal(cutouts.candidate_id[order], rows["candidate_id"]):
            shared = len(np.intersect1d(cutouts.candidate_id, rows["candidate_id"]))
            msg = (
                f"A file must hold the table's {len(rows)} candidates, got {len(order)}, {shared} of them shared "
                f"(series {series_instance_uid}). Cut the series again."
            )
            raise ValueError(msg)
        yield rows.assign(row=order, fingerprint=cutouts.header["fingerprints"]["digest"])
