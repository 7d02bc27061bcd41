"""A data root with a few small CTs, their catalogue and candidates, for tests of cutting whole series."""

from pathlib import Path

import numpy as np
import pandas as pd

from luna_pipeline.core.ct.catalogue import catalogue_series
from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.cutouts.cutting import CuttingParameters
from luna_pipeline.core.cutouts.service import CtCutoutService
from luna_pipeline.core.cutouts.store import CutoutStore
from luna_pipeline_tests.phantoms import random_direction, random_hounsfield, write_ct

UIDS = ["1.2.1", "1.2.2", "1.2.3"]
SIZE_IRC = (12, 20, 24)
PARAMETERS = CuttingParameters(chunk_shape_irc=(4, 6, 6))


def write_data_root(folder: Path, *, num_rows: int = 4) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Write the CTs of UIDS, each with its own orientation; return catalogue and candidates."""
    parts = []
    for number, uid in enumerate(UIDS):
        direction = random_direction(number)
        write_ct(folder, uid, random_hounsfield(SIZE_IRC, seed=number), direction=direction)
        grid = VoxelGrid(SIZE_IRC, (0.7, 0.8, 2.5), (-50.0, -40.0, -300.0), direction)
        parts.append(candidates_in(uid, grid, num_rows=num_rows, seed=number))
    return catalogue_series(folder, patient_key=b"key"), pd.concat(parts, ignore_index=True)


def candidates_in(uid: str, grid: VoxelGrid, *, num_rows: int, seed: int = 0) -> pd.DataFrame:
    """Candidates anywhere in a CT, the corners included, in the form of the candidate table."""
    rng = np.random.default_rng(seed)
    voxels = np.stack([rng.integers(n, size=num_rows) for n in grid.size_irc], axis=1)
    voxels[:1] = 0
    points_xyz = grid.voxel_to_world(voxels + rng.uniform(-0.4, 0.4, size=voxels.shape))
    table = pd.DataFrame(points_xyz, columns=["x_mm", "y_mm", "z_mm"])
    table.insert(0, "candidate_id", rng.integers(-(2**63), 2**63 - 1, size=num_rows))
    table.insert(1, "series_instance_uid", uid)
    table["class"] = np.arange(num_rows, dtype=np.int8) % 2
    table["diameter_mm"] = 5.0
    table["malignancy"] = 3.0
    table["is_malignant"] = pd.array([None] * num_rows, dtype="boolean")
    table["source"] = "candidate"
    return table


def make_service(
    root: Path, catalogue: pd.DataFrame, candidates: pd.DataFrame, *, store: CutoutStore, parameters=PARAMETERS
) -> CtCutoutService:
    """A service over the data root."""
    return CtCutoutService(
        data_root=root, catalogue=catalogue, candidates=candidates, store=store, parameters=parameters
    )
