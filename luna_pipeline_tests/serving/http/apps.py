"""The application in the test's process, on the real jobs of a service without workers, and uploads for it."""

import contextlib
import io
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from fastapi.testclient import TestClient

from luna_pipeline.serving.http.app import create_app
from luna_pipeline.settings import Settings
from luna_pipeline_tests.serving.services import Service, phantom_ct

Parts = list[tuple[str, tuple[str, bytes, str]]]
PATIENT = "Doe^Jane"
"""Part of the client's names for files: it must appear nowhere."""


@contextlib.contextmanager
def client_of(service: Service) -> Iterator[TestClient]:
    """A client of the application; an error that is not expected is answered with 500, as by the server."""
    with service.jobs() as jobs:
        settings = Settings.from_environment(service.environment)
        app = create_app(settings, service.config, service.folders, jobs)
        with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
            yield client


def parts_of(*files: tuple[str, bytes]) -> Parts:
    """Parts of a form, from names and contents."""
    return [("files", (name, content, "application/octet-stream")) for name, content in files]


def upload_of(paths: Sequence[Path]) -> Parts:
    """Parts with the content of files, under names with a patient's name."""
    return parts_of(*((f"{PATIENT}{path.suffix}", path.read_bytes()) for path in sorted(paths)))


def zip_of(*members: tuple[str | zipfile.ZipInfo, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip file in memory."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for member, content in members:
            archive.writestr(member, content)
    return buffer.getvalue()


def zipped_series(root: Path, number: int = 5) -> bytes:
    """A zip file with the DICOM series of a phantom patient, and what archives of real ones hold besides."""
    slices = sorted(phantom_ct(root, number, is_dicom=True).iterdir())
    members = [(f"{PATIENT}/series 1/IM{index}", path.read_bytes()) for index, path in enumerate(slices)]
    others = [(f"{PATIENT}/DICOMDIR", b"\0" * 128 + b"DICM"), ("readme.txt", b"Jane Doe"), ("__MACOSX/._a.dcm", b"x")]
    return zip_of(*members, *others)


def files_below(folder: Path) -> list[str]:
    """Paths of all files below a folder, relative to it."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
