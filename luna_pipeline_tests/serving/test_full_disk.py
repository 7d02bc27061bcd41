"""A disk that is full while a CT is submitted or diagnosed: an error or a reason, and nothing half left."""

import contextlib
import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from luna_pipeline.serving.diagnosing import WorkerContext, diagnose_job
from luna_pipeline.serving.job import JobsUnavailableError
from luna_pipeline.serving.jobs import Jobs
from luna_pipeline.serving.loaded_models import LoadedModels
from luna_pipeline.settings import Settings
from luna_pipeline_tests.serving.services import Service


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """A service whose folder is a disk of 8 MB."""
    service = Service(tmp_path)
    folder = str(service.folders.root)
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], capture_output=True, check=False)
    if mount.returncode != 0:
        pytest.skip("mounting a small disk needs root")
    try:
        yield service
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@contextlib.contextmanager
def full_disk(folder: Path, *, free_bytes: int = 0) -> Iterator[None]:
    """Fill the disk of a folder up to some bytes."""
    filler = folder / "filler"
    size = shutil.disk_usage(folder).free - free_bytes
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size // 4096 * 4096)
    try:
        yield
    finally:
        filler.unlink()


@pytest.mark.parametrize("free_kb", [0, 8])
def test_a_ct_that_is_submitted_to_a_full_disk_is_refused_or_accepted_whole(service: Service, free_kb: int):
    with service.jobs() as jobs:
        staged = service.staged()
        before = sorted(path.name for path in staged.iterdir())
        with full_disk(service.folders.root, free_bytes=free_kb * 1024):
            is_refused = submitting_is_refused(jobs, staged)
        if is_refused:
            assert sorted(path.name for path in staged.iterdir()) == before
            assert list(service.folders.jobs.glob("*")) == []
        assert is_refused or free_kb > 0
        job, is_new = jobs.submit(staged if is_refused else service.staged(), origin="http")
        assert (job.state, is_new) == ("queued", is_refused)
        assert len(jobs.list()) == 1


def submitting_is_refused(jobs: Jobs, staged: Path) -> bool:
    """Whether a CT is refused, either by the disk or by the database on it."""
    try:
        jobs.submit(staged, origin="http")
    except JobsUnavailableError:
        return True
    except OSError as error:
        return error.errno == errno.ENOSPC
    return False


@pytest.mark.parametrize("free_kb", [0, 200])
def test_a_diagnosis_on_a_full_disk_fails_with_its_reason_and_can_be_made_again(
    service: Service, monkeypatch: pytest.MonkeyPatch, free_kb: int
):
    monkeypatch.setenv("LUNA_TEST_HOLD", str(service.hold))
    settings = Settings.from_environment(service.environment)
    models = LoadedModels(settings, service.config)
    context = WorkerContext(settings=settings, config=service.config, folders=service.folders, models=models)
    with service.jobs() as jobs:
        job_id = jobs.submit(service.staged(is_dicom=True), origin="http")[0].id
    folder = service.folders.job(job_id)
    with full_disk(service.folders.root, free_bytes=free_kb * 1024):
        reason = diagnose_job(context, job_id)["reason"]
    assert "space" in reason
    assert not (folder / "output/diagnosis.json").exists()
    assert list(folder.rglob("*.part")) == []
    assert "reason" not in diagnose_job(context, job_id)
    assert (folder / "output/diagnosis.json").exists()
