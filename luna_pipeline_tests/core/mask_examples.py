"""Small CTs with dense balls, their tables, and the places of segmentation in them."""

from pathlib import Path

import numpy as np
import pandas as pd

from luna_pipeline.core.ct.catalogue import catalogue_series
from luna_pipeline.core.datasets.mask_places import find_places
from luna_pipeline.core.datasets.masks import CropSource
from luna_pipeline.core.datasets.volumes import CtVolumes
from luna_pipeline.core.networks.config import NetworkConfig
from luna_pipeline.core.training.config import TrainingConfig
from luna_pipeline.core.training.recipes import demo_segmenter
from luna_pipeline_tests.phantoms import write_ct

FOLDS = {"1.10": 0, "1.11": 1, "1.12": 2, "1.13": 2}
SIZE_IRC = (16, 40, 40)
SPACING_MM = (0.8, 0.8, 1.5)
ORIGIN_XYZ = (-50.0, -40.0, -300.0)
# Centre in voxels of the axial view and diameter in mm: two nodules a CT, the same in each.
NODULES = (((5.0, 10.0, 12.0), 7.0), ((11.0, 28.0, 26.0), 9.0))
LOOK_ALIKE_IRC = (8.0, 30.0, 8.0)
SHAPE_IRC = (8, 16, 16)
CONFIG = demo_segmenter().with_changes(
    network=NetworkConfig(name="unet3d", n_blocks=2, conv_channels=2, dropout_rate=0.1, chunk_shape_irc=SHAPE_IRC),
    num_epochs=3,
    batch_size=5,
    version="0.0.1",
)


def voxels_of(seed: int) -> np.ndarray:
    """A chest wall of soft tissue around lung with noise, dense balls and a dense rod, int16 (I, R, C)."""
    rng = np.random.default_rng(seed)
    hounsfield = rng.normal(-800, 40, size=SIZE_IRC)
    spacing_irc = np.array(SPACING_MM[::-1])[:, None, None, None]
    for center_irc, diameter_mm in NODULES:
        distance = np.linalg.norm((np.indices(SIZE_IRC) - np.reshape(center_irc, (3, 1, 1, 1))) * spacing_irc, axis=0)
        hounsfield[distance <= diameter_mm / 2] += 850
    hounsfield[:, 29:32, 7:10] += 800
    hounsfield[:, :3] = 40
    return hounsfield.astype(np.int16)


def write_examples(root: Path, folds: dict[str, int] = FOLDS, **file) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Write a CT a series below ``root/data``, and return catalogue and candidate table."""
    for number, uid in enumerate(folds):
        how = {"spacing_mm": SPACING_MM, "origin_xyz": ORIGIN_XYZ} | file
        write_ct(root / "data/subset0", uid, voxels_of(number), **how)
    catalogue = catalogue_series(root / "data", patient_key=b"key")
    return catalogue, pd.concat([_rows(number, uid) for number, uid in enumerate(folds)], ignore_index=True)


def world_of(voxel_irc) -> tuple[float, float, float]:
    """World mm of a voxel of CTs that ``write_examples`` writes."""
    return tuple(origin + mm * voxel for origin, mm, voxel in zip(ORIGIN_XYZ, SPACING_MM, voxel_irc[::-1], strict=True))


def _rows(number: int, uid: str) -> pd.DataFrame:
    places = [*NODULES, (LOOK_ALIKE_IRC, np.nan), (NODULES[0][0], NODULES[0][1])]
    rows = pd.DataFrame([world_of(center) for center, _ in places], columns=["x_mm", "y_mm", "z_mm"])
    return rows.assign(
        candidate_id=np.arange(len(places), dtype=np.int64) + 10 * number,
        series_instance_uid=uid,
        diameter_mm=[diameter for _, diameter in places],
        source=["annotation", "annotation", "candidate", "candidate"],
        **{"class": np.array([1, 1, 0, 1], dtype=np.int8)},
    )


def folds_table(folds: dict[str, int] = FOLDS) -> pd.DataFrame:
    """The table of folds."""
    return pd.DataFrame({"series_instance_uid": list(folds), "fold": list(folds.values())})


def data_of(
    root: Path, config: TrainingConfig = CONFIG, *, context_slices: int = 0, folds: dict[str, int] = FOLDS
) -> tuple[pd.DataFrame, CropSource]:
    """Write examples and return their places and the source of crops."""
    catalogue, candidates = write_examples(root, folds)
    volumes = CtVolumes.of_catalogue(catalogue, data_root=root / "data", cache_dir=root / "cache")
    shape_irc = config.network.chunk_shape_irc
    places = find_places(candidates, folds_table(folds), volumes, tile_shape_irc=shape_irc)
    source = CropSource(volumes=volumes, shape_irc=shape_irc, context_slices=context_slices, seed=config.seed)
    return places, source
