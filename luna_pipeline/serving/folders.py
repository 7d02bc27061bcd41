"""Folders of the service, all below one folder on a disk that its processes share."""

import contextlib
import errno
import os
import re
import secrets
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from luna_pipeline.core.storage.files import written_atomically
from luna_pipeline.core.storage.limited_disks import locked

_ID = re.compile(r"[0-9a-f]{32}")
OUTPUT, INPUT = "output", "input"


def is_job_id(text: str) -> bool:
    """Return whether a text is 32 hexadecimal digits."""
    return _ID.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class ServiceFolders:
    """Paths of the service; a name never holds anything of a patient.

    Attributes:
        root: ``LUNA_SERVICE_DIR``; by default ``service`` in the local part of LUNA_HOME.
    """

    root: Path

    @property
    def staging(self) -> Path:
        """Uploads that are not complete: each in a folder with a random name, removed when the upload ends."""
        return self.root / "staging"

    @property
    def receiving(self) -> Path:
        """DICOM instances of series that are not complete."""
        return self.root / "receiving"

    @property
    def jobs(self) -> Path:
        """A folder for each accepted CT, ``<id>/input`` with its files and ``<id>/output`` with its results."""
        return self.root / "jobs"

    @property
    def database(self) -> Path:
        """SQLite file of the jobs, unless the configuration names another database."""
        return self.root / "jobs.sqlite"

    @property
    def tokens(self) -> Path:
        """File of the hashed tokens."""
        return self.root / "tokens.json"

    def create(self) -> None:
        """Create the root, unless it is there, for its owner alone: CTs below it are those of patients."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)

    def identity(self) -> str:
        """Return the random id of the root, made at the first call; all its processes and machines share it."""
        path = self.root / "id"
        with locked(self.root / "id.lock", waits=True):
            with contextlib.suppress(FileNotFoundError):
                return path.read_text()
            with written_atomically(path) as file:
                file.write((made := secrets.token_hex(16)).encode())
            return made

    def new_staging(self) -> Path:
        """Create and return an empty folder for an upload."""
        folder = self.staging / secrets.token_hex(16)
        folder.mkdir(parents=True)
        return folder

    def remove_old_staging(self, older_than_seconds: float) -> None:
        """Remove uploads whose process has ended."""
        oldest = time.time() - older_than_seconds
        for folder in self.staging.glob("*"):
            # Another process may be faster.
            with contextlib.suppress(FileNotFoundError):
                if folder.stat().st_mtime < oldest:
                    shutil.rmtree(folder, ignore_errors=True)

    def check_free(self, min_bytes: int) -> None:
        """Check that the disk has free bytes.

        Raises:
            OSError: ``ENOSPC`` if it has fewer.
        """
        if min_bytes and shutil.disk_usage(self.root).free < min_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def job(self, job_id: str) -> Path:
        """Return the folder of a job.

        Raises:
            ValueError: If the id is not 32 hexadecimal digits.
        """
        if not is_job_id(job_id):
            msg = f"An id must be 32 hexadecimal digits, got {len(job_id)} characters of another kind."
            raise ValueError(f"{msg} Take it from the answer to the upload.")
        return self.jobs / job_id
