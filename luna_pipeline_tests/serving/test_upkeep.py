"""The upkeep of a worker, without its diagnoses."""

import os
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from luna_pipeline.serving.diagnosing import WorkerContext
from luna_pipeline.serving.executors import held_name
from luna_pipeline.serving.job_files import Arrival, place_input
from luna_pipeline.serving.loaded_models import LoadedModels
from luna_pipeline.serving.upkeep import Upkeep
from luna_pipeline.settings import Settings
from luna_pipeline_tests.serving.services import Service


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return Service(tmp_path)


def test_a_job_that_is_called_running_and_is_not_is_queued_again_at_the_second_look(
    service: Service, monkeypatch: pytest.MonkeyPatch
):
    settings = Settings.from_environment(service.environment)
    models = LoadedModels(settings, service.config)
    context = WorkerContext(settings=settings, config=service.config, folders=service.folders, models=models)
    with service.jobs() as jobs, held_name(service.folders) as name:
        assert name == "worker-0"
        ids = [jobs.submit(service.staged(number), origin="http")[0].id for number in (5, 6)]
        with jobs._client._sys_db.engine.begin() as connection:
            connection.execute(sa.text("UPDATE workflow_status SET status = 'PENDING', executor_id = 'worker-0'"))
        # The first one runs.
        context.running.update(
            it.workflow_id for it in jobs._client.list_workflows() if it.workflow_id.startswith(ids[0])
        )
        upkeep = Upkeep(context, name, jobs, jobs._client)

        def fail() -> None:
            raise OSError

        # Another part of the upkeep does not stop it.
        monkeypatch.setattr(jobs, "reconcile", fail)
        upkeep.work()
        assert [jobs.get(job_id).state for job_id in ids] == ["running", "running"]
        upkeep.work()
        assert [jobs.get(job_id).state for job_id in ids] == ["running", "queued"]


def test_a_folder_that_a_killed_process_left_becomes_a_job(service: Service):
    settings = Settings.from_environment(service.environment)
    models = LoadedModels(settings, service.config)
    context = WorkerContext(settings=settings, config=service.config, folders=service.folders, models=models)
    with service.jobs() as jobs:
        job_id = "1" * 32
        place_input(service.staged(), service.folders.job(job_id), Arrival.now(job_id, "dicom"))
        assert (jobs.get(job_id).state, jobs.list()) == ("queued", [])
        other = service.folders.jobs / "lost+found"
        other.mkdir()
        # The first one, which the disk has damaged, stops no other.
        damaged = service.folders.job("0" * 32)
        (damaged / "input").mkdir(parents=True)
        (damaged / "job.json").mkdir()
        Upkeep(context, "worker-0", jobs, jobs._client).work()
        assert other.exists()
        assert [job.id for job in jobs.list()] == [job_id]


def test_uploads_of_killed_processes_are_removed_at_the_start(service: Service):
    settings = Settings.from_environment(service.environment)
    models = LoadedModels(settings, service.config)
    context = WorkerContext(settings=settings, config=service.config, folders=service.folders, models=models)
    left, new = service.folders.new_staging(), service.folders.new_staging()
    (left / "000001.part").write_bytes(b"x")
    long_ago = time.time() - 5 * service.config.limits.max_seconds
    os.utime(left, (long_ago, long_ago))
    with service.jobs() as jobs:
        Upkeep(context, "worker-0", jobs, jobs._client).work()
    assert not left.exists()
    assert new.exists()


def test_names_are_held_once_and_freed(service: Service):
    with held_name(service.folders) as first, held_name(service.folders) as second:
        assert (first, second) == ("worker-0", "worker-1")
    with held_name(service.folders) as name:
        assert name == "worker-0"
