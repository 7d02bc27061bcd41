"""A service in a temporary folder: small phantom CTs, small models, workers as processes."""

import contextlib
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from luna_pipeline.core.metrics.decision import Decision
from luna_pipeline.core.phantom.series import PhantomConfig, make_series
from luna_pipeline.serving.config import ServiceConfig, read_config
from luna_pipeline.serving.folders import ServiceFolders
from luna_pipeline.serving.job import Job
from luna_pipeline.serving.jobs import Jobs
from luna_pipeline_tests.diagnosis_models import save_models
from luna_pipeline_tests.phantoms import write_ct, write_dicom_series
from luna_pipeline_tests.processes import REPOSITORY, started, wait_for

UID = "1.2.840.5"
# Not imported here: it changes the segmenter of the process.
EXTENSION = "import luna_pipeline_tests.serving.held_models\n"
ENDED = ("done", "failed")


@dataclass
class Service:
    """An installation with small models, and the folders of a service.

    Attributes:
        root: Holds everything.
        values: Changes to the default configuration.
    """

    root: Path
    values: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.config_path.exists():
            return
        # DICOM objects hold findings above the threshold.
        save_models(self.root / "home", decision=Decision.at(0.01))
        (self.root / "extension.py").write_text(EXTENSION)
        self.config_path.write_text(yaml.safe_dump(dict(self.values)))
        self.folders.root.mkdir()

    @property
    def config_path(self) -> Path:
        return self.root / "serving.yaml"

    @property
    def hold(self) -> Path:
        """While this file exists, diagnoses wait in the stage of the segmentation."""
        return self.root / "hold"

    @property
    def config(self) -> ServiceConfig:
        return read_config(self.config_path)

    @property
    def folders(self) -> ServiceFolders:
        return ServiceFolders(self.root / "service")

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables of the service's processes."""
        return {
            "LUNA_HOME": str(self.root / "home"),
            "LUNA_DATA_DIR": str(self.root / "data"),
            "LUNA_SERVICE_DIR": str(self.folders.root),
            "LUNA_EXTENSIONS": str(self.root / "extension.py"),
            "LUNA_TEST_HOLD": str(self.hold),
            "PYTHONPATH": str(REPOSITORY),
            "OMP_NUM_THREADS": "1",
        }

    @contextlib.contextmanager
    def jobs(self) -> Iterator[Jobs]:
        jobs = Jobs(self.folders, self.config)
        try:
            yield jobs
        finally:
            jobs.close()

    def worker(self):
        """A process that diagnoses; its output is in ``worker.log``."""
        command = [sys.executable, "-m", "luna_pipeline.serving.worker", "--config", str(self.config_path)]
        return started(command, environment=self.environment, log=self.root / "worker.log")

    def staged(self, number: int = 5, *, is_dicom: bool = False) -> Path:
        """A folder below ``staging`` with the CT of a phantom patient; a number is always the same CT."""
        folder = self.folders.new_staging()
        shutil.copytree(phantom_ct(self.root / "phantoms", number, is_dicom=is_dicom), folder, dirs_exist_ok=True)
        return folder


def phantom_ct(root: Path, number: int, *, is_dicom: bool = False) -> Path:
    """Write the small CT of a phantom patient, unless it is there, and return its folder."""
    folder = root / f"{number}-{'dicom' if is_dicom else 'volume'}"
    if not folder.exists():
        series = make_series(PhantomConfig(seed=2, number=number, size_irc=(32, 48, 48)))
        grid = series.grid
        place = {"spacing_mm": grid.spacing_mm, "origin_xyz": grid.origin_xyz, "direction": grid.direction}
        if is_dicom:
            write_dicom_series(folder, f"{UID}.{number}", series.hounsfield.clip(-1024), **place)
        else:
            write_ct(folder, "ct", series.hounsfield, **place)
    return folder


def wait_until_ended(jobs: Jobs, job_id: str, *, limit_seconds: float = 60) -> Job:
    """Wait until a job is done or failed, and return it."""

    def ended() -> Job | None:
        job = jobs.get(job_id)
        return job if job.state in ENDED else None

    job = wait_for(ended, limit_seconds=limit_seconds, what=f"the end of job {job_id}", every_seconds=0.1)
    assert isinstance(job, Job)
    return job


def wait_until_running(jobs: Jobs, job_id: str, *, attempts: int = 1) -> None:
    """Wait until an attempt of a job is in the stage of the segmentation."""

    def running() -> bool:
        job = jobs.get(job_id)
        assert job.state not in ENDED, job
        return (job.state, job.stage, job.attempts) == ("running", "segmentation", attempts)

    wait_for(running, limit_seconds=60, what=f"attempt {attempts}")
