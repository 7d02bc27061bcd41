"""Slurm's batch script on a real Slurm: trained on two nodes, requeued, out of time, and a job a test fold."""

import os
import subprocess
from pathlib import Path

import pytest
from mlflow import MlflowClient

from luna_pipeline.core.training.checkpoints import load_checkpoint
from luna_pipeline_tests.deploy.own_slurm import can_have_slurm, own_slurm
from luna_pipeline_tests.mlflow_fixtures import empty_database, quiet_mlflow, tracking_uri
from luna_pipeline_tests.processes import REPOSITORY, wait_for
from luna_pipeline_tests.small_installation import installed

__all__ = ["empty_database", "installed", "quiet_mlflow", "tracking_uri"]

SCRIPT = REPOSITORY / "deploy/slurm/train.sbatch"
needs_slurm = pytest.mark.skipif(not can_have_slurm(), reason="needs slurm-wlm, munge and namespaces")


@pytest.fixture(scope="module")
def slurm():
    with own_slurm() as cluster:
        yield cluster


def submit(slurm, installed: Path, *arguments: str, options: tuple[str, ...] = ()) -> str:
    line = slurm.run(
        "sbatch",
        "--parsable",
        f"--output={installed}/slurm.out",
        *options,
        str(SCRIPT),
        *arguments,
        f"--config={installed / 'nodule.json'}",
        "--batch-size=4",
        "--checkpoint-seconds=0",
    )
    return line.strip()


def start_now(slurm, job: str) -> None:
    """Let a requeued job start; Slurm itself waits two minutes."""
    slurm.run("scontrol", "update", f"JobId={job}", "StartTime=now")


def epoch_of(last: Path) -> int:
    return load_checkpoint(last).epoch if last.exists() else 0


def log_of(installed: Path, version: str) -> str:
    return (installed / f"home/slurm/{version}.log").read_text()


@needs_slurm
@pytest.mark.slow
def test_a_job_on_two_nodes_that_is_requeued_goes_on_from_its_checkpoint(slurm, installed, tracking_uri):
    last = installed / "home/checkpoints/nodule_classifier/0.0.1/last.pt"
    job = submit(slurm, installed, "0.0.1", "--epochs=12", options=("--nodes=2",))
    wait_for(lambda: epoch_of(last) > 1, limit_seconds=240, what="Two epochs")
    slurm.run("scontrol", "requeue", job)
    wait_for(lambda: slurm.state(job) == "PENDING", limit_seconds=240, what="The job's end")
    kept = epoch_of(last)
    assert "Interrupted; what was finished is kept." in log_of(installed, "0.0.1")
    (run,) = MlflowClient(tracking_uri).search_runs(["1"])
    assert run.info.status == "KILLED"
    assert 1 < kept < 12
    start_now(slurm, job)
    wait_for(lambda: slurm.state(job) == "COMPLETED", limit_seconds=240, what="The job's second end")
    log = log_of(installed, "0.0.1")
    assert "requeued 0 times" in log
    assert "requeued 1 times" in log
    assert load_checkpoint(last.with_name("best.pt")).config.num_epochs == 12
    assert log.count("epoch 1/12 training: loss") == 1


@needs_slurm
@pytest.mark.slow
def test_a_job_of_one_test_fold_that_runs_out_of_time_passes_it_on_and_requeues_itself(slurm, installed):
    last = installed / "home/checkpoints/nodule_classifier/0.0.1-fold2/last.pt"
    array = submit(slurm, installed, "0.0.1", "--epochs=4000", options=("--array=2",))
    job = slurm.run("squeue", "-h", "-j", array, "-o", "%A").strip()
    wait_for(lambda: epoch_of(last) > 0, limit_seconds=240, what="An epoch")
    # What Slurm does before the time limit, which is a minute at least: it tells the batch shell alone.
    slurm.run("scancel", "--batch", "--signal=TERM", job)
    wait_for(lambda: slurm.state(job) == "PENDING", limit_seconds=240, what="The job's end")
    slurm.run("scancel", job)
    log = log_of(installed, "0.0.1-fold2")
    assert log.count("Interrupted; what was finished is kept.") == 1
    assert "attempt 1" not in log
    assert 0 < epoch_of(last) < 4000


@pytest.mark.parametrize(
    ("arguments", "home", "said"),
    [
        ([], "home", "A version must be given, got none."),
        (["0.0.1"], "", "LUNA_HOME must name a place that all nodes see, got none."),
    ],
)
def test_what_is_missing_is_told_before_anything_runs(arguments, home, said):
    result = subprocess.run(
        ["bash", str(SCRIPT), *arguments],
        env={**os.environ, "LUNA_HOME": home},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert said in result.stderr


def test_slurm_reads_its_options_before_the_first_command():
    lines = SCRIPT.read_text().splitlines()
    options = [number for number, line in enumerate(lines) if line.startswith("#SBATCH ")]
    first_command = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
    assert options
    assert max(options) < first_command
    assert {"--requeue", "--open-mode=append", "--signal=B:TERM@120"} <= {
        lines[number].split()[1] for number in options
    }
