"""Training from the command line: the commands of the tutorial's README, and interruptions."""

import json
import os
import signal
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from mlflow import MlflowClient

from luna_pipeline.cli import cli
from luna_pipeline.core.training.checkpoints import load_checkpoint
from luna_pipeline_tests.mlflow_fixtures import empty_database, quiet_mlflow, tracking_uri
from luna_pipeline_tests.processes import session_of, started, wait_for
from luna_pipeline_tests.small_installation import assert_equal, installed, refused, weights_of

__all__ = ["empty_database", "installed", "quiet_mlflow", "tracking_uri"]


def luna(installed: Path, *arguments: str, config: str = "nodule") -> str:
    """Run a command of the tutorial's README, on a network for small cutouts."""
    done = CliRunner().invoke(cli, [*arguments, f"--config={installed / config}.json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


SCRATCH = ["0.0.1", "--epochs=2", "--batch-size=64"]
CONTINUED = ["0.0.1", "file", "classification", "0.0.1", "--epochs=2", "--batch-size=64"]


@pytest.mark.seed_defect(52, 55, 69)
def test_the_commands_of_the_tutorials_readme_work_from_scratch_and_continued(installed):
    said = luna(installed, "train_luna_classification", *SCRATCH)
    assert "nodule_classifier/0.0.1/best.pt" in said
    assert "Research use only" in said
    source = weights_of(installed, "nodule_classifier", "0.0.1")
    assert (source.config.num_epochs, source.config.batch_size) == (2, 64)

    luna(installed, "train_luna_malignant_classification", *SCRATCH, config="malignant")
    luna(installed, "load_train_luna_classification", *CONTINUED)
    luna(installed, "load_train_luna_malignant_classification", *CONTINUED, config="malignant")
    for name in ("nodule_classifier", "malignancy_classifier"):
        assert weights_of(installed, name, "0.0.1+1").config.start.name == "nodule_classifier"
        assert weights_of(installed, name, "0.0.1").config.start.name is None
    assert torch.equal(
        weights_of(installed, "nodule_classifier", "0.0.1").model_state["luna_blocks.0.conv1.weight"],
        source.model_state["luna_blocks.0.conv1.weight"],
    )


def test_weights_come_from_mlflows_registry_as_well_as_from_a_file(installed):
    luna(installed, "train_luna_classification", *SCRATCH)
    os.rename(installed / "home/checkpoints", installed / "home/elsewhere")
    arguments = ["0.0.2", "mlflow", "classification", "0.0.1", "--epochs=1", "--batch-size=64"]
    luna(installed, "load_train_luna_malignant_classification", *arguments, config="malignant")
    tuned = weights_of(installed, "malignancy_classifier", "0.0.2")
    source = load_checkpoint(installed / "home/elsewhere/nodule_classifier/0.0.1/best.pt")
    name = "luna_blocks.0.conv1.weight"
    assert torch.equal(tuned.model_state[name], source.model_state[name])


def test_a_profile_prints_the_ten_dearest_operators_and_leaves_a_trace(installed):
    said = luna(installed, "train_luna_classification", "0.0.0-profile", "--epochs=1", "--batch-size=4", "--profile")
    lines = said.splitlines()
    (first,) = [number for number, line in enumerate(lines) if line.startswith("operator")]
    assert all("%" in line for line in lines[first + 1 : first + 11])
    assert "of the profiled time waiting for data" in said
    (trace,) = (installed / "home/tensorboard/nodule_classifier/0.0.0-profile").glob("*.pt.trace.json")
    names = {event.get("name") for event in json.loads(trace.read_text())["traceEvents"]}
    assert "aten::convolution" in names


def test_values_of_the_configuration_are_changed_by_their_places(installed):
    changes = ["--set", "optimizer.learning_rate=0.01", "--set", "loss.name=focal", "--seed=3"]
    luna(installed, "train_luna_classification", *SCRATCH, *changes, "--no-mlflow")
    config = weights_of(installed, "nodule_classifier", "0.0.1").config
    assert (config.optimizer.learning_rate, config.loss.name, config.seed) == (0.01, "focal", 3)


@pytest.mark.parametrize(
    ("arguments", "line", "status"),
    [
        (["--set", "network.nam=x"], "got 'network.nam'. Did you mean 'network.name'?", 2),
        (["--set", "optimizer.betas=0.9"], "optimizer.betas must be two numbers, got 0.9.", 2),
        (["--set", "num_epochs=-1"], "num_epochs must be at least 1, got -1.", 2),
        (["--set", "colour"], "A change must be PLACE=VALUE, got colour", 2),
        (["--recipe", "dmeo"], "--recipe: The recipe must be one of", 2),
        (["--handler", "mlfow"], "--handler: The handler must be one of console, mlflow, tensorboard, got 'mlfow'.", 2),
        (["--config", "{wrong}"], "configuration must hold", 1),
        (["--epochs", "0"], "0 is not in the range x>=1", 2),
        (["--test-fold", "7"], "A held-out fold must exist, got 7", 1),
    ],
)
def test_what_cannot_be_trained_is_said_in_one_line(installed, monkeypatch, capsys, arguments, line, status):
    (installed / "wrong.json").write_text('{"name": "n"}')
    given = [argument.replace("{wrong}", f"{installed}/wrong.json") for argument in arguments]
    code, said = refused(monkeypatch, capsys, "train_luna_classification", "0.0.1", *given)
    assert code == status
    assert line in said


LONG = ["train_luna_classification", "0.0.1", "--epochs=20", "--batch-size=4", "--checkpoint-seconds=0"]


@pytest.mark.slow
@pytest.mark.seed_defect(65)
def test_an_interrupt_leaves_a_checkpoint_a_killed_mlflow_run_and_no_process_and_resume_is_bit_equal(
    installed, tracking_uri
):
    config = f"--config={installed / 'nodule.json'}"
    command = [sys.executable, "-m", "luna_pipeline.cli"]
    last = installed / "home/checkpoints/nodule_classifier/0.0.1/last.pt"
    with started([*command, *LONG, config], environment={}, log=installed / "log") as process:
        wait_for(last.exists, limit_seconds=120, what="The first step")
        process.send_signal(signal.SIGTERM)
        wait_for(lambda: process.poll() is not None, limit_seconds=60, what="The end of the run")
        assert process.returncode == 1
        assert session_of(process.pid) == []
    stopped = load_checkpoint(last)
    (run,) = MlflowClient(tracking_uri).search_runs(["1"])
    assert run.info.status == "KILLED"
    assert "Interrupted; what was finished is kept." in (installed / "log").read_text()

    assert stopped.epoch < 20
    resumed = CliRunner().invoke(cli, ["resume", "classification", "0.0.1"], catch_exceptions=False)
    assert resumed.exit_code == 0
    luna(installed, *LONG, "--no-resume", "--no-mlflow")
    assert_equal(
        weights_of(installed, "nodule_classifier", "0.0.1", "last"),
        weights_of(installed, "nodule_classifier", "0.0.1+1", "last"),
    )
    (run,) = MlflowClient(tracking_uri).search_runs(["1"])
    assert run.info.status == "FINISHED"


def test_resuming_a_complete_run_is_refused(installed, monkeypatch, capsys):
    luna(installed, "train_luna_classification", *SCRATCH, "--no-mlflow")
    code, said = refused(monkeypatch, capsys, "resume", "classification", "0.0.1")
    assert code == 1
    assert "A run to resume must be unfinished, got a complete one" in said


def test_an_interrupted_run_is_resumed_by_its_name(installed, monkeypatch):
    luna(installed, "train_luna_classification", *SCRATCH, "--no-mlflow")
    folder = installed / "home/checkpoints/nodule_classifier/0.0.1"
    whole = load_checkpoint(folder / "best.pt")
    (folder / "best.pt").rename(folder / "best_so_far.pt")
    done = CliRunner().invoke(cli, ["resume", "nodule_classifier", "0.0.1"], catch_exceptions=False)
    assert done.exit_code == 0
    assert_equal(load_checkpoint(folder / "best.pt"), whole)


def test_results_are_written_for_programs(installed):
    path = installed / "result.json"
    luna(installed, "train_luna_classification", *SCRATCH, f"--result={path}")
    result = json.loads(path.read_text())
    assert (result["name"], result["version"]) == ("nodule_classifier", "0.0.1")
    assert [row["epoch"] for row in result["history"]] == [1, 2]
    assert pd.notna(result["mlflow_run_id"])
