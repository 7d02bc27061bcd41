"""Jobs without a worker: what is accepted is kept once, in order, and after kills at each step."""

import contextlib
import shutil
import threading
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from luna_pipeline.serving import jobs as module
from luna_pipeline.serving.database import DIAGNOSES
from luna_pipeline.serving.folders import ServiceFolders
from luna_pipeline.serving.job import JobsUnavailableError, QueueFullError, UnknownJobError
from luna_pipeline.serving.jobs import Jobs
from luna_pipeline_tests.serving.services import Service


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Service:
    """A service whose database has its tables."""
    service = Service(tmp_path_factory.mktemp("service"), {"max_queued": 3, "keep_days": 1.0})
    with service.jobs():
        return service


@pytest.fixture
def service(made: Service, tmp_path: Path) -> Service:
    """The service in another folder; making the tables takes a second."""
    shutil.copytree(made.root, tmp_path / "service")
    return Service(tmp_path / "service")


@pytest.fixture
def jobs(service: Service):
    with service.jobs() as jobs:
        yield jobs


def staged(folders: ServiceFolders, content: bytes) -> Path:
    folder = folders.new_staging()
    (folder / "ct.mha").write_bytes(content)
    return folder


def num_workflows(jobs: Jobs) -> int:
    return len(jobs._client.list_workflows())


def test_the_same_files_are_one_job_whatever_they_are_called(service: Service, jobs: Jobs):
    first, is_new = jobs.submit(staged(service.folders, b"ct"), origin="http")
    other = staged(service.folders, b"ct")
    (other / "ct.mha").rename(other / "another.mha")
    second, is_new_again = jobs.submit(other, origin="dicom")
    assert (is_new, is_new_again) == (True, False)
    assert second == first
    assert (first.state, first.origin, first.position, first.attempts) == ("queued", "http", 0, 0)
    assert (service.folders.job(first.id) / "input/ct.mha").read_bytes() == b"ct"
    assert list(service.folders.staging.iterdir()) == []
    assert num_workflows(jobs) == 1


def test_many_threads_that_submit_the_same_files_get_one_job(service: Service, jobs: Jobs):
    folders, got = [staged(service.folders, b"ct") for _ in range(8)], []
    threads = [threading.Thread(target=lambda f=f: got.append(jobs.submit(f, origin="http"))) for f in folders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len({job.id for job, _ in got}), sum(is_new for _, is_new in got), num_workflows(jobs)] == [1, 1, 1]


def test_jobs_wait_in_the_order_of_their_arrival_and_a_full_queue_leaves_the_upload(service: Service, jobs: Jobs):
    ids = [jobs.submit(staged(service.folders, text), origin="http")[0].id for text in (b"a", b"b", b"c")]
    assert [jobs.get(job_id).position for job_id in ids] == [0, 1, 2]
    assert [job.id for job in jobs.list()] == ids[::-1]
    assert [job.id for job in jobs.list(limit=1)] == ids[2:]
    assert jobs.counts() == {"queued": 3, "running": 0, "done": 0, "failed": 0}
    refused = staged(service.folders, b"d")
    with pytest.raises(QueueFullError, match="got 3 waiting jobs") as error:
        jobs.submit(refused, origin="http")
    assert error.value.retry_after_seconds == 30, "no diagnosis has ended yet"
    assert (refused / "ct.mha").exists()
    # A CT that is waiting already needs no place.
    assert jobs.submit(staged(service.folders, b"a"), origin="http")[1] is False
    jobs.delete(ids[0])
    assert [jobs.get(job_id).position for job_id in ids[1:]] == [0, 1]
    assert jobs.submit(refused, origin="http")[1] is True


def test_a_deleted_job_is_unknown_leaves_nothing_and_can_be_submitted_again(service: Service, jobs: Jobs):
    first = jobs.submit(staged(service.folders, b"ct"), origin="http")[0]
    jobs.delete(first.id)
    for call in (jobs.get, jobs.delete):
        with pytest.raises(UnknownJobError):
            call(first.id)
    assert (list(service.folders.jobs.iterdir()), jobs.list(), num_workflows(jobs)) == ([], [], 0)
    again, is_new = jobs.submit(staged(service.folders, b"ct"), origin="dicom")
    assert (is_new, again.id, again.origin) == (True, first.id, "dicom")


@pytest.mark.parametrize("job_id", ["", "../jobs", "0" * 31, "0" * 32, "A" * 32, "0" * 64])
def test_another_id_is_unknown(jobs: Jobs, job_id: str):
    with pytest.raises(UnknownJobError):
        jobs.get(job_id)


def test_an_upload_without_files_is_refused(service: Service, jobs: Jobs):
    with pytest.raises(ValueError, match="at least one file"):
        jobs.submit(service.folders.new_staging(), origin="http")


class Killed(BaseException):
    """The process ends here."""


@contextlib.contextmanager
def killed_in(monkeypatch: pytest.MonkeyPatch, target: object, name: str, *, is_before: bool):
    """Make a call end as if its process were killed just before or after it; fail if it is not called."""
    real = getattr(target, name)

    def call(*arguments, **options):
        if not is_before:
            real(*arguments, **options)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(target, name, call)
        with pytest.raises(Killed):
            yield


@pytest.mark.parametrize(
    ("step", "is_before", "is_kept"),
    [("place_input", False, True), ("enqueue", True, True), ("enqueue", False, True), ("rename", True, False)],
)
def test_a_kill_while_submitting_loses_nothing_that_was_moved(
    service: Service, jobs: Jobs, monkeypatch: pytest.MonkeyPatch, step: str, is_before: bool, is_kept: bool
):
    targets = {"place_input": module, "enqueue": jobs._client, "rename": Path}
    upload = staged(service.folders, b"ct")
    with killed_in(monkeypatch, targets[step], step, is_before=is_before):
        jobs.submit(upload, origin="dicom")
    with service.jobs() as restarted:
        restarted.reconcile()
        restarted.reconcile()
        assert [(job.state, job.origin) for job in restarted.list()] == [("queued", "dicom")] * is_kept
        assert upload.exists() is not is_kept
        assert len(list(service.folders.jobs.iterdir())) == int(is_kept)
        # The sender, which had no answer, sends it again.
        _, is_new = restarted.submit(staged(service.folders, b"ct"), origin="dicom")
        assert is_new is not is_kept
        assert num_workflows(restarted) == 1


@pytest.mark.parametrize("step", ["cancel_workflow", "delete_workflow"])
def test_a_deletion_that_is_killed_is_finished(
    service: Service, jobs: Jobs, monkeypatch: pytest.MonkeyPatch, step: str
):
    job = jobs.submit(staged(service.folders, b"ct"), origin="http")[0]
    with killed_in(monkeypatch, jobs._client, step, is_before=True):
        jobs.delete(job.id)
    with service.jobs() as restarted:
        with pytest.raises(UnknownJobError):
            restarted.get(job.id)
        restarted.reconcile()
        assert (list(service.folders.jobs.iterdir()), num_workflows(restarted)) == ([], 0)


def test_a_database_that_does_not_answer_is_an_error_and_the_upload_is_left(
    service: Service, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
):
    kept = jobs.submit(staged(service.folders, b"a"), origin="http")[0]
    service.folders.database.rename(service.folders.root / "away.sqlite")
    jobs._client._sys_db.engine.dispose()
    upload = staged(service.folders, b"b")
    calls = (jobs.list, jobs.counts, jobs.check_database, lambda: jobs.get(kept.id))
    for call in (lambda: jobs.submit(upload, origin="http"), *calls):
        with pytest.raises(JobsUnavailableError, match="must answer, got an error"):
            call()
    assert (upload / "ct.mha").exists()
    assert [path.name for path in service.folders.jobs.iterdir()] == [kept.id]


def test_only_jobs_that_ended_before_the_kept_days_are_removed(service: Service, jobs: Jobs):
    old, new, waiting = (jobs.submit(staged(service.folders, text), origin="http")[0] for text in (b"a", b"b", b"c"))
    ended_days_ago(jobs, old.id, 1.01)
    ended_days_ago(jobs, new.id, 0.99)
    jobs.remove_old()
    assert {job.id for job in jobs.list()} == {new.id, waiting.id}
    assert {path.name for path in service.folders.jobs.iterdir()} == {new.id, waiting.id}


def test_a_failed_job_that_is_sent_again_begins_anew(service: Service, jobs: Jobs):
    first = jobs.submit(staged(service.folders, b"ct"), origin="http")[0]
    (service.folders.job(first.id) / "attempts.json").write_text("2")
    ended_days_ago(jobs, first.id, 0.0, status="ERROR")
    assert (jobs.get(first.id).state, jobs.get(first.id).attempts) == ("failed", 2)
    again, is_new = jobs.submit(staged(service.folders, b"ct"), origin="dicom")
    assert (is_new, again.id, again.state, again.origin, again.attempts) == (True, first.id, "queued", "dicom", 0)
    assert [path.name for path in service.folders.jobs.iterdir()] == [first.id]
    assert num_workflows(jobs) == 1


def test_what_a_dying_worker_left_of_a_deleted_job_is_not_the_new_ones(service: Service, jobs: Jobs):
    job_id = jobs.submit(staged(service.folders, b"ct"), origin="http")[0].id
    jobs.delete(job_id)
    service.folders.job(job_id).mkdir()
    (service.folders.job(job_id) / "attempts.json").write_text("2")
    assert jobs.submit(staged(service.folders, b"ct"), origin="http")[0].attempts == 0


def test_a_workflow_whose_enqueueing_only_seemed_to_fail_is_removed_once_it_ended(
    service: Service, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
):
    kept = jobs.submit(staged(service.folders, b"kept"), origin="http")[0]
    enqueue = jobs._client.enqueue

    def answer_lost(*arguments):
        enqueue(*arguments)
        raise sa.exc.OperationalError("COMMIT", {}, ConnectionResetError())

    monkeypatch.setattr(jobs._client, "enqueue", answer_lost)
    with pytest.raises(JobsUnavailableError):
        jobs.submit(staged(service.folders, b"ct"), origin="http")
    [ghost] = {status.workflow_id[:32] for status in jobs._client.list_workflows()} - {kept.id}
    ended_days_ago(jobs, kept.id, 1.0)
    ended_days_ago(jobs, ghost, 9 / 1440)
    jobs.remove_ghosts()
    assert num_workflows(jobs) == 2
    ended_days_ago(jobs, ghost, 11 / 1440)
    jobs.remove_ghosts()
    assert jobs.counts() == {"queued": 0, "running": 0, "done": 1, "failed": 0}


@pytest.mark.parametrize("content", [b"", b"{}", b"null", b"\xff"])
def test_a_damaged_record_is_replaced_and_the_job_made_again(service: Service, jobs: Jobs, content: bytes):
    ids = [jobs.submit(staged(service.folders, text), origin="http")[0].id for text in (b"a", b"b")]
    (service.folders.job(ids[0]) / "job.json").write_bytes(content)
    (service.folders.job(ids[0]) / "attempts.json").write_bytes(b"")
    assert [job.id for job in jobs.list()] == ids[1:]
    jobs.reconcile()
    assert {(job.id, job.state) for job in jobs.list()} == {(job_id, "queued") for job_id in ids}


def ended_days_ago(jobs: Jobs, job_id: str, days: float, *, status: str = "SUCCESS") -> None:
    """Set the end of a job as its worker does, some days ago."""
    ended = int((time.time() - days * 86400) * 1000)
    statement = sa.text(
        "UPDATE workflow_status SET status = :status, queue_name = :queue, completed_at = :ended "
        "WHERE workflow_uuid LIKE :id"
    )
    with jobs._client._sys_db.engine.begin() as connection:
        connection.execute(statement, {"status": status, "ended": ended, "id": f"{job_id}%", "queue": DIAGNOSES})
