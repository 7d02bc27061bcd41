"""The chain with its home in S3, by Dagster's own command, against a real server."""

import dataclasses
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from luna_pipeline.core.cutouts.store import CutoutStore
from luna_pipeline.core.storage.cache import LocalCopies
from luna_pipeline.core.storage.files import AnyPath, content_of, listing, read_bytes, write_bytes
from luna_pipeline.core.storage.s3 import remote_path
from luna_pipeline_tests.conftest import Folders
from luna_pipeline_tests.prepared import CUT, INGEST, run_on
from luna_pipeline_tests.processes import started, wait_for

pytestmark = pytest.mark.slow

CONFIG = {"recipe": "demo", "epochs": 2, "batch_size": 8}
TRAINING = ("train_nodule_classifier", {"ops": {"nodule_classifier": {"config": CONFIG}}})
TABLES = [
    "candidates",
    "folds",
    "cutout_index",
    "zero_rule_baseline/0",
    "feature_baseline/0",
    "nodule_predictions/0",
    "nodule_report",
]

UPLOADER = """
import os, sys
from luna_pipeline.core.storage.files import written_atomically
from luna_pipeline.core.storage.s3 import remote_path
with written_atomically(remote_path(sys.argv[1])) as file:
    file.write(sys.argv[2].encode() * (80 << 20))
    print("uploading", flush=True)
"""


@dataclasses.dataclass(frozen=True)
class RemoteFolders(Folders):
    """An installation whose home is in S3; what cannot lie there goes to ``root``."""

    address: str = ""

    @property
    def home(self) -> AnyPath:
        return remote_path(self.address)

    @property
    def dagster(self) -> Path:
        return self.root / "dagster_of_s3"

    @property
    def store(self) -> CutoutStore:
        return CutoutStore(self.home / "cutouts", copies=LocalCopies(self.root / "test_copies"))

    @property
    def environment(self) -> dict[str, str]:
        return super().environment | {"LUNA_CACHE": str(self.root / "cache")}


@pytest.fixture
def remote(folders: Folders, s3_home: str) -> RemoteFolders:
    remote = RemoteFolders(folders.root, folders.num_series, address=s3_home)
    shutil.copytree(folders.dagster, remote.dagster)
    return remote


def execute(job: str, *options: str) -> list[str]:
    return ["dagster", "job", "execute", "-m", "luna_pipeline.definitions", "-j", job, *options]


def run_to_end(folders: Folders, job: str, *options: str) -> int:
    with started(execute(job, *options), environment=folders.environment, log=folders.log) as process:
        wait_for(lambda: process.poll() is not None, limit_seconds=300, what=f"The end of {job}")
        return process.returncode


def kill_when(folders: Folders, condition: Callable[[], object], job: str, *options: str) -> None:
    """Start a job and kill it without warning at the first moment at which the condition holds."""
    with started(execute(job, *options), environment=folders.environment, log=folders.log) as process:
        wait_for(lambda: condition() or process.poll() is not None, limit_seconds=240, what="The moment to kill")
        assert process.poll() is None, folders.log.read_text()[-5000:]
        process.send_signal(signal.SIGKILL)
        process.wait()


def table(folders: Folders, name: str) -> pd.DataFrame:
    return pd.read_parquet(content_of(folders.home / f"tables/{name}.parquet"))


@pytest.mark.timeout(1200)
def test_a_home_in_s3_gets_what_a_local_home_gets_though_its_training_was_killed(
    folders: Folders, remote: RemoteFolders, prepared_homes, tmp_path: Path
):
    for job in (INGEST, CUT):
        run_on(remote, job)
    training = ("train_nodule_classifier", "-c", remote.write_config(json.dumps(TRAINING[1])))
    folder = remote.home / "checkpoints/nodule_classifier/0.0.1-fold0"
    kill_when(remote, lambda: "last.pt" in listing(folder), *training)
    assert "best.pt" not in listing(folder)
    for job, *options in (training, ("evaluate",)):
        assert run_to_end(remote, job, *options) == 0, remote.log.read_text()[-5000:]
    assert sorted(listing(folder.parent)) == ["0.0.1-fold0/best.pt", "0.0.1-fold0/last.pt", "current_0.json"]
    prepared_homes.copy((INGEST, CUT, TRAINING, ("evaluate", {})), home=folders.home, dagster=folders.dagster)
    for name in TABLES:
        pd.testing.assert_frame_equal(table(remote, name), table(folders, name))
    cutouts = listing(remote.home / "cutouts")
    assert len(cutouts) == 6
    for name in cutouts:
        assert read_bytes(remote.home / "cutouts" / name) == read_bytes(folders.home / "cutouts" / name)
    places = {name.rpartition("/")[0] for name in listing(remote.home)}
    assert {place for place in places if not place.startswith("tables/")} == {
        "tables",
        "cutouts",
        "checkpoints/nodule_classifier",
        "checkpoints/nodule_classifier/0.0.1-fold0",
        "submissions/nodule_classifier",
    }
    assert {path.name for path in (tmp_path / "local").iterdir()} == {
        "mlflow.db",
        "mlartifacts",
        "tensorboard",
        "checkpoints",
        "patient_key",
        "verified_cutouts.txt",
    }
    assert run_to_end(remote, "cut") == 0
    assert listing(remote.home / "cutouts") == cutouts


def test_a_job_killed_while_it_cuts_leaves_whole_files_and_the_next_goes_on(remote: RemoteFolders):
    run_on(remote, INGEST)
    kill_when(remote, remote.store.uids, "cut")
    done = remote.store.listing()
    assert [remote.store.check(uid) for uid in remote.store.uids()] == [None] * len(done)
    run_on(remote, CUT)
    assert len(remote.store.uids()) == remote.num_series
    assert {name: status for name, status in remote.store.listing().items() if name in done} == done


def test_a_wrong_secret_fails_the_job_and_says_so(remote: RemoteFolders, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "quite-another-secret")
    assert run_to_end(remote, "ingest") != 0
    log = remote.log.read_text()
    assert "S3 must do what is asked of it, got PermissionError" in log
    assert "AWS_SECRET_ACCESS_KEY" in log
    assert "quite-another-secret" not in log


@pytest.mark.parametrize("seed", range(4))
def test_an_upload_killed_at_any_moment_leaves_the_older_object_or_the_new_one(s3_home: str, seed: int):
    path = remote_path(s3_home) / "large"
    write_bytes(path, b"old")
    with subprocess.Popen([sys.executable, "-c", UPLOADER, str(path), "n"], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"uploading\n"
        # A random moment is what is tested, nothing is waited for.
        time.sleep(random.Random(seed).uniform(0, 1.0))
        process.kill()
    content = read_bytes(path)
    assert content in (b"old", b"n" * (80 << 20))
    assert list(listing(path.parent)) == ["large"]
