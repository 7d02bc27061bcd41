"""A receiver in the test's process on real jobs, and peers that push to it."""

import contextlib
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pytest
from pydicom import Dataset
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.sop_class import CTImageStorage, Verification

from luna_pipeline.serving.config import ReceiverConfig, ServiceConfig, UploadLimits
from luna_pipeline.serving.dicom.receiver import Receiver
from luna_pipeline.serving.folders import INPUT, ServiceFolders
from luna_pipeline.serving.job import Job
from luna_pipeline.serving.jobs import Jobs
from luna_pipeline_tests.phantoms import random_hounsfield, write_dicom_series
from luna_pipeline_tests.processes import started, wait_for
from luna_pipeline_tests.serving.services import Service

QUIET_SECONDS = 0.3
EXPLICIT = "1.2.840.10008.1.2.1"


@dataclass
class Receiving:
    """A receiver that listens on loopback.

    Attributes:
        folders: Its folders.
        jobs: Its queue, in which nothing is diagnosed.
        receiver: The receiver.
        port: Where it listens.
    """

    folders: ServiceFolders
    jobs: Jobs
    receiver: Receiver
    port: int

    def submitted(self, number: int = 1) -> list[Job]:
        """Wait until there are so many jobs; return them, the oldest first."""

        def look() -> list[Job]:
            self.receiver.submit_whole()
            jobs = self.jobs.list()
            return jobs if len(jobs) >= number else []

        jobs = wait_for(look, limit_seconds=15, what=f"job {number}")
        assert isinstance(jobs, list)
        return jobs[::-1]

    def look_for(self, seconds: float) -> None:
        """Let the receiver look for whole series for some time."""
        deadline = time.monotonic() + seconds
        wait_for(
            lambda: self.receiver.submit_whole() or time.monotonic() > deadline,
            limit_seconds=seconds + 10,
            what="the pause",
        )

    def uids(self, job: Job) -> set[str]:
        """SOPInstanceUIDs of a job's input."""
        return {str(pydicom.dcmread(path).SOPInstanceUID) for path in (self.folders.job(job.id) / INPUT).iterdir()}

    def is_empty(self) -> bool:
        """Whether nothing is left of series that arrive."""
        return not [path for path in self.folders.receiving.rglob("*") if path.is_file()]


@contextlib.contextmanager
def receiving(root: Path, *, limits: UploadLimits | None = None, max_queued: int = 20, **values) -> Iterator[Receiving]:
    """A receiver with changes to its configuration."""
    folders = ServiceFolders(root)
    config = ServiceConfig(
        receiver=ReceiverConfig(**({"quiet_seconds": QUIET_SECONDS} | values)),
        limits=limits or UploadLimits(),
        max_queued=max_queued,
    )
    with contextlib.closing(Jobs(folders, config)) as jobs:
        receiver = Receiver(folders, config, jobs)
        with contextlib.closing(receiver):
            yield Receiving(folders, jobs, receiver, receiver.start("127.0.0.1", 0))


def images(folder: Path, uid: str, *, number: int = 4, seed: int = 0) -> list[Dataset]:
    """A small CT series, slice by slice."""
    write_dicom_series(folder, uid, random_hounsfield((number, 8, 8), seed=seed))
    return [pydicom.dcmread(path) for path in sorted(folder.iterdir())]


@contextlib.contextmanager
def associated(
    port: int, *, calling: str = "SCANNER", called: str = "LUNA", classes=(), tls=None
) -> Iterator[Association]:
    """An association that proposes C-ECHO, CT and further classes; released at the end."""
    entity = AE(ae_title=calling)
    for sop_class in (Verification, CTImageStorage, *classes):
        entity.add_requested_context(sop_class, [EXPLICIT])
    association = entity.associate("127.0.0.1", port, ae_title=called, tls_args=tls)
    try:
        yield association
    finally:
        if association.is_established:
            association.release()


def push(port: int, datasets: Sequence[Dataset], **options) -> list[int]:
    """Push images in one association; return the status of each."""
    with associated(port, **options) as association:
        assert association.is_established
        return [association.send_c_store(dataset).Status for dataset in datasets]


def dcmtk(name: str, *arguments: object, seconds: float = 120) -> subprocess.CompletedProcess[str]:
    """Run a program of DCMTK; pynetdicom has programs of the same names."""
    path = shutil.which(name, path="/usr/bin") or pytest.skip(f"{name} is not installed")
    command = [path, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)


def changed(dataset: Dataset, change: Callable[[Dataset], object]) -> Dataset:
    """A copy of an image with a change."""
    copy = pydicom.dcmread(dataset.filename)
    change(copy)
    copy.file_meta.MediaStorageSOPInstanceUID = copy.get("SOPInstanceUID")
    copy.file_meta.MediaStorageSOPClassUID = copy.get("SOPClassUID")
    return copy


@contextlib.contextmanager
def receiver_process(service: Service, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """``luna receive`` of a service; its output is in ``receive.log``."""
    command = ["luna", "receive", "--config", str(service.config_path), "--port", str(port)]
    with started(command, environment=service.environment, log=service.root / "receive.log") as process:
        wait_for(lambda: _echoes(port), limit_seconds=60, what="an answer of the receiver", every_seconds=0.2)
        yield process


def _echoes(port: int) -> bool:
    with associated(port) as association:
        return association.is_established and association.send_c_echo().get("Status") == 0
