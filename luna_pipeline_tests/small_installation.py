"""An installation with cutouts of 8 x 8 x 8 voxels, for commands and processes that train within seconds."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from luna_pipeline.cli import main
from luna_pipeline.core.training.checkpoints import load_checkpoint
from luna_pipeline.core.training.recipes import demo
from luna_pipeline_tests.core.cutout_examples import write_examples

FOLDS = {"1.10": 0, "1.11": 1, "1.12": 2, "1.13": 2}
SMALL = {
    "network": {"block": "batch_norm", "n_blocks": 2, "conv_channels": 2, "chunk_shape_irc": [8, 8, 8]},
    "ratios": {"nodule": {"nodule": 1, "non_nodule": 1}, "malignant": {"malignant": 1, "benign": 1, "non_nodule": 1}},
}


@pytest.fixture
def installed(tmp_path, tracking_uri, monkeypatch) -> Path:
    """An installation with small cutouts and ratings; commands in this process and others work in it."""
    index, _ = write_examples(tmp_path / "home/cutouts", folds=FOLDS, num_per_series=12)
    nodules = np.flatnonzero(index["class"] == 1)
    index.loc[nodules, "is_malignant"] = np.arange(len(nodules)) % 2 == 0
    (tmp_path / "home/tables").mkdir()
    index.to_parquet(tmp_path / "home/tables/cutout_index.parquet")
    use_installation(tmp_path, tracking_uri, monkeypatch)
    for name, ratio in SMALL["ratios"].items():
        (tmp_path / f"{name}.json").write_text(json.dumps(configuration(name, ratio)))
    return tmp_path


def use_installation(root: Path, tracking_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make an installation that of this process and of others that it starts, with one thread each."""
    for name, value in {
        "LUNA_HOME": root / "home",
        "LUNA_DATA_DIR": root / "data",
        "LUNA_CACHE": root / "cache",
        "MLFLOW_TRACKING_URI": tracking_uri,
        "OMP_NUM_THREADS": "1",
    }.items():
        monkeypatch.setenv(name, str(value))
    torch.set_num_threads(1)


def configuration(name: str, ratio: dict) -> dict:
    config = demo().with_changes({f"network.{place}": value for place, value in SMALL["network"].items()}).to_dict()
    if name == "malignant":
        config |= {"name": "malignancy_classifier", "dataset": "malignant_cutouts"}
    return {**config, "ratio": ratio}


def weights_of(installed: Path, name: str, version: str, kind: str = "best"):
    return load_checkpoint(installed / "home/checkpoints" / name / version / f"{kind}.pt")


def refused(monkeypatch, capsys, *arguments: str) -> tuple[int, str]:
    """Run a command that is to be refused; return its exit code and the line that it said."""
    monkeypatch.setattr(sys, "argv", ["luna", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().err.strip()
    assert "Traceback" not in said
    return int(ended.value.code), said


def assert_equal(one, other) -> None:
    for name, value in other.model_state.items():
        assert torch.equal(one.model_state[name], value), name
    assert one.num_samples_seen == other.num_samples_seen
