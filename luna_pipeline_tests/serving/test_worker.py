"""A worker process that really diagnoses small phantom CTs."""

from pathlib import Path

import pytest

from luna_pipeline_tests.serving.services import Service, wait_until_ended


@pytest.mark.slow
def test_submitted_cts_are_diagnosed(tmp_path: Path):
    service = Service(tmp_path)
    with service.jobs() as jobs, service.worker():
        job, is_new = jobs.submit(service.staged(is_dicom=True), origin="dicom")
        assert (is_new, job.origin, job.state) == (True, "dicom", "queued")
        job = wait_until_ended(jobs, job.id)
        assert (job.state, job.reason) == ("done", None), job.reason
        assert set(job.models) == {"segmenter", "classifier", "malignancy"}
        assert job.attempts == 1
        assert job.received_at <= job.started_at <= job.ended_at
        written = {path.name for path in (service.folders.job(job.id) / "output").iterdir()}
        assert {"nodules.csv", "seg.dcm", "sr.dcm"} < written
