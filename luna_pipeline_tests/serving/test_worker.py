"""Workers as processes, which really diagnose phantom CTs: done, failed with a reason, killed, stopped."""

import contextlib
import subprocess
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from luna_pipeline.serving.database import APPLICATION_VERSION, DIAGNOSE, DIAGNOSES
from luna_pipeline.serving.executors import requeue_lost
from luna_pipeline.serving.job import QueueFullError
from luna_pipeline.serving.job_files import job_of_workflow
from luna_pipeline.serving.jobs import Jobs
from luna_pipeline.serving.supervisor import Supervisor
from luna_pipeline_tests.processes import wait_for
from luna_pipeline_tests.serving.services import Service, wait_until_ended, wait_until_running

pytestmark = pytest.mark.slow
ENQUEUED = {"queue_name": DIAGNOSES, "workflow_name": DIAGNOSE, "app_version": APPLICATION_VERSION}


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return Service(tmp_path)


@pytest.fixture
def jobs(service: Service):
    with service.jobs() as jobs:
        yield jobs


def kill_worker() -> None:
    """Kill the worker that this process has started."""
    [worker] = [child for child in psutil.Process().children() if "luna_pipeline.serving.worker" in child.cmdline()]
    worker.kill()


def test_a_job_ends_done_or_failed_with_a_reason_and_that_of_a_killed_worker_is_taken_up_again(
    service: Service, jobs, monkeypatch: pytest.MonkeyPatch
):
    for name, value in service.environment.items():
        monkeypatch.setenv(name, value)
    broken = service.folders.new_staging()
    (broken / "000001.dcm").write_bytes(b"no CT")
    failed = jobs.submit(broken, origin="http")[0]
    models, away = service.root / "home/checkpoints", service.root / "away"
    models.rename(away)
    with Supervisor(service.config) as supervisor:
        # Without models a job waits, and no attempt is counted.
        wait_for(lambda: jobs.get(failed.id).stage == "models", limit_seconds=60, what="the stage of the models")
        assert (jobs.get(failed.id).state, jobs.get(failed.id).attempts) == ("running", 0)
        away.rename(models)
        job, is_new = jobs.submit(service.staged(is_dicom=True), origin="dicom")
        assert (is_new, job.origin, job.state) == (True, "dicom", "queued")
        # The workflow of an earlier arrival of the same CT, such as one whose enqueueing only seemed to fail.
        jobs._client.enqueue(ENQUEUED | {"workflow_id": f"{job.id}-earlier"}, job.id)
        job = wait_until_ended(jobs, job.id)
        assert (job.state, job.reason, job.attempts) == ("done", None, 1), job.reason
        assert set(job.models) == {"segmenter", "classifier", "malignancy"}
        # SQLite gives the start in whole seconds.
        assert int(job.received_at) <= job.started_at <= job.ended_at
        written = {path.name for path in (service.folders.job(job.id) / "output").iterdir()}
        assert {"nodules.csv", "seg.dcm", "sr.dcm"} < written
        failed = jobs.get(failed.id)
        assert (failed.state, failed.num_nodules) == ("failed", None)
        assert "got" in failed.reason
        assert str(service.root) not in failed.reason
        wait_for(lambda: jobs.counts()["failed"] == 2, limit_seconds=30, what="the end of the earlier workflow")
        [outcome] = [it.output for it in jobs._client.list_workflows() if it.workflow_id.endswith("earlier")]
        assert "may have been deleted" in outcome["reason"]
        service.hold.touch()
        lost = jobs.submit(service.staged(6), origin="http")[0]
        wait_until_running(jobs, lost.id)
        kill_worker()
        wait_until_running(jobs, lost.id, attempts=2)
        assert supervisor.num_alive == 1
    assert supervisor.num_alive == 0
    # The attempt that the stop ended does not count.
    lost = jobs.get(lost.id)
    assert (lost.state, lost.attempts) == ("queued", 1)
    assert jobs.counts() == {"queued": 1, "running": 0, "done": 1, "failed": 2}
    full = contextlib.closing(Jobs(service.folders, replace(service.config, max_queued=1)))
    with full as other, pytest.raises(QueueFullError) as error:
        other.check_room()
    assert error.value.retry_after_seconds < 30, "by the time that these phantoms took"


def test_a_lost_or_deleted_job_leaves_other_workers_alone(service: Service, jobs):
    service.hold.touch()
    with service.worker() as one, service.worker() as other:
        lost, deleted = jobs_of(jobs, service)
        # Jobs of workers that live are left alone.
        assert requeue_lost(jobs._client, service.folders) == 0
        kill_holder(service.folders.root / "workers/worker-0.lock", one, other)
        assert requeue_lost(jobs._client, service.folders) == 1
        assert (jobs.get(lost).state, jobs.get(lost).attempts) == ("queued", 1)
        jobs.delete(deleted)
        service.hold.unlink()
        job = wait_until_ended(jobs, lost)
        assert (job.state, job.attempts) == ("done", 2)
    assert [path.name for path in service.folders.jobs.iterdir()] == [lost]
    assert [job.id for job in jobs.list()] == [lost]


def jobs_of(jobs: Jobs, service: Service) -> tuple[str, str]:
    """Submit two jobs, and return that of worker-0 and that of worker-1."""
    for number in (5, 6):
        wait_until_running(jobs, jobs.submit(service.staged(number), origin="http")[0].id)
    of = {status.executor_id: job_of_workflow(status.workflow_id) for status in jobs._client.list_workflows()}
    return of["worker-0"], of["worker-1"]


def kill_holder(lock: Path, *processes: subprocess.Popen[bytes]) -> None:
    """Kill the process that has a lock's file open."""
    [holder] = [it for it in processes if str(lock) in {file.path for file in psutil.Process(it.pid).open_files()}]
    holder.kill()
    holder.wait()
