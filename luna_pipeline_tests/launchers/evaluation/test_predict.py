"""Scores are of files that are as written; what is no cutout file is left out by name."""

import os
from dataclasses import replace

import pandas as pd
import pytest

from luna_pipeline.core.cutouts.store import DamagedCutoutsError
from luna_pipeline.core.networks.config import NetworkConfig
from luna_pipeline.core.networks.luna import build_network
from luna_pipeline.core.training.checkpoints import save_checkpoint
from luna_pipeline.core.training.recipes import demo
from luna_pipeline.launchers.evaluation.predict import PredictionRequest, predict
from luna_pipeline.settings import Settings
from luna_pipeline_tests.core.cutout_examples import SHAPE_IRC, write_examples
from luna_pipeline_tests.core.training.test_checkpoints import make_checkpoint


@pytest.fixture
def asked(tmp_path):
    network = NetworkConfig(n_blocks=2, conv_channels=2, chunk_shape_irc=SHAPE_IRC)
    config = demo().with_changes(network=network)
    weights = build_network(network).state_dict()
    save_checkpoint(tmp_path / "best.pt", make_checkpoint(config=config, model_state=weights))
    write_examples(tmp_path / "cutouts")
    return PredictionRequest(name=str(tmp_path / "best.pt"), out=tmp_path / "p.csv", cutouts=tmp_path / "cutouts")


@pytest.fixture
def settings(tmp_path):
    return Settings(data_dir=tmp_path / "data", home=tmp_path / "home", mlflow_tracking_uri="")


def flip(path, at=1000):
    """Flip a bit of a chunk and set the time back, as a disk would."""
    content, status = bytearray(path.read_bytes()), path.stat()
    content[at] ^= 1
    with path.open("r+b") as file:
        file.write(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("is_known", [False, True])
def test_a_file_with_a_flipped_bit_is_not_scored(asked, settings, is_known):
    if is_known:
        predict(settings, asked)
        assert len((settings.home / "verified_cutouts.txt").read_text().splitlines()) == 4
        asked.out.unlink()
    flip(asked.cutouts / "1.11.npz")
    with pytest.raises(DamagedCutoutsError, match=r"as written, got another CRC of ct_chunks \(.*1\.11\.npz\)"):
        predict(settings, asked)
    assert not asked.out.exists()


@pytest.mark.parametrize("how", ["request", "settings"])
def test_files_are_not_compared_where_that_is_switched_off(asked, settings, how):
    flip(asked.cutouts / "1.11.npz")
    changes = {"request": ({}, {"verify": False}), "settings": ({"verifies_reads": False}, {})}[how]
    assert predict(replace(settings, **changes[0]), replace(asked, **changes[1])).num_candidates == 24
    assert not (settings.home / "verified_cutouts.txt").exists()


def test_what_is_no_cutout_file_is_left_out_by_name(asked, settings):
    os.mkfifo(asked.cutouts / "1.2.npz")
    (asked.cutouts / "1.3.npz").mkdir()
    (asked.cutouts / "1.4.npz").symlink_to("1.4.npz")
    made = predict(settings, asked)
    assert list(made.left_out) == ["1.2.npz", "1.3.npz", "1.4.npz"]
    assert "a FIFO" in made.left_out["1.2.npz"]
    assert len(pd.read_csv(asked.out)) == made.num_candidates == 24


def test_whether_reads_are_verified_is_read_from_the_environment():
    read = {text: Settings.from_environment({"LUNA_VERIFY_READS": text}).verifies_reads for text in ("", "1", "0")}
    assert read == {"": True, "1": True, "0": False}
    with pytest.raises(ValueError, match="LUNA_VERIFY_READS must be 0 or 1, got 'no'"):
        Settings.from_environment({"LUNA_VERIFY_READS": "no"})
