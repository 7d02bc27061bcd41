"""A home with small cutouts of eight series in four folds; nodules are bright in the center."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from luna_pipeline.core.cutouts.store import CutoutStore
from luna_pipeline.core.datasets.splits import TrainingSplit
from luna_pipeline.core.training.config import NetworkConfig, TrainingConfig
from luna_pipeline_tests.core.cutouts.examples import make_cutouts

SHAPE_IRC = (8, 8, 8)
CANDIDATES_PER_SERIES = 6


@dataclass(frozen=True)
class Home:
    """An installation with cutouts, ready for training."""

    path: Path
    store: CutoutStore
    index: pd.DataFrame
    candidates: pd.DataFrame
    split: TrainingSplit

    @property
    def data(self) -> dict:
        """Arguments of ``fit`` next to the configuration."""
        return {"index": self.index, "store": self.store, "split": self.split}

    @property
    def test_rows(self) -> pd.DataFrame:
        return self.index[(self.index["fold"] == 0) & (self.index["source"] == "candidate")]


@pytest.fixture(scope="session")
def small_config() -> TrainingConfig:
    """Return a configuration of two epochs of a few milliseconds."""
    network = NetworkConfig(block="batch_norm", n_blocks=2, conv_channels=2, chunk_shape_irc=SHAPE_IRC)
    return TrainingConfig(network=network, num_epochs=2, batch_size=8)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path / "home")


def make_home(root: Path) -> Home:
    store = CutoutStore(root / "cutouts")
    tables = [_write_series(store, number) for number in range(8)]
    rows = pd.concat(tables, ignore_index=True)
    positions = ["x_mm", "y_mm", "z_mm"]
    return Home(
        path=root,
        store=store,
        index=rows.drop(columns=positions),
        # In another order than the index: rows must be joined by their id.
        candidates=rows[["candidate_id", "series_instance_uid", *positions]].iloc[::-1],
        split=TrainingSplit(test_fold=0, validation_fold=1),
    )


def _write_series(store: CutoutStore, number: int) -> pd.DataFrame:
    uid = f"1.2.{number}"
    noise = make_cutouts(CANDIDATES_PER_SERIES, uid=uid, seed=number, shape_irc=SHAPE_IRC)
    labels = np.array([1, 1, 0, 0, 0, 1])
    chunks = noise.ct_chunks.copy()
    chunks[labels == 1, 2:6, 2:6, 2:6] = 900
    cutouts = replace(noise, ct_chunks=chunks)
    store.write(uid, cutouts)
    return pd.DataFrame(
        {
            "candidate_id": cutouts.candidate_id,
            "series_instance_uid": uid,
            "row": np.arange(CANDIDATES_PER_SERIES),
            "class": labels.astype(np.int8),
            "is_malignant": pd.array([None] * CANDIDATES_PER_SERIES, dtype="boolean"),
            # The last one is an annotated center that no detector found.
            "source": ["candidate"] * 5 + ["annotation"],
            "fold": number % 4,
            "fingerprint": cutouts.header["fingerprints"]["digest"],
            "x_mm": cutouts.center_xyz[:, 0],
            "y_mm": cutouts.center_xyz[:, 1],
            "z_mm": cutouts.center_xyz[:, 2],
        }
    )
