"""Small cutouts with made-up voxels, for tests of whatever reads or writes them."""

import numpy as np

from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.cutouts.cutting import CuttingParameters
from luna_pipeline.core.cutouts.fingerprint import Fingerprint
from luna_pipeline.core.cutouts.store import SeriesCutouts, build_header

UID = "1.3.6.1.4.1.14519.5.2.1.6279.6001.100"
SHAPE_IRC = (4, 6, 6)
GRID = VoxelGrid((9, 20, 20), (0.7, 0.7, 2.5), (-10.0, -20.0, 5.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
FINGERPRINT = Fingerprint(ct="ct", rows="rows", parameters="parameters", code="1")


def make_cutouts(count: int = 3, *, uid: str = UID, seed: int = 0, shape_irc=SHAPE_IRC) -> SeriesCutouts:
    """Cutouts of noise, as they would be cut from a CT."""
    rng = np.random.default_rng(seed)
    centers = rng.integers(0, 9, size=(count, 3)).astype(np.int32)
    header = build_header(
        uid, grid=GRID, parameters=CuttingParameters(chunk_shape_irc=shape_irc), fingerprint=FINGERPRINT
    )
    return SeriesCutouts(
        ct_chunks=rng.integers(-1000, 1001, size=(count, *shape_irc)).astype(np.int16),
        center_irc=centers,
        center_xyz=GRID.voxel_to_world(centers),
        candidate_id=rng.integers(-(2**63), 2**63 - 1, size=count),
        header=header,
    )
