"""RunPod's start script as real processes on a folder that stands for the volume.

One thing stands for another: `runpodctl`, which would stop a pod that there is not, is a script that notes its call.
"""

import contextlib
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from luna_pipeline.core.training.checkpoints import load_checkpoint
from luna_pipeline_tests.processes import REPOSITORY, started, wait_for

START = str(REPOSITORY / "deploy/runpod/start.sh")
POD = "pod-of-a-test"
# Ends by itself when it is asked to, and says so; neither outlives who started it.
PATIENT = "trap 'touch $0.asked; exit 1' TERM; touch $0.begun; while kill -0 $PPID; do sleep 0.1; done"
SMALL = ["--set=network.n_blocks=2", "--set=network.conv_channels=2"]
STUBBORN = "trap '' TERM; touch $0.begun; while kill -0 $PPID; do sleep 0.1; done"


@dataclass
class Pod:
    """A volume, and how a pod is started on it."""

    root: Path
    limits: dict[str, str] = field(
        default_factory=lambda: {"LUNA_MAX_HOURS": "1", "LUNA_MAX_MONEY": "1", "LUNA_PRICE_PER_HOUR": "0.5"}
    )

    @property
    def environment(self) -> dict[str, str]:
        mine = {"LUNA_VOLUME": str(self.root / "volume"), "RUNPOD_POD_ID": POD, "TMPDIR": str(self.root)}
        path = f"{self.root / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        # As the image has them: places on the container's disk, which nothing may be written to.
        image = {name: "/nowhere" for name in ("LUNA_DATA_DIR", "LUNA_HOME", "LUNA_CACHE", "DAGSTER_HOME")}
        return {"HOME": str(self.root), "PATH": path, "OMP_NUM_THREADS": "1", **image, **mine, **self.limits}

    @property
    def luna(self) -> Path:
        return self.root / "volume/luna"

    @property
    def was_stopped(self) -> bool:
        """Whether the pod was stopped since this was last asked."""
        calls = self.root / "calls"
        said = calls.read_text().splitlines() if calls.exists() else []
        calls.unlink(missing_ok=True)
        assert set(said) <= {f"stop pod {POD}"}
        return bool(said)

    def start(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", START, *arguments], env=self.environment, capture_output=True, text=True, check=False, timeout=400
        )

    def events(self) -> list[str]:
        lines = (self.luna / "spent.tsv").read_text().splitlines()
        return [line.split("\t")[2] for line in lines if line.count("\t") == 5]


@pytest.fixture
def pod(tmp_path) -> Pod:
    (tmp_path / "volume").mkdir()
    (tmp_path / "bin").mkdir()
    stands_for = tmp_path / "bin/runpodctl"
    stands_for.write_text(f'#!/bin/sh\necho "$*" >>"{tmp_path}/calls"\n')
    stands_for.chmod(0o755)
    return Pod(tmp_path)


@contextlib.contextmanager
def begun(pod: Pod, script: str):
    """A start whose work has begun."""
    name = str(pod.root / "work")
    environment = {**pod.environment, "LUNA_WORK": "work"}
    command = ["env", "-i", *(f"{key}={value}" for key, value in environment.items())]
    with started(
        [*command, "bash", START, "bash", "-c", script, name], environment={}, log=pod.root / "log"
    ) as process:
        wait_for(Path(f"{name}.begun").exists, limit_seconds=60, what="The work")
        yield process


def end_of(process: subprocess.Popen[bytes]) -> int:
    wait_for(lambda: process.poll() is not None, limit_seconds=120, what="The end")
    return process.returncode


def test_work_finds_everything_on_the_volume_and_the_pod_is_stopped_when_it_is_done(pod):
    names = ("LUNA_DATA_DIR", "LUNA_HOME", "LUNA_CACHE", "DAGSTER_HOME")
    result = pod.start("bash", "-c", f"echo {' '.join(f'${name}' for name in names)}; ls -d ${' $'.join(names)}")
    assert result.returncode == 0, result.stderr
    places = [str(pod.luna / place) for place in ("data", "home", "cache/s3", "dagster")]
    assert result.stdout.splitlines()[0].split() == places
    assert "telemetry: {enabled: false}" in (pod.luna / "dagster/dagster.yaml").read_text()
    assert pod.was_stopped
    assert pod.events() == ["start", "done"]


def test_results_in_s3_stay_there(pod):
    pod.limits["LUNA_HOME"] = "s3://bucket/prefix"
    assert pod.start("bash", "-c", "echo $LUNA_HOME").stdout.strip() == "s3://bucket/prefix"


def test_what_is_done_is_not_done_again_but_under_another_name(pod):
    work = ["bash", "-c", "echo done"]
    assert pod.start(*work).stdout == "done\n"
    again = pod.start(*work)
    assert (again.returncode, again.stdout) == (0, "")
    assert "done already" in again.stderr
    assert pod.was_stopped
    pod.limits["LUNA_WORK"] = "once more"
    assert pod.start(*work).stdout == "done\n"


def test_work_that_fails_stops_the_pod_with_its_exit_code_and_may_be_started_again(pod):
    work = ["bash", "-c", "[ -e $LUNA_HOME/there ] || { touch $LUNA_HOME/there; exit 7; }"]
    assert pod.start(*work).returncode == 7
    assert pod.was_stopped
    assert pod.start(*work).returncode == 0
    assert pod.events() == ["start", "failed", "start", "done"]


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"LUNA_MAX_HOURS": ""}, "A limit must be a positive number, got none (LUNA_MAX_HOURS)."),
        ({"LUNA_MAX_MONEY": "ten"}, "A limit must be a positive number, got ten (LUNA_MAX_MONEY)."),
        ({"LUNA_PRICE_PER_HOUR": "-1"}, "A limit must be a positive number, got -1 (LUNA_PRICE_PER_HOUR)."),
        ({"LUNA_MAX_HOURS": "inf"}, "A limit must be a positive number, got inf (LUNA_MAX_HOURS)."),
    ],
)
def test_without_limits_nothing_runs_and_the_pod_is_stopped(pod, limits, said):
    pod.limits |= limits
    result = pod.start("bash", "-c", "echo ran")
    assert (result.returncode, result.stdout) == (2, "")
    assert said in result.stderr
    assert pod.was_stopped


def test_a_volume_that_is_not_mounted_or_no_work_is_refused_and_the_pod_is_stopped(pod):
    assert "A piece of work must be given, got none" in pod.start().stderr
    assert pod.was_stopped
    if not os.path.ismount("/workspace"):
        pod.limits["LUNA_VOLUME"] = ""
        result = pod.start("bash", "-c", "echo ran")
        assert (result.returncode, result.stdout) == (2, "")
        assert "The network volume must be mounted, got none (/workspace)." in result.stderr
        assert pod.was_stopped


@pytest.mark.parametrize(
    ("limit", "work"),
    [({"LUNA_MAX_HOURS": "0.0025"}, PATIENT), ({"LUNA_MAX_MONEY": "0.00125"}, STUBBORN)],
    ids=["patient", "stubborn"],
)
def test_work_ends_before_its_limit_the_pod_stops_and_a_restart_is_refused(pod, limit, work):
    # Nine seconds of budget, of which the last six are for the end.
    pod.limits |= {**limit, "LUNA_STOP_SECONDS": "6"}
    with begun(pod, work) as process:
        assert end_of(process) == 3
    assert pod.was_stopped
    assert (pod.root / "work.asked").exists() == (work is PATIENT)
    assert pod.events() == ["start", "spent"]
    seconds = float((pod.luna / "spent.tsv").read_text().split("\t")[-3])
    assert 3 <= seconds <= 9
    (pod.root / "work.begun").unlink()
    again = pod.start("bash", "-c", "echo ran")
    assert (again.returncode, again.stdout) == (3, "")
    assert "The budget must not be used up, got 0.00 of" in again.stderr
    assert pod.was_stopped


def test_a_pod_that_is_killed_has_used_its_budget_as_well(pod):
    with begun(pod, PATIENT) as process:
        process.kill()
    assert pod.events() == ["start"]
    # A line that the kill cut off does not hide what follows it.
    with (pod.luna / "spent.tsv").open("a") as ledger:
        ledger.write("2026-01-01T00:00:00Z\tcut")
    # The killed start counts as the minute in which nothing was heard of it.
    pod.limits |= {"LUNA_MAX_HOURS": "0.016", "LUNA_STOP_SECONDS": "1"}
    assert pod.start("bash", "-c", "echo ran").returncode == 3
    pod.limits |= {"LUNA_MAX_HOURS": "0.03"}
    assert pod.start("bash", "-c", "echo ran").stdout == "ran\n"
    assert pod.events()[-2:] == ["start", "done"]


def test_a_pod_that_is_ended_from_outside_passes_it_on_and_is_not_stopped_by_itself(pod):
    with begun(pod, PATIENT) as process:
        process.send_signal(signal.SIGTERM)
        assert end_of(process) == 1
    assert (pod.root / "work.asked").exists()
    assert pod.events() == ["start", "interrupted"]
    assert not pod.was_stopped


def test_without_runpodctl_the_container_ends_and_says_so(pod):
    (pod.root / "bin/runpodctl").unlink()
    result = pod.start("true")
    assert result.returncode == 0
    assert "the pod is not stopped, this container ends" in result.stderr


def test_a_pod_that_does_not_stop_is_told(pod):
    (pod.root / "bin/runpodctl").write_text(f'#!/bin/sh\necho "$*" >>"{pod.root}/calls"\nexit 1\n')
    result = pod.start("true")
    assert "Stop it by hand: it still costs money" in result.stderr
    assert (pod.root / "calls").read_text().splitlines() == [f"stop pod {POD}", f"pod stop {POD}"]


def test_without_a_ledger_nothing_goes_on(pod):
    (pod.luna / "spent.tsv").mkdir(parents=True)
    result = pod.start("bash", "-c", "echo ran")
    assert (result.returncode, result.stdout) == (1, "")
    assert pod.was_stopped


@pytest.mark.slow
def test_training_that_is_preempted_goes_on_when_the_pod_is_started_again(pod):
    made = pod.start("bash", "-c", "luna make_phantom $LUNA_DATA_DIR --series 4 --subsets 4 --size 40,80,80")
    assert made.returncode == 0, made.stderr
    assert pod.start("luna", "create_cutouts").returncode == 0
    last = pod.luna / "home/checkpoints/nodule_classifier/0.0.1/last.pt"
    train = ["luna", "train_luna_classification", "0.0.1", "--recipe=demo", "--epochs=5", "--batch-size=16", *SMALL]
    command = ["env", "-i", *(f"{key}={value}" for key, value in pod.environment.items()), "bash", START, *train]
    pod.was_stopped  # noqa: B018 (what was before does not count)
    with started(command, environment={}, log=pod.root / "log") as process:
        wait_for(lambda: last.exists() and load_checkpoint(last).epoch > 0, limit_seconds=240, what="The first epoch")
        process.send_signal(signal.SIGTERM)
        assert end_of(process) != 0
    assert 1 <= load_checkpoint(last).epoch < 5
    assert not pod.was_stopped
    result = pod.start(*train)
    assert result.returncode == 0, result.stderr
    assert pod.was_stopped
    assert pod.events()[-4:] == ["start", "interrupted", "start", "done"]
    assert load_checkpoint(last.with_name("best.pt")).config.num_epochs == 5
    assert not (last.parent.parent / "0.0.1+1").exists()


@pytest.mark.slow
def test_a_dagster_job_runs_on_the_volume(pod):
    made = pod.start("bash", "-c", "luna make_phantom $LUNA_DATA_DIR --series 4 --subsets 4 --size 40,80,80")
    assert made.returncode == 0, made.stderr
    result = pod.start("job", "ingest")
    assert result.returncode == 0, result.stderr
    assert (pod.luna / "home/tables/candidates.parquet").exists()
    assert (pod.luna / "dagster/history").is_dir()
    assert pod.was_stopped
