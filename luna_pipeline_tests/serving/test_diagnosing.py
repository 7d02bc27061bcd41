"""The diagnosis of one job in this process: its attempts, its progress and its reasons."""

import json
from pathlib import Path

import pytest

from luna_pipeline.serving.diagnosing import WorkerContext, diagnose_job
from luna_pipeline.serving.job_files import begin_attempt, num_attempts, read_progress, take_back_attempt
from luna_pipeline.serving.loaded_models import LoadedModels
from luna_pipeline.settings import Settings
from luna_pipeline_tests.serving.services import Service


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return Service(tmp_path)


@pytest.fixture
def context(service: Service, monkeypatch: pytest.MonkeyPatch) -> WorkerContext:
    settings = Settings.from_environment(service.environment)
    # Read by the segmenter of the tests.
    monkeypatch.setenv("LUNA_TEST_HOLD", str(service.hold))
    models = LoadedModels(settings, service.config)
    return WorkerContext(settings=settings, config=service.config, folders=service.folders, models=models)


@pytest.fixture
def job_id(service: Service) -> str:
    """A job whose worker has not begun."""
    with service.jobs() as jobs:
        return jobs.submit(service.staged(), origin="http")[0].id


def test_the_result_names_its_models_and_nodules(service: Service, context: WorkerContext, job_id: str):
    outcome = diagnose_job(context, job_id)
    folder = service.folders.job(job_id)
    nodules = json.loads((folder / "output/nodules.json").read_text())
    assert outcome == {
        "models": {
            "segmenter": "nodule_segmenter 0.0.1",
            "classifier": "nodule_classifier 0.0.1",
            "malignancy": "malignancy_classifier 0.0.1",
        },
        "num_nodules": sum(nodule["probability"] >= 0.01 for nodule in nodules),
    }
    assert outcome["num_nodules"] > 0
    assert (num_attempts(folder), read_progress(folder).stage) == (1, "outputs")


def test_after_two_lost_attempts_a_job_fails_with_the_stage(service: Service, context: WorkerContext, job_id: str):
    folder = service.folders.job(job_id)
    begin_attempt(folder)
    begin_attempt(folder)
    assert (
        "got 2 workers that ended during it (the newest before its first stage)"
        in diagnose_job(context, job_id)["reason"]
    )
    (folder / "progress.json").write_text('{"stage": "lungs", "done": 0, "total": 1}')
    assert "(the newest in the stage lungs)" in diagnose_job(context, job_id)["reason"]
    assert not (folder / "output").exists()
    take_back_attempt(folder)
    assert "reason" not in diagnose_job(context, job_id)


def test_a_reason_holds_no_path_of_the_service(service: Service, context: WorkerContext, job_id: str):
    volume = service.folders.job(job_id) / "input/ct.raw"
    volume.write_bytes(volume.read_bytes()[:-1])
    reason = diagnose_job(context, job_id)["reason"]
    assert "got" in reason
    assert str(service.root) not in reason


def test_a_job_that_is_gone_ends_at_its_next_progress(service: Service, context: WorkerContext, job_id: str):
    with service.jobs() as jobs:

        def models(uid: str):
            # In the middle of the diagnosis, another arrival of the same CT takes the place of the deleted one.
            jobs.delete(job_id)
            jobs.submit(service.staged(), origin="dicom")
            return context.models.for_series(uid)

        class Deleting:
            for_series = staticmethod(models)

        outcome = diagnose_job(WorkerContext(**{**vars(context), "models": Deleting()}), job_id)
        assert "may have been deleted" in outcome["reason"]
        assert [path.name for path in service.folders.job(job_id).iterdir()] == ["input", "job.json"]
        assert jobs.get(job_id).origin == "dicom"
