"""Training of segmenters on an installation, by launcher and command line."""

import contextlib
import json
import multiprocessing
import os
import signal
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from mlflow import MlflowClient
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from luna_pipeline.cli import cli
from luna_pipeline.core.events.messages import LogBatch
from luna_pipeline.core.networks.config import LOSSES, NETWORKS
from luna_pipeline.core.training.building import network_of
from luna_pipeline.core.training.checkpoints import load_checkpoint
from luna_pipeline.core.training.dry_run_checks import PartError
from luna_pipeline.core.training.recipes import demo
from luna_pipeline.launchers.seen_data import unseen_fold
from luna_pipeline.launchers.training.run import RunOptions
from luna_pipeline.launchers.training.segmenter import SegmenterRequest, train_segmenter
from luna_pipeline.settings import Settings
from luna_pipeline_tests.core.mask_examples import CONFIG, SHAPE_IRC, folds_table, write_examples
from luna_pipeline_tests.mlflow_fixtures import empty_database, quiet_mlflow, tracking_uri
from luna_pipeline_tests.small_installation import use_installation

__all__ = ["empty_database", "quiet_mlflow", "tracking_uri"]

SMALL = CONFIG.with_changes(num_epochs=2)


def make_installation(root: Path) -> Settings:
    """CTs with tables, as the job `ingest` makes them; no cutouts."""
    catalogue, candidates = write_examples(root)
    tables = root / "home/tables"
    tables.mkdir(parents=True)
    for name, table in {"ct_series": catalogue, "candidates": candidates, "folds": folds_table()}.items():
        table.assign(**({"rule": "series"} if name == "folds" else {})).to_parquet(tables / f"{name}.parquet")
    (root / "small.json").write_text(json.dumps(SMALL.to_dict()))
    return settings_of(root)


def settings_of(root: Path) -> Settings:
    return Settings(
        data_dir=root / "data",
        home=root / "home",
        cache_dir=root / "cache",
        mlflow_tracking_uri=f"sqlite:///{root / 'mlflow.db'}",
    )


def request_of(config=SMALL, **options) -> SegmenterRequest:
    return SegmenterRequest(config=config, uses_mlflow=False, options=RunOptions(show_progress=False, **options))


def assert_equal(one, other) -> None:
    assert one.num_samples_seen == other.num_samples_seen
    for name, value in other.model_state.items():
        assert torch.equal(one.model_state[name], value), name


@pytest.fixture
def installed(tmp_path, tracking_uri, monkeypatch) -> Path:
    make_installation(tmp_path)
    use_installation(tmp_path, tracking_uri, monkeypatch)
    return tmp_path


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("segmenter")
    settings = make_installation(root)
    return settings, train_segmenter(settings, request_of())


def test_a_run_leaves_checkpoint_history_picture_and_tensorboard(trained):
    settings, result = trained
    assert result.path == settings.home / "checkpoints/nodule_segmenter/0.0.1/best.pt"
    assert list(result.history["epoch"]) == [1, 2]
    names = ("loss", "dice", "crop_dice", "lesion_recall", "false_candidates_per_scan")
    assert result.history[[f"validation/{name}" for name in names]].notna().all(axis=None)
    assert result.picture.shape == (48, 100, 3)
    events = EventAccumulator(str(result.tensorboard_dir / "validation")).Reload()
    assert [event.value for event in events.Scalars("epoch/dice")] == pytest.approx(
        result.history["validation/dice"].tolist()
    )
    assert [event.step for event in events.Images("slices")] == list(result.history["num_samples_seen"])
    assert not (settings.cache_dir).exists()


def test_held_out_folds_are_unseen(trained):
    _, result = trained
    assert result.checkpoint.training_series == ["1.12", "1.13"]
    assert result.checkpoint.validation_series == ["1.11"]
    assert unseen_fold(result.checkpoint, folds_table()) == 0


def test_the_command_trains_registers_and_resumes_by_name(installed, tracking_uri):
    command = ["train_luna_segmentation", "0.0.3", f"--config={installed / 'small.json'}", "--epochs=1"]
    done = CliRunner().invoke(cli, [*command, f"--result={installed / 'r.json'}"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "nodule_segmenter 0.0.3, epoch 1, validation crop Dice" in done.output
    assert "Research use only" in done.output
    result = json.loads((installed / "r.json").read_text())
    folder = installed / "home/checkpoints/nodule_segmenter/0.0.3"
    whole = load_checkpoint(folder / "best.pt")
    assert result["validation_crop_dice"] == whole.best_score

    client = MlflowClient(tracking_uri)
    pictures = [artifact.path for artifact in client.list_artifacts(result["mlflow_run_id"], "pictures")]
    assert pictures == ["pictures/validation_slices_epoch_001.png"]
    served = mlflow.pytorch.load_model(result["model_uri"])
    volumes_hu = 300 * torch.randn(3, 1, *SHAPE_IRC, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(served(volumes_hu), network_of(whole)(volumes_hu).sigmoid(), rtol=1e-4, atol=1e-5)

    (folder / "best.pt").rename(folder / "best_so_far.pt")
    done = CliRunner().invoke(cli, ["resume", "nodule_segmenter", "0.0.3"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert_equal(load_checkpoint(folder / "best.pt"), whole)


def test_what_cannot_be_trained_is_refused_in_one_line(trained, tmp_path):
    settings, _ = trained
    with pytest.raises(ValueError, match="must have the data set nodule_masks, got cutouts"):
        train_segmenter(settings, request_of(demo()))
    with pytest.raises(ValueError, match="A held-out fold must exist, got 9"):
        train_segmenter(settings, replace(request_of(), test_fold=9))
    with pytest.raises(FileNotFoundError, match="Table must be made before it is read, got no ct_series"):
        train_segmenter(settings_of(tmp_path), request_of())


class _WrongShape(torch.nn.Module):
    def forward(self, logits, masks):
        return (logits.sigmoid() - masks).abs().mean()


class _Absolute(torch.nn.Module):
    def forward(self, logits, masks):
        return (logits.sigmoid() - masks).abs().flatten(1).mean(1)


@contextlib.contextmanager
def own_loss(name, part):
    LOSSES.register(name)(part)
    try:
        yield
    finally:
        LOSSES.forget(name)


def test_a_loss_of_one_s_own_is_tried_before_training(trained):
    settings, _ = trained
    with own_loss("absolute", lambda _config: _Absolute()):
        result = train_segmenter(settings, request_of(SMALL.with_changes({"loss.name": "absolute", "num_epochs": 1})))
        assert np.isfinite(result.checkpoint.best_score)
    with (
        own_loss("wrong_shape", lambda _config: _WrongShape()),
        pytest.raises(PartError, match="A loss of segmentation must give losses float32"),
    ):
        train_segmenter(settings, request_of(SMALL.with_changes({"loss.name": "wrong_shape"})))


class _OneLogit(torch.nn.Module):
    """A segmenter by its attribute that gives a logit for a crop, not for each voxel."""

    is_segmenter = True

    def __init__(self, _config) -> None:
        super().__init__()
        self.head = torch.nn.Linear(1, 1)

    def forward(self, volumes_hu):
        return self.head(volumes_hu.mean(dim=(2, 3, 4)))


def test_a_network_of_one_s_own_must_give_a_logit_for_each_voxel(trained):
    settings, _ = trained
    NETWORKS.register("one_logit")(_OneLogit)
    try:
        with pytest.raises(PartError, match=r"A segmentation network must give logits float32 .* got .*one_logit"):
            train_segmenter(settings, request_of(SMALL.with_changes({"network.name": "one_logit"})))
    finally:
        NETWORKS.forget("one_logit")


def train_and_be_killed(root: Path) -> None:
    torch.set_num_threads(1)

    def die(message: LogBatch) -> None:
        if (message.epoch, message.batch_index) == (2, 3):
            os.kill(os.getpid(), signal.SIGKILL)

    train_segmenter(settings_of(root), request_of(seconds_between_checkpoints=0.0, listeners=({LogBatch: die},)))


@pytest.mark.slow
def test_a_killed_run_is_resumed_to_the_bit(trained, tmp_path):
    _, unbroken = trained
    settings = make_installation(tmp_path)
    process = multiprocessing.get_context("spawn").Process(target=train_and_be_killed, args=(tmp_path,))
    process.start()
    process.join(300)
    assert process.exitcode == -signal.SIGKILL
    folder = settings.home / "checkpoints/nodule_segmenter/0.0.1"
    assert sorted(path.name for path in folder.glob("*.pt")) == ["best_so_far.pt", "last.pt"]
    last = load_checkpoint(folder / "last.pt")
    assert (last.epoch, last.progress.num_batches) == (1, 3)
    resumed = train_segmenter(settings, request_of())
    assert resumed.version == "0.0.1"
    assert_equal(resumed.checkpoint, unbroken.checkpoint)
    assert_equal(load_checkpoint(folder / "last.pt"), load_checkpoint(unbroken.path.with_name("last.pt")))
