"""Training and scoring with the launcher."""

import contextlib
import threading
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow import MlflowClient
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from luna_pipeline.core.evaluation.report import DECISION_COLUMNS, PREDICTION_COLUMNS
from luna_pipeline.core.networks.config import LOSSES
from luna_pipeline.core.training.building import network_of
from luna_pipeline.core.training.checkpoints import CheckpointStore, load_checkpoint
from luna_pipeline.core.training.dry_run_checks import PartError
from luna_pipeline.core.training.trainer import Trainer
from luna_pipeline.launchers import LunaClassificationLauncher, RunOptions, predict_table, score
from luna_pipeline.tracking.mlflow_run import mlflow_run
from luna_pipeline.tracking.outbox import TrackerUnavailableError


def launcher(home, *, mlflow_run=None, show_progress=False) -> LunaClassificationLauncher:
    return LunaClassificationLauncher(
        home.path,
        open_mlflow_run=(lambda *_: contextlib.nullcontext(mlflow_run)) if mlflow_run else None,
        options=RunOptions(show_progress=show_progress, seconds_of_patience=0.5),
    )


def open_run(tracking_uri: str, tmp_path):
    return mlflow_run(
        tracking_uri, experiment="a", artifact_location=tmp_path / "artifacts", system_metrics_seconds=None
    )


def interrupting(beginning: str):
    """Return a listener that interrupts the run at the first line with this beginning, as Ctrl-C does."""

    def listen(line: str) -> None:
        if line.startswith(beginning):
            raise KeyboardInterrupt

    return listen


def test_a_run_without_mlflow_leaves_checkpoint_history_and_tensorboard(home, small_config):
    trained = launcher(home).fit(small_config, **home.data)

    assert trained.path == home.path / "checkpoints" / "nodule_classifier" / "0.0.1" / "best.pt"
    assert load_checkpoint(trained.path).config == small_config
    assert list(trained.history["epoch"]) == [1, 2]
    assert trained.history[["training/loss", "validation/loss", "validation/auc"]].notna().all(axis=None)
    events = EventAccumulator(str(trained.tensorboard_dir / "validation")).Reload()
    steps = [event.step for event in events.Scalars("epoch/auc")]
    assert steps == list(trained.history["num_samples_seen"]) == [20, 40]
    assert (trained.model_uri, trained.checkpoint.mlflow_run_id) == (None, None)


@pytest.mark.seed_defect(1, 2, 3)
def test_nothing_of_the_held_out_folds_is_learned(home, small_config):
    checkpoint = launcher(home).fit(small_config, **home.data).checkpoint

    folds = home.index.set_index("series_instance_uid")["fold"]
    assert set(folds[checkpoint.training_series]) == {2, 3}
    assert set(folds[checkpoint.validation_series]) == {1}


@pytest.mark.seed_defect(67)
def test_two_runs_share_neither_version_nor_folders(home, small_config):
    first, second = (launcher(home).fit(small_config, **home.data) for _ in range(2))

    assert (first.version, second.version) == ("0.0.1", "0.0.1+1")
    assert first.tensorboard_dir != second.tensorboard_dir
    assert launcher(home).load("nodule_classifier").version == "0.0.1+1"
    assert launcher(home).load("nodule_classifier", "0.0.1").version == "0.0.1"


# Before the metrics of the training pass are logged, and after that: then the resumed run logs them again.
@pytest.mark.parametrize("line", ["epoch 2/2 training", "epoch 2/2 validation"])
def test_an_interrupted_run_is_continued_and_ends_as_if_nothing_had_happened(home, small_config, line):
    with pytest.raises(KeyboardInterrupt):
        launcher(home, show_progress=interrupting(line)).fit(small_config, **home.data)
    continued = launcher(home).fit(small_config, **home.data)
    undisturbed = launcher(home).fit(small_config, **home.data)

    assert (continued.version, undisturbed.version) == ("0.0.1", "0.0.1+1")
    for name, weights in undisturbed.checkpoint.model_state.items():
        assert torch.equal(continued.checkpoint.model_state[name], weights), name
    events = EventAccumulator(str(continued.tensorboard_dir / "training")).Reload()
    assert [event.step for event in events.Scalars("epoch/loss")] == [20, 40]


def kill_before_the_checkpoint(home, config, monkeypatch, opener):
    """Train until the MLflow run has its first value, and leave all as SIGKILL does."""

    class Killed(BaseException):
        """The process is gone."""

    def kill(*_arguments, **_options):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "fit_epoch", kill)
        # What a dead process cannot do.
        patch.setattr(CheckpointStore, "release", lambda *_: None)
        patch.setattr(MlflowClient, "set_terminated", lambda *_: None)
        patch.setattr(Path, "unlink", lambda *_, **__: None)
        with pytest.raises(Killed):
            opener(home).fit(config, **home.data)


@pytest.mark.parametrize(("num_epochs", "statuses"), [(2, ["FINISHED"]), (1, ["FINISHED", "KILLED"])])
def test_a_run_killed_before_its_first_checkpoint_is_taken_up_with_its_mlflow_run(
    home, small_config, tracking_uri, tmp_path, monkeypatch, num_epochs, statuses
):
    def opener(home):
        options = {"experiment": "a", "artifact_location": tmp_path / "artifacts", "system_metrics_seconds": None}
        return LunaClassificationLauncher(
            home.path,
            open_mlflow_run=lambda name, run_id: mlflow_run(tracking_uri, run_name=name, run_id=run_id, **options),
            options=RunOptions(show_progress=False, registers_model=False),
        )

    kill_before_the_checkpoint(home, small_config, monkeypatch, opener)
    client = MlflowClient(tracking_uri)
    (killed,) = client.search_runs(["1"])
    assert killed.info.status == "RUNNING"
    trained = opener(home).fit(small_config.with_changes(num_epochs=num_epochs), **home.data)
    runs = client.search_runs(["1"])
    assert trained.version == "0.0.1"
    assert sorted(run.info.status for run in runs) == statuses
    assert (trained.mlflow_run_id == killed.info.run_id) == (len(runs) == 1)
    losses = client.get_metric_history(trained.mlflow_run_id, "training_batch/loss")
    assert len(losses) == len({point.step for point in losses}) > 0
    assert list(home.path.glob("checkpoints/*/.*.attempt.json")) == []


@pytest.mark.seed_defect(65)
def test_trackers_are_closed_when_a_run_is_interrupted(home, small_config):
    before = set(threading.enumerate())
    with pytest.raises(KeyboardInterrupt):
        launcher(home, show_progress=interrupting("epoch 2/2 training")).fit(small_config, **home.data)

    # An open TensorBoard writer has a thread.
    assert set(threading.enumerate()) <= before
    events = EventAccumulator(str(home.path / "tensorboard" / "nodule_classifier" / "0.0.1")).Reload()
    assert 28 in [event.step for event in events.Scalars("training_batch/loss")]


def test_a_new_run_is_begun_where_continuing_is_not_wanted(home, small_config):
    with pytest.raises(KeyboardInterrupt):
        launcher(home, show_progress=interrupting("epoch 2/2 training")).fit(small_config, **home.data)
    assert launcher(home).fit(small_config, **home.data, resume=False).version == "0.0.1+1"


def test_progress_goes_where_it_is_wanted_and_nowhere_otherwise(home, small_config, capfd):
    lines: list[str] = []
    launcher(home, show_progress=lines.append).fit(small_config, **home.data)
    assert capfd.readouterr() == ("", "")
    assert "2 epochs of 20 training samples, 10 validation samples, batches of 8" in lines

    launcher(home, show_progress=True).fit(small_config, **home.data)
    out, err = capfd.readouterr()
    assert out == ""
    assert lines[1] in err
    assert "\x1b" not in err


def test_a_run_with_mlflow_is_kept_whole(home, small_config, tracking_uri, tmp_path):
    with open_run(tracking_uri, tmp_path) as run:
        trained = launcher(home, mlflow_run=run).fit(small_config, **home.data)

    kept = MlflowClient(tracking_uri).get_run(run.run_id)
    assert kept.info.status == "FINISHED"
    assert kept.data.params["num_epochs"] == "2"
    assert kept.data.tags["data_fingerprint"] == trained.checkpoint.data_fingerprint
    assert kept.data.tags["config_digest"] == small_config.digest
    assert (kept.data.tags["luna.test_fold"], kept.data.tags["luna.validation_fold"]) == ("0", "1")
    assert kept.data.metrics["validation/auc"] == trained.history["validation/auc"].iloc[-1]
    assert trained.checkpoint.mlflow_run_id == run.run_id
    assert trained.model_uri == "models:/nodule_classifier/1"


@pytest.mark.filterwarnings("error::UserWarning:torch.export")
def test_the_registered_model_scores_as_the_checkpoint_does(home, small_config, tracking_uri, tmp_path, monkeypatch):
    with open_run(tracking_uri, tmp_path) as run:
        trained = launcher(home, mlflow_run=run).fit(small_config, **home.data)

    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri)
    chunks = np.concatenate([home.store.read(uid).ct_chunks[:5] for uid in ("1.2.0", "1.2.4")])
    served = mlflow.pyfunc.load_model(trained.model_uri).predict(chunks[:, None].astype(np.float32))
    expected = score(trained.checkpoint, home.test_rows, home.store)
    np.testing.assert_allclose(served, expected, atol=1e-6)


@pytest.mark.seed_defect(63)
def test_a_model_that_mlflow_does_not_take_fails_the_run_and_is_handed_over_later(
    home, small_config, tracking_uri, tmp_path, monkeypatch
):
    def full(self, *_arguments):
        raise OSError("No space left on device")

    with monkeypatch.context() as patch, open_run(tracking_uri, tmp_path) as run:
        patch.setattr(MlflowClient, "log_artifact", full)
        with pytest.raises(OSError, match="No space left"):
            launcher(home, mlflow_run=run).fit(small_config, **home.data)
    assert not (home.path / "checkpoints" / "nodule_classifier" / "0.0.1" / "best.pt").exists()

    with open_run(tracking_uri, tmp_path) as run:
        trained = launcher(home, mlflow_run=run).fit(small_config, **home.data)
    assert (trained.version, trained.model_uri) == ("0.0.1", "models:/nodule_classifier/1")
    assert len(trained.history) == 0


def test_metrics_that_mlflow_never_took_fail_the_run(home, small_config, tracking_uri, tmp_path, monkeypatch):
    def away(self, *_arguments, **_options):
        raise ConnectionError("server is away")

    monkeypatch.setattr(MlflowClient, "log_batch", away)
    with pytest.raises(TrackerUnavailableError, match="server is away"), open_run(tracking_uri, tmp_path) as run:
        launcher(home, mlflow_run=run).fit(small_config, **home.data)


def test_scores_follow_the_rows_of_the_index_in_any_order(home, small_config):
    checkpoint = launcher(home).fit(small_config, **home.data).checkpoint
    rows = home.test_rows.sample(frac=1, random_state=0)
    told: list[tuple[int, int]] = []
    scores = score(checkpoint, rows, home.store, batch_size=4, on_batch=lambda done, total: told.append((done, total)))

    network = network_of(checkpoint)
    for got, (_, row) in zip(scores, rows.iterrows(), strict=True):
        chunk = home.store.read(row["series_instance_uid"]).ct_chunks[row["row"]]
        with torch.inference_mode():
            logits = network(torch.tensor(chunk[None, None], dtype=torch.float32))
        assert got == pytest.approx(float(logits.softmax(dim=1)[0, 1]), abs=1e-6)
    assert told == [(4, 10), (8, 10), (10, 10)]


def test_scores_of_cutouts_of_another_shape_are_refused(home, small_config):
    checkpoint = launcher(home).fit(small_config, **home.data).checkpoint
    other = replace(small_config, network=replace(small_config.network, chunk_shape_irc=(8, 8, 16)))
    with pytest.raises(ValueError, match=r"\(8, 8, 16\), got \(8, 8, 8\) \(nodule_classifier 0.0.1\)"):
        score(replace(checkpoint, config=other), home.test_rows, home.store)


def test_predictions_hold_position_class_and_threshold_of_each_candidate(home, small_config):
    checkpoint = launcher(home).fit(small_config, **home.data).checkpoint
    table = predict_table(checkpoint, home.test_rows, home.candidates, home.store)

    assert tuple(table.columns) == (*PREDICTION_COLUMNS, *DECISION_COLUMNS)
    joined = table.merge(home.candidates, on="candidate_id", suffixes=("", "_expected"))
    assert len(joined) == len(table) == 10
    np.testing.assert_array_equal(joined["x_mm"], joined["x_mm_expected"])
    assert set(table["threshold"]) == {checkpoint.threshold}
    calibrated = checkpoint.decision.calibrated(table["probability"].to_numpy())
    np.testing.assert_array_equal(table["calibrated"], calibrated)
    pd.testing.assert_series_equal(table["class"], home.test_rows["class"].reset_index(drop=True))


def test_a_candidate_without_a_position_is_named(home, small_config):
    checkpoint = launcher(home).fit(small_config, **home.data).checkpoint
    known = home.candidates[home.candidates["series_instance_uid"] != "1.2.4"]
    with pytest.raises(ValueError, match=r"got 5 that are not \(the first of series 1.2.4\)"):
        predict_table(checkpoint, home.test_rows, known, home.store)


def test_of_two_interrupted_runs_the_one_that_is_named_goes_on(home, small_config):
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            launcher(home, show_progress=interrupting("epoch 2/2 training")).fit(
                small_config, **home.data, resume=False
            )
    assert launcher(home).fit(small_config, **home.data, resume="0.0.1").version == "0.0.1"
    assert launcher(home).fit(small_config, **home.data).version == "0.0.1+1"


def test_a_version_that_came_to_nothing_is_free_again(home, small_config):
    def away(_name, _run_id):
        raise ConnectionError("no server")

    failing = LunaClassificationLauncher(home.path, open_mlflow_run=away, options=RunOptions(show_progress=False))
    for _ in range(2):
        with pytest.raises(ConnectionError, match="no server"):
            failing.fit(small_config, **home.data)
    assert launcher(home).fit(small_config, **home.data).version == "0.0.1"


@pytest.fixture
def register():
    """Register losses, which are forgotten afterwards."""
    names = []

    def add(name, part):
        LOSSES.register(name)(part)
        names.append(name)

    yield add
    for name in names:
        LOSSES.forget(name)


def test_a_wrong_part_is_refused_before_a_version_is_claimed_or_a_run_begun(home, small_config, register):
    register("scalar", lambda config: torch.nn.CrossEntropyLoss())
    opened = []
    refusing = LunaClassificationLauncher(
        home.path, open_mlflow_run=lambda *_: opened.append("run"), options=RunOptions(show_progress=False)
    )
    with pytest.raises(PartError, match=r'losses float32 \(5,\) .*, got float32 \(\) \(loss "scalar"\)'):
        refusing.fit(small_config.with_changes({"loss.name": "scalar"}), **home.data)
    assert opened == refusing.checkpoints.versions("nodule_classifier") == []


def test_a_part_that_was_tried_trains_to_the_same_bits(home, small_config, register):
    register("same", lambda config: torch.nn.CrossEntropyLoss(reduction="none"))
    configs = small_config, small_config.with_changes({"loss.name": "same"})
    first, second = (launcher(home).fit(config, **home.data).checkpoint for config in configs)
    assert all(torch.equal(first.model_state[name], second.model_state[name]) for name in first.model_state)
    assert first.rng_state.keys() == second.rng_state.keys()
    assert all(torch.equal(first.rng_state[name], second.rng_state[name]) for name in first.rng_state)
