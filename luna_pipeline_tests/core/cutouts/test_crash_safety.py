"""Killed and competing writers leave whole files only."""

import contextlib
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pandas as pd
import pytest

from luna_pipeline.core.cutouts.cutting import CuttingParameters
from luna_pipeline.core.cutouts.service import CtCutoutService, NotEnoughDiskError
from luna_pipeline.core.cutouts.store import CutoutStore
from luna_pipeline_tests.core.cutouts.data_root import UIDS, make_service, write_data_root

NUM_ROWS = 300
# Forks of one process that has imported all this already.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([__name__, "SimpleITK"])


def cut_all(root: Path, target: Path, tests: Connection) -> None:
    """Send when it is ready, wait for an answer, then cut all series and send each outcome."""
    catalogue, candidates = (pd.read_pickle(root / name) for name in ("catalogue.pkl", "candidates.pkl"))
    store = CutoutStore(target)
    service = make_service(root, catalogue, candidates, store=store, parameters=CuttingParameters())
    tests.send("ready")
    tests.recv()
    summary = service.cut_many(on_outcome=lambda outcome: tests.send(outcome.outcome))
    sys.exit(bool(summary.failed))


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    catalogue, candidates = write_data_root(folder, num_rows=NUM_ROWS)
    catalogue.to_pickle(folder / "catalogue.pkl")
    candidates.to_pickle(folder / "candidates.pkl")
    return folder


@contextlib.contextmanager
def started(root: Path, target: Path) -> Iterator[tuple[multiprocessing.process.BaseProcess, Connection]]:
    """A process that is ready to cut, and the connection to it; it does not outlive the block."""
    ours, theirs = PROCESSES.Pipe()
    worker = PROCESSES.Process(target=cut_all, args=(root, target, theirs))
    worker.start()
    theirs.close()
    try:
        assert ours.recv() == "ready"
        yield worker, ours
    finally:
        worker.kill()
        worker.join()


def seconds_of_a_whole_run(root: Path, target: Path) -> float:
    with started(root, target) as (worker, connection):
        start = time.perf_counter()
        connection.send("go")
        worker.join(120)
        assert worker.exitcode == 0
        return time.perf_counter() - start


@pytest.mark.slow
def test_twenty_random_kills_leave_whole_files_and_the_next_run_finishes(root, tmp_path):
    reference = CutoutStore(tmp_path / "reference")
    duration = seconds_of_a_whole_run(root, reference.root)
    rng, store, whole_after = random.Random(0), CutoutStore(tmp_path / "cutouts"), []
    for _ in range(20):
        with started(root, store.root) as (worker, connection):
            connection.send("go")
            worker.join(rng.uniform(0.05, 0.95) * duration)
        whole_after.append(len(store.uids()))
        assert [store.check(uid) for uid in store.uids()] == [None] * whole_after[-1]
        if whole_after[-1] == len(UIDS):
            for uid in UIDS:
                store.path(uid).unlink()
        elif whole_after[-1] and rng.random() < 0.5:
            store.path(store.uids()[0]).unlink()
    assert len(set(whole_after)) > 1, "the kills came at one moment only"
    before = store.uids()
    catalogue, candidates = (pd.read_pickle(root / f"{name}.pkl") for name in ("catalogue", "candidates"))
    summary = make_service(root, catalogue, candidates, store=store, parameters=CuttingParameters()).cut_many()
    assert summary.current == before
    assert sorted(summary.cut + summary.current) == UIDS
    for uid in UIDS:
        assert store.path(uid).read_bytes() == reference.path(uid).read_bytes()
    store.sweep(older_than_seconds=0)
    assert sorted(os.listdir(store.root)) == [f"{uid}.npz" for uid in UIDS]


@pytest.mark.slow
def test_two_processes_that_cut_the_same_series_leave_whole_files(root, tmp_path):
    store = CutoutStore(tmp_path / "cutouts")
    with started(root, store.root) as first, started(root, store.root) as second:
        for _, connection in (first, second):
            connection.send("go")
        for worker, connection in (first, second):
            assert all([connection.recv() for _ in UIDS])
            worker.join(120)
            assert worker.exitcode == 0
    assert sorted(os.listdir(store.root)) == [f"{uid}.npz" for uid in UIDS]
    assert [store.check(uid) for uid in UIDS] == [None, None, None]


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A disk of 8 MB, in memory; mounting needs root."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this user may not mount a disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def service_on(root: Path, target: Path, num_rows: int) -> CtCutoutService:
    """A service that would write ``num_rows`` cutouts of 147 kB of each series to the target."""
    catalogue, candidates = (pd.read_pickle(root / f"{name}.pkl") for name in ("catalogue", "candidates"))
    few = candidates.groupby("series_instance_uid").head(num_rows)
    return make_service(root, catalogue, few, store=CutoutStore(target), parameters=CuttingParameters())


def test_too_small_a_disk_is_refused_before_anything_is_written(root, small_disk):
    with pytest.raises(NotEnoughDiskError, match=r"must fit on the disk, got \d+ bytes needed and \d+ bytes free"):
        service_on(root, small_disk / "cutouts", 20).cut_many()
    assert os.listdir(small_disk) == []


def test_a_disk_that_fills_up_meanwhile_leaves_whole_files_and_the_next_run_finishes(root, small_disk):
    service = service_on(root, small_disk / "cutouts", 15)

    def somebody_else_fills_the_disk(outcome) -> None:
        free = shutil.disk_usage(small_disk).free
        (small_disk / "other").write_bytes(bytes(free - 100_000))

    summary = service.cut_many(on_outcome=somebody_else_fills_the_disk)
    assert summary.cut == UIDS[:1]
    assert list(summary.failed) == UIDS[1:]
    assert all("bytes free" in reason or "No space left" in reason for reason in summary.failed.values())
    assert os.listdir(small_disk / "cutouts") == [f"{UIDS[0]}.npz"]
    assert service.store.check(UIDS[0]) is None
    (small_disk / "other").unlink()
    again = service.cut_many()
    assert (again.current, again.cut) == (UIDS[:1], UIDS[1:])


def test_a_disk_that_is_read_only_is_said_and_what_is_there_stays(root, small_disk):
    service = service_on(root, small_disk / "cutouts", 5)
    assert service.cut_many([UIDS[0]]).num_cut == 1
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    summary = service.cut_many()
    assert summary.current == [UIDS[0]]
    assert all("Read-only file system" in summary.failed[uid] for uid in UIDS[1:])
    assert service.store.check(UIDS[0]) is None
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    assert service.cut_many().cut == UIDS[1:]
