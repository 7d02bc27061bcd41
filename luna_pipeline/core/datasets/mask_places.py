"""Places of a data set at which segmentation is trained and validated: nodules, look-alikes, the body, tiles."""

import hashlib
from collections.abc import Iterable
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from luna_pipeline.core.candidates.matching import POINT_COLUMNS
from luna_pipeline.core.candidates.series_codes import rows_by_series
from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.datasets.splits import TrainingSplit, check_held_out_folds, check_one_fold_per_series
from luna_pipeline.core.datasets.volumes import CtVolumes

PLACE_GROUPS = ("background", "look_alike", "nodule")
MAX_LOOK_ALIKES = 32
"""Candidates of class 0 of a scan that are kept; LUNA16 has 800 a scan, which would be all that an epoch shows."""
BACKGROUND_PLACES = 16
"""Random places of a scan in an epoch."""
MAX_TILES = 48
"""Validated tiles of a scan; a phantom of 64 x 160 x 160 voxels has 18 of 32 x 64 x 64."""
_COLUMNS = ["candidate_id", "series_instance_uid", *POINT_COLUMNS, "class", "diameter_mm", "source"]


def find_places(
    candidates: pd.DataFrame, folds: pd.DataFrame, volumes: CtVolumes, *, tile_shape_irc: tuple[int, int, int]
) -> pd.DataFrame:
    """Return all places of a data set; no CT is read.

    Args:
        candidates: Candidate table (``build_candidates``).
        folds: Folds (``assign_folds``).
        volumes: The CTs; series without a fold or a readable CT are left out.
        tile_shape_irc: Voxels of a validated tile.

    Returns:
        A row a place: candidate_id (int64, unique); series_instance_uid; x_mm, y_mm, z_mm; class; diameter_mm;
        source (``annotation``, ``candidate``, ``body``, whose position is drawn in each epoch, or ``tile`` of
        validation); group (number in ``PLACE_GROUPS``); scan_share (validated tiles: how many tiles of its scan it
        stands for, 0 elsewhere); fold; fingerprint of the CT.

    Raises:
        ValueError: If no series has a fold and a readable CT.
    """
    fold_of = dict(zip(folds["series_instance_uid"], folds["fold"], strict=True))
    series = sorted(uid for uid in fold_of if uid in volumes.rows)
    if not series:
        msg = f"Segmentation must have CTs with folds, got none of {len(fold_of)} series."
        raise ValueError(f"{msg} Materialize `ct_series` and `folds`.")
    rows = candidates[candidates["series_instance_uid"].isin(series)]
    is_nodule = rows["source"] == "annotation"
    look_alikes = rows[(rows["source"] == "candidate") & (rows["class"] == 0) & rows["diameter_mm"].isna()]
    parts = [
        rows.loc[is_nodule, _COLUMNS].assign(group=2, scan_share=0.0),
        _few_of_each_scan(look_alikes)[_COLUMNS].assign(group=1, scan_share=0.0),
        *(_fixed_places(uid, volumes.grid(uid), tile_shape_irc) for uid in series),
    ]
    places = pd.concat([part.astype({"series_instance_uid": str, "source": str}) for part in parts], ignore_index=True)
    places["fold"] = places["series_instance_uid"].map(fold_of).astype("int64")
    places["fingerprint"] = places["series_instance_uid"].map({uid: volumes.fingerprint(uid) for uid in series})
    return places.astype({"group": "int64", "class": "int8", "candidate_id": "int64"})


def split_places(places: pd.DataFrame, split: TrainingSplit) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Return the places of training, and those of validation (None without a validation fold): nodules and tiles.

    Raises:
        ValueError: If a series lies in two folds, a held-out fold does not exist, or training holds no nodule.
    """
    check_one_fold_per_series(places)
    is_held_out = check_held_out_folds(places, split)
    is_tile = places["source"] == "tile"
    training = places[~is_held_out & ~is_tile]
    if not (training["group"] == 2).any():
        msg = f"Training must hold annotated nodules, got none in {training['series_instance_uid'].nunique()} series."
        raise ValueError(f"{msg} Copy annotations.csv to the data folder, choose other folds, or add CTs.")
    if split.validation_fold is None:
        return training, None
    is_validated = is_tile | (places["source"] == "annotation")
    return training, places[(places["fold"] == split.validation_fold) & is_validated]


def _few_of_each_scan(look_alikes: pd.DataFrame) -> pd.DataFrame:
    # Ids are hashes: the lowest ones are a random choice that does not change with the other scans.
    ordered = look_alikes.sort_values("candidate_id", kind="stable")
    chosen: Iterable[int] = (
        place
        for places in rows_by_series(ordered["series_instance_uid"]).values()
        for place in np.sort(places)[:MAX_LOOK_ALIKES]
    )
    return ordered.iloc[sorted(chosen)]


def _fixed_places(uid: str, grid: VoxelGrid, tile_shape_irc: tuple[int, int, int]) -> pd.DataFrame:
    """Return the body places of a scan, whose positions are drawn in training, and its tiles."""
    middle = grid.voxel_to_world(np.asarray(grid.size_irc) // 2)
    starts = [range(0, size, step) for size, step in zip(grid.size_irc, tile_shape_irc, strict=True)]
    centers = np.array(list(product(*starts))) + np.asarray(tile_shape_irc) // 2
    ids = np.array([_id_of(f"{uid} tile {number}") for number in range(len(centers))])
    chosen = np.sort(np.argsort(ids, kind="stable")[:MAX_TILES])
    body = {"candidate_id": [_id_of(f"{uid} body {number}") for number in range(BACKGROUND_PLACES)]}
    parts = [
        pd.DataFrame(body).assign(**dict(zip(POINT_COLUMNS, middle, strict=True)), source="body", scan_share=0.0),
        pd.DataFrame(grid.voxel_to_world(centers[chosen]), columns=POINT_COLUMNS).assign(
            candidate_id=ids[chosen], source="tile", scan_share=len(centers) / len(chosen)
        ),
    ]
    constants: dict[str, Any] = {"series_instance_uid": uid, "class": 0, "diameter_mm": np.nan, "group": 0}
    return pd.concat(parts, ignore_index=True).assign(**constants)


def _id_of(text: str) -> int:
    """Return a random-looking id of a place, as those of candidates are."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little", signed=True)
