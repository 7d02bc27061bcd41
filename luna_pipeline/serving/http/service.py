"""What the routes of the HTTP front share."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from luna_pipeline.serving.config import ServiceConfig
from luna_pipeline.serving.folders import ServiceFolders
from luna_pipeline.serving.job import Job, JobState, Origin
from luna_pipeline.settings import Settings


class DiagnosisJobs(Protocol):
    """What the front needs of ``serving.jobs.Jobs``."""

    def submit(self, staged: Path, *, origin: Origin) -> tuple[Job, bool]:
        """Take over a folder with a CT's files; return its job and whether it is new."""

    def check_room(self) -> None:
        """Raise QueueFullError if no job can be taken."""

    def get(self, job_id: str) -> Job:
        """Return a job, or raise UnknownJobError."""

    def list(self, limit: int = 100) -> list[Job]:
        """Return the newest jobs."""

    def delete(self, job_id: str) -> None:
        """Remove a job with its files."""

    def counts(self) -> dict[JobState, int]:
        """Return the number of jobs by state."""


@dataclass(frozen=True, kw_only=True)
class Service:
    """Parts of a running service; one object is given to every router.

    Attributes:
        settings: Paths of the installation.
        config: Configuration of the service.
        folders: Folders of the service.
        jobs: Jobs, safe to use from several threads.
    """

    settings: Settings
    config: ServiceConfig
    folders: ServiceFolders
    jobs: DiagnosisJobs
