"""Training by torchrun: real processes, one of which is killed, all of which are terminated."""

import json
import signal
import sys
from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import psutil
import pytest
from mlflow import MlflowClient

from luna_pipeline.core.events.messages import Message
from luna_pipeline.core.training.checkpoints import load_checkpoint
from luna_pipeline.core.training.config import StartConfig, TrainingConfig
from luna_pipeline.core.training.recipes import demo_malignancy
from luna_pipeline.launchers import RunOptions, TrainingRequest
from luna_pipeline.launchers.training import torchrun as torchrun_module
from luna_pipeline.launchers.training.torchrun import request_as_json, request_from_json, train_together
from luna_pipeline.settings import Settings
from luna_pipeline_tests.processes import started, wait_for
from luna_pipeline_tests.small_installation import assert_equal, installed, weights_of

__all__ = ["installed"]
NUM_EPOCHS = 20
ENVIRONMENT = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1", "OMP_NUM_THREADS": "1"}


@pytest.fixture
def config(installed) -> TrainingConfig:
    return TrainingConfig.from_dict(json.loads((installed / "nodule.json").read_text()))


def torchrun(installed, version: str, *, epochs: int) -> list[str]:
    return [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "--max-restarts",
        "3",
        "--monitor-interval",
        "0.5",
        "-m",
        "luna_pipeline.cli",
        "train_luna_classification",
        version,
        f"--epochs={epochs}",
        "--batch-size=4",
        "--checkpoint-seconds=0",
        f"--config={installed / 'nodule.json'}",
        "--workers=0",
    ]


def ranks(process) -> list[psutil.Process]:
    """Return the training processes by rank."""
    children = psutil.Process(process.pid).children(recursive=True)
    found = {child.environ()["RANK"]: child for child in children if "RANK" in child.environ()}
    return [found[rank] for rank in sorted(found)]


@pytest.mark.slow
def test_a_rank_that_is_killed_is_started_again_and_goes_on_to_the_weights_of_an_unbroken_run_of_a_program(
    installed, config
):
    last = installed / "home/checkpoints/nodule_classifier/killed/last.pt"
    command = torchrun(installed, "killed", epochs=NUM_EPOCHS)
    with started(command, environment=ENVIRONMENT, log=installed / "log") as process:
        wait_for(lambda: last.exists() and load_checkpoint(last).epoch > 1, limit_seconds=120, what="Two epochs")
        ranks(process)[1].send_signal(signal.SIGKILL)
        epoch = load_checkpoint(last).epoch
        wait_for(lambda: process.poll() is not None, limit_seconds=180, what="The end of the run")
        assert process.returncode == 0, (installed / "log").read_text()
    assert epoch < NUM_EPOCHS

    lines: list[str] = []
    request = TrainingRequest(
        config=config.with_changes(num_epochs=NUM_EPOCHS, batch_size=4, version="unbroken"),
        options=RunOptions(show_progress=lines.append),
    )
    trained = train_together(Settings.from_environment(), request, num_processes=2)
    assert_equal(
        weights_of(installed, "nodule_classifier", "killed", "last"),
        weights_of(installed, "nodule_classifier", "unbroken", "last"),
    )
    assert trained.version == "unbroken"
    assert list(trained.history["epoch"]) == list(range(1, NUM_EPOCHS + 1))
    assert trained.checkpoint.mlflow_run_id == trained.mlflow_run_id
    assert any(line.startswith(f"epoch 2/{NUM_EPOCHS} training") for line in lines)
    assert sum(line.startswith("Wrote ") for line in lines) == 1


@pytest.mark.slow
def test_torchrun_that_is_asked_to_end_leaves_a_checkpoint_a_killed_mlflow_run_and_no_process(installed, tracking_uri):
    last = installed / "home/checkpoints/nodule_classifier/0.0.1/last.pt"
    with started(torchrun(installed, "0.0.1", epochs=400), environment=ENVIRONMENT, log=installed / "log") as process:
        wait_for(lambda: last.exists() and load_checkpoint(last).epoch > 0, limit_seconds=120, what="An epoch")
        workers = ranks(process)
        process.send_signal(signal.SIGTERM)
        wait_for(lambda: process.poll() is not None, limit_seconds=90, what="The end of the run")
        assert process.returncode != 0
        wait_for(lambda: not any(map(psutil.Process.is_running, workers)), limit_seconds=30, what="The end of all")
    assert len(workers) == 2
    assert 0 < load_checkpoint(last).epoch < 400
    (run,) = MlflowClient(tracking_uri).search_runs(["1"])
    assert run.info.status == "KILLED"


@pytest.mark.slow
def test_what_fails_in_a_process_is_told(config, monkeypatch):
    # Each restart would fail alike.
    monkeypatch.setattr(torchrun_module, "MAX_RESTARTS", 0)
    request = TrainingRequest(config=config, test_fold=7, options=RunOptions(show_progress=False))
    with pytest.raises(RuntimeError, match="A held-out fold must exist, got 7"):
        train_together(Settings.from_environment(), request, num_processes=2)


def test_a_request_reaches_the_processes_unchanged_but_for_what_lives_in_this_process_only():
    options = RunOptions(num_workers=3, handlers=("own",), registers_model=False, seconds_between_checkpoints=5.0)
    request = TrainingRequest(
        config=demo_malignancy().with_changes({"network.dropout_rate": 0.25, "version": "7"}),
        test_fold=2,
        start=StartConfig(loader="mlflow", name="nodule_classifier", version="0.0.1"),
        head_only=False,
        resume=False,
        options=replace(options, show_progress=print, listeners=[{Message: print}]),
    )
    assert request_from_json(request_as_json(request)) == replace(request, options=options)
    silent = replace(request, start=None, options=RunOptions(show_progress=False))
    assert request_from_json(request_as_json(silent)) == silent


@pytest.mark.parametrize(
    ("num_restarts", "rank", "resumes", "writes"), [("0", "0", False, True), ("2", "1", True, False)]
)
def test_a_process_resumes_after_a_restart_and_the_first_one_writes_the_result(
    tmp_path, monkeypatch, num_restarts, rank, resumes, writes
):
    trained_with = []

    def trained(_settings, request):
        trained_with.append(request)
        history = pd.DataFrame({"epoch": [1]})
        return SimpleNamespace(
            version="7+1", seconds=1.5, index_digest="d", model_uri=None, mlflow_run_id="r", path="p", history=history
        )

    monkeypatch.setattr(torchrun_module, "train", trained)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", num_restarts)
    monkeypatch.setenv("RANK", rank)
    request = TrainingRequest(config=demo_malignancy(), resume=False)
    (tmp_path / "request.json").write_text(request_as_json(request))
    torchrun_module.main(tmp_path / "request.json")
    assert trained_with == [replace(request, resume=resumes)]
    result = tmp_path / "result.json"
    assert result.exists() is writes
    if writes:
        expected = {"version": "7+1", "seconds": 1.5, "index_digest": "d", "model_uri": None, "mlflow_run_id": "r"}
        assert json.loads(result.read_text()) == {**expected, "history": [{"epoch": 1}]}
