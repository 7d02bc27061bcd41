"""What the API shows of a job."""

from dataclasses import asdict

from pydantic import BaseModel, Field

from luna_pipeline.serving.folders import OUTPUT
from luna_pipeline.serving.http.service import Service
from luna_pipeline.serving.job import DeliveryState, Job, JobState, Origin

RESEARCH_USE = "Research use only; not a medical device."
MEDIA_TYPES = {
    "nodules.json": "application/json",
    "nodules.csv": "text/csv; charset=utf-8",
    "report.html": "text/html; charset=utf-8",
    "montage.png": "image/png",
    "lungs.png": "image/png",
    "seg.dcm": "application/dicom",
    "sr.dcm": "application/dicom",
}
"""Results that are served, by file name. A CT without DICOM files has neither SEG nor SR."""


class DeliveryView(BaseModel):
    """Transfer of the DICOM results to one system."""

    peer: str
    state: DeliveryState
    attempts: int
    reason: str | None


class DiagnosisView(BaseModel):
    """State of a diagnosis; times are seconds since the epoch."""

    id: str = Field(description="32 hexadecimal digits, a digest of the CT's files.")
    origin: Origin
    state: JobState = Field(description="done and failed are final.")
    reason: str | None = Field(description="Why it failed.")
    position: int | None = Field(description="Jobs that start before it; null unless it is queued.")
    stage: str | None = Field(description="Stage of a running diagnosis.")
    done: int = Field(description="Finished parts of the stage.")
    total: int = Field(description="Parts of the stage.")
    attempts: int
    received_at: float
    started_at: float | None
    ended_at: float | None
    models: dict[str, str] = Field(description="Name and version of each model by role; empty before it is done.")
    num_nodules: int | None = Field(description="Findings at or above the threshold; null before it is done.")
    deliveries: list[DeliveryView]
    results: dict[str, str] = Field(description="Address of each result by file name; empty before it is done.")
    notice: str = RESEARCH_USE


def address_of(job_id: str) -> str:
    """Return the path of a diagnosis."""
    return f"/v1/diagnoses/{job_id}"


def view_of(service: Service, job: Job) -> DiagnosisView:
    """Return what is shown of a job."""
    results = {}
    if job.state == "done":
        output = service.folders.job(job.id) / OUTPUT
        results = {name: f"{address_of(job.id)}/{name}" for name in MEDIA_TYPES if (output / name).is_file()}
    return DiagnosisView(**asdict(job), results=results)
