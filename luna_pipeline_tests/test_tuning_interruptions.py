"""Studies that lose a worker, a node or their driver, or are interrupted: real processes are killed."""

import contextlib
import json
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import psutil
import pytest
from mlflow import MlflowClient

from luna_pipeline_tests.cluster.two_nodes import can_have_networks, two_nodes
from luna_pipeline_tests.mlflow_fixtures import empty_database, quiet_mlflow, tracking_uri
from luna_pipeline_tests.processes import started, wait_for
from luna_pipeline_tests.small_installation import installed

__all__ = ["empty_database", "installed", "quiet_mlflow", "tracking_uri"]

pytestmark = [pytest.mark.slow]
NUM_EPOCHS = 6
# A slow loss, so that a study can be killed in the middle. The first two trials begin together: a process that starts
# late, on a busy machine, would find the other one's trial over.
EXTENSION = """
import os
import pathlib
import time

import torch

from luna_pipeline.core.networks.config import LOSSES

BEGUN = pathlib.Path(__file__).parent / "begun"


class Slow(torch.nn.CrossEntropyLoss):
    def forward(self, logits, labels):
        BEGUN.mkdir(exist_ok=True)
        (BEGUN / str(os.getpid())).touch()
        until = time.monotonic() + 120
        while len(list(BEGUN.iterdir())) < 2 and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(0.1)
        return super().forward(logits, labels)


@LOSSES.register("slow")
def slow(config):
    return Slow(reduction="none")
"""
SPACE = {"optimizer.learning_rate": {"choices": [0.0001, 0.001, 0.01]}}


@pytest.fixture
def study(installed: Path, monkeypatch) -> Path:
    """Future folder of the study that ``COMMAND`` runs."""
    (installed / "slow_loss.py").write_text(EXTENSION)
    (installed / "space.json").write_text(json.dumps(SPACE))
    (installed / "home_of_user").mkdir()
    # As in the make targets: matplotlib's cache is not in the home directory.
    places = {"LUNA_EXTENSIONS": "slow_loss.py", "HOME": "home_of_user", "MPLCONFIGDIR": "matplotlib"}
    for name, value in {name: installed / place for name, place in places.items()}.items():
        monkeypatch.setenv(name, str(value))
    return installed / "home/tuning/nodule_classifier/0.0.1-fold0"


def command(installed: Path, *more: str) -> list[str]:
    return [
        "luna",
        "tune_luna_classification",
        f"--config={installed}/nodule.json",
        f"--space={installed}/space.json",
        "--set=loss.name=slow",
        "--search=grid",
        "--scheduler=none",
        "--metric=auc",
        f"--epochs={NUM_EPOCHS}",
        "--no-winner",
        *more,
    ]


def epochs_of(study: Path) -> dict[int, list[dict]]:
    """Scores of each trial so far; files appear atomically."""
    files = [path for path in study.glob("trials/*.json") if path.stem.isdigit()]
    return {int(path.stem): json.loads(path.read_text())["epochs"] for path in files}


def ended(study: Path) -> set[int]:
    return {int(path.stem.removesuffix("_ended")) for path in study.glob("trials/*_ended.json")}


def is_in_the_middle(study: Path) -> bool:
    """Whether two trials have reached their second epoch and none its last."""
    reached = [len(epochs) for epochs in epochs_of(study).values()]
    return len(reached) == 2 and min(reached) >= 2 and max(reached) < NUM_EPOCHS


def table_of(study: Path) -> pd.DataFrame:
    return pd.read_csv(study / "trials.csv").set_index("trial")


def trainers_below(pid: int) -> list[psutil.Process]:
    """Ray processes that train trials."""
    found = []
    for process in psutil.Process(pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess, IndexError):
            if process.cmdline()[0].startswith("ray::ImplicitFunc"):
                found.append(process)
    return found


@contextlib.contextmanager
def all_ended_below(pid: int) -> Iterator[list[psutil.Process]]:
    """Collect the child processes, and kill the remaining ones at the end."""
    below = psutil.Process(pid).children(recursive=True)
    yield below
    for process in below:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def states_in_mlflow(uri: str) -> dict[str, str]:
    """Status of each run by trial number; of the study's run by ``study``."""
    client = MlflowClient(uri)
    (experiment,) = [found for found in client.search_experiments() if found.name != "Default"]
    runs = client.search_runs([experiment.experiment_id])
    states = {run.data.tags.get("luna.trial", "study"): run.info.status for run in runs}
    # A resumed trial continues its MLflow run.
    assert len(states) == len(runs)
    return states


def test_a_killed_worker_costs_its_trial_no_finished_epoch(installed, study, tracking_uri):
    log = installed / "log.txt"
    with started(command(installed), environment={}, log=log) as driver:
        wait_for(lambda: is_in_the_middle(study), limit_seconds=240, what="the middle of the study")
        before = epochs_of(study)
        with all_ended_below(driver.pid):
            trainers_below(driver.pid)[0].kill()
            assert driver.wait(timeout=180) == 0, log.read_text()
    table = table_of(study)
    assert list(table["state"]) == ["finished"] * 4
    assert sorted(table["num_restarts"]) == [0, 0, 0, 1]
    assert list(table["num_epochs"]) == [NUM_EPOCHS] * 4
    lost = int(table["num_restarts"].idxmax())
    # Even the times of earlier epochs are unchanged: nothing was repeated.
    assert epochs_of(study)[lost][: len(before[lost]) - 1] == before[lost][:-1]
    assert f"The process of trial {lost} died; it resumes from its last checkpoint" in log.read_text()
    assert "Traceback" not in log.read_text()
    assert states_in_mlflow(tracking_uri) == dict.fromkeys(["study", "0", "1", "2", "3"], "FINISHED")


def test_a_killed_driver_is_followed_by_one_that_runs_no_finished_trial_again(installed, study, tracking_uri):
    log = installed / "log.txt"
    with started(command(installed), environment={}, log=log) as driver:
        wait_for(
            lambda: len(ended(study)) >= 2 and len(epochs_of(study)) > len(ended(study)),
            limit_seconds=240,
            what="two trials that are over and one that is not",
        )
        with all_ended_below(driver.pid) as below:
            driver.kill()
            driver.wait()
            trainers = [process for process in below if process.name().startswith("ray::ImplicitFunc")]
            psutil.wait_procs(trainers, timeout=60)
            over = sorted(ended(study))
            files = [*(study / f"trials/{n:04d}{end}.json" for n in over for end in ("", "_ended"))]
            files += [study / f"checkpoints/nodule_classifier/trial-{n:04d}/last.pt" for n in over]
            before = {path: path.stat().st_mtime_ns for path in files}
    with started(command(installed), environment={}, log=log) as driver:
        assert driver.wait(timeout=180) == 0, log.read_text()
    assert {path: path.stat().st_mtime_ns for path in files} == before
    assert log.read_text().count("Study nodule_classifier 0.0.1-fold0 resumes") == 1
    assert {path.name for path in study.parent.iterdir()} == {study.name, f".{study.name}.claim"}
    table = table_of(study)
    assert list(table["state"]) == ["finished"] * 4
    assert list(table["num_epochs"]) == [NUM_EPOCHS] * 4
    assert states_in_mlflow(tracking_uri) == dict.fromkeys(["study", "0", "1", "2", "3"], "FINISHED")


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder for temporary files; its path is short enough for Ray's sockets."""
    folder = Path(tempfile.mkdtemp(prefix="luna-test-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_an_interrupt_ends_everything_that_was_started(installed, study, tracking_uri, temporary):
    log = installed / "log.txt"
    with started(command(installed), environment={"TMPDIR": str(temporary)}, log=log) as driver:
        wait_for(lambda: is_in_the_middle(study), limit_seconds=240, what="the middle of the study")
        assert list(temporary.glob("luna-ray-*"))
        with all_ended_below(driver.pid) as below:
            assert len(trainers_below(driver.pid)) == 2
            driver.send_signal(signal.SIGINT)
            assert driver.wait(timeout=60) == 1, log.read_text()
            _, alive = psutil.wait_procs(below, timeout=20)
            assert alive == []
    assert log.read_text().rstrip().endswith("Interrupted; what was finished is kept.")
    assert "Traceback" not in log.read_text()
    assert list(temporary.glob("luna-ray-*")) == []
    assert list((installed / "home_of_user").iterdir()) == []
    states = states_in_mlflow(tracking_uri)
    assert states["study"] == "KILLED"
    assert {states[str(n)] for n in epochs_of(study)} == {"KILLED"}


@pytest.mark.skipif(not can_have_networks(), reason="needs the right to make network namespaces")
def test_a_killed_node_of_a_cluster_costs_nothing_but_time(installed, study, tmp_path, tracking_uri):
    log = installed / "log.txt"
    with two_nodes(tmp_path) as cluster:
        environment = {**cluster.environment, "HOME": str(installed / "home_of_user")}
        with started(cluster.command(*command(installed)), environment=environment, log=log) as driver:
            wait_for(lambda: is_in_the_middle(study), limit_seconds=240, what="the middle of the study")
            cluster.kill_second()
            assert driver.wait(timeout=240) == 0, log.read_text()
    assert "Ray has 2 CPUs and 0 GPUs on 2 nodes" in log.read_text()
    table = table_of(study)
    assert list(table["state"]) == ["finished"] * 4
    assert list(table["num_epochs"]) == [NUM_EPOCHS] * 4
    assert sorted(table["num_restarts"]) == [0, 0, 0, 1]
    assert states_in_mlflow(tracking_uri) == dict.fromkeys(["study", "0", "1", "2", "3"], "FINISHED")
