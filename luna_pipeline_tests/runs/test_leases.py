"""Leases: what a watcher makes of them, and a process that gives up its run when it must."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import psutil
import pytest

from luna_pipeline.runs.leases import (
    COUNTED_SECONDS,
    LOST_AFTER_SECONDS,
    RENEW_SECONDS,
    STOP_AFTER_SECONDS,
    LeaseWatch,
    leased,
    take,
)
from luna_pipeline_tests.processes import started, wait_for

WORKER = """
import subprocess, sys, time
import dagster as dg
from luna_pipeline.runs import leases
leases.RENEW_SECONDS, leases.STOP_AFTER_SECONDS = 0.1, 3
with dg.DagsterInstance.from_config(sys.argv[1]) as instance:
    with leases.leased(instance, sys.argv[2]):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        print("working with", child.pid, flush=True)
        time.sleep(600 if len(sys.argv) == 3 else float(sys.argv[3]))
print("done", flush=True)
child.kill()
"""


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    (tmp_path / "dagster").mkdir()
    (tmp_path / "dagster/dagster.yaml").write_text("telemetry: {enabled: false}\n")
    with dg.DagsterInstance.from_config(str(tmp_path / "dagster")) as instance:
        yield instance


@pytest.fixture
def run(instance: dg.DagsterInstance) -> dg.DagsterRun:
    return instance.create_run_for_job(_job, status=dg.DagsterRunStatus.STARTED)


@dg.job
def _job() -> None:
    pass


def test_a_worker_gives_up_before_it_is_declared_lost():
    assert 2 * RENEW_SECONDS < STOP_AFTER_SECONDS < LOST_AFTER_SECONDS - 2 * RENEW_SECONDS


def test_lease_that_is_not_renewed_is_silent_for_as_long_as_it_was_seen_unchanged(instance):
    watch = LeaseWatch()
    take(instance, "a")
    assert [watch.silent_seconds(instance, "a", now=now) for now in (100, 110, 125)] == [0, 10, 25]
    take(instance, "a")
    assert [watch.silent_seconds(instance, "a", now=now) for now in (130, 150)] == [0, 20]


def test_run_without_a_lease_is_not_judged(instance):
    watch = LeaseWatch()
    assert [watch.silent_seconds(instance, "never", now=now) for now in (0, 20, 40, 60, 80)] == [0] * 5


def test_gap_between_looks_counts_for_little_and_slow_looks_still_find_out(instance):
    watch = LeaseWatch()
    take(instance, "a")
    # The storage was gone from 10 to 500: nobody could renew, and there is time to do so now.
    assert [watch.silent_seconds(instance, "a", now=now) for now in (0, 10, 500, 510)] == [0, 10, 30, 40]
    slow = [watch.silent_seconds(instance, "a", now=now) for now in (600, 700)]
    assert slow == [60, 80]
    assert slow[0] >= LOST_AFTER_SECONDS


def test_one_look_leaves_its_holder_the_time_to_renew():
    assert LOST_AFTER_SECONDS - COUNTED_SECONDS > 2 * RENEW_SECONDS


def test_each_run_has_a_lease_of_its_own(instance):
    watch = LeaseWatch()
    take(instance, "outer")
    take(instance, "inner")
    for run_id in ("outer", "inner"):
        watch.silent_seconds(instance, run_id, now=0)
    take(instance, "outer")
    assert watch.silent_seconds(instance, "outer", now=20) == 0
    assert watch.silent_seconds(instance, "inner", now=20) == 20


def test_lease_is_taken_at_once_and_nobody_renews_it_after_the_block(instance, run, monkeypatch):
    monkeypatch.setattr("luna_pipeline.runs.leases.RENEW_SECONDS", 0.02)
    watch = LeaseWatch()
    with leased(instance, run.run_id):
        watch.silent_seconds(instance, run.run_id, now=0)
        wait_for(
            lambda: watch.silent_seconds(instance, run.run_id, now=10) == 0, limit_seconds=10, what="Renewing the lease"
        )
    time.sleep(0.1)
    watch.silent_seconds(instance, run.run_id, now=10)
    time.sleep(0.2)
    assert watch.silent_seconds(instance, run.run_id, now=20) == 10


def _worker(instance: dg.DagsterInstance, run: dg.DagsterRun, *more: str) -> list[str]:
    return [sys.executable, "-c", WORKER, instance.root_directory, run.run_id, *more]


def _child(log: Path) -> psutil.Process:
    wait_for(lambda: "working with" in log.read_text(), limit_seconds=60, what="The worker's start")
    return psutil.Process(int(log.read_text().split("working with")[1].split()[0]))


def _gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_worker_whose_run_was_ended_by_others_ends_at_once_with_its_children(instance, run, tmp_path):
    log = tmp_path / "log.txt"
    with started(_worker(instance, run), environment={}, log=log) as process:
        child = _child(log)
        instance.report_run_failed(run, "taken for lost")
        wait_for(lambda: process.poll() is not None, limit_seconds=20, what="The worker's end")
        assert process.returncode == 1
        assert _gone(child)
    assert "is given up" in log.read_text()
    assert "ended by others (FAILURE)" in log.read_text()


def test_worker_that_cannot_renew_says_why_and_ends(instance, run, tmp_path):
    log = tmp_path / "log.txt"
    with started(_worker(instance, run), environment={}, log=log) as process:
        child = _child(log)
        for database in Path(instance.root_directory).rglob("runs.db*"):
            database.write_bytes(b"no database " * 1000)
        wait_for(lambda: process.poll() is not None, limit_seconds=30, what="The worker's end")
        assert process.returncode == 1
        assert _gone(child)
    assert f"Lease of run {run.run_id} not renewed" in log.read_text()
    assert "Its lease was not renewed for 3 s" in log.read_text()


def test_worker_that_renews_is_let_alone_for_longer_than_its_patience(instance, run):
    ended = subprocess.run(_worker(instance, run, "6"), capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.endswith("done\n")
