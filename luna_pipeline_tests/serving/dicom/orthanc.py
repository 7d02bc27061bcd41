"""Debian's Orthanc with its DICOMweb plug-in as the PACS of tests: a real archive on loopback."""

import contextlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from luna_pipeline_tests.processes import free_port, started, wait_for

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


@dataclass(frozen=True)
class Orthanc:
    """A running Orthanc.

    Attributes:
        http_port: Of its REST interface and DICOMweb.
        dicom_port: Of its C-STORE.
    """

    http_port: int
    dicom_port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def dicomweb_url(self) -> str:
        return f"{self.url}/dicom-web"

    def get(self, path: str):
        return requests.get(f"{self.url}{path}", timeout=30).json()

    def file(self, instance: str) -> bytes:
        """An object as the archive holds it."""
        return requests.get(f"{self.url}/instances/{instance}/file", timeout=30).content

    def add(self, folder: Path) -> str:
        """Store the files below a folder, and return Orthanc's id of their series."""
        files = (path for path in sorted(folder.rglob("*")) if path.suffix == ".dcm")
        with requests.Session() as session:
            ids = {
                session.post(f"{self.url}/instances", data=path.read_bytes(), timeout=30).json()["ParentSeries"]
                for path in files
            }
        (series,) = ids
        return series

    def push(self, series: str) -> dict:
        """Send a series to the receiver by C-STORE, and return how that ended."""
        done = requests.post(f"{self.url}/modalities/luna/store", json={"Resources": [series]}, timeout=300)
        done.raise_for_status()
        return done.json()

    def modalities(self) -> list[str]:
        """Modalities of all series, sorted."""
        return sorted(self.get(f"/series/{series}")["MainDicomTags"]["Modality"] for series in self.get("/series"))


@contextlib.contextmanager
def orthanc(root: Path, *, receiver_port: int, http_port: int = 0, dicom_port: int = 0) -> Iterator[Orthanc]:
    """Start Orthanc, on free ports unless they are given, in a folder that it keeps its data in."""
    program = shutil.which("Orthanc", path="/usr/sbin:/usr/bin") or pytest.skip("Orthanc is not installed")
    found = Orthanc(http_port or free_port(), dicom_port or free_port())
    values = {
        "StorageDirectory": str(root / "storage"),
        "IndexDirectory": str(root / "storage"),
        "Plugins": [str(PLUGIN)],
        "HttpPort": found.http_port,
        "DicomPort": found.dicom_port,
        "DicomAet": "ORTHANC",
        "RemoteAccessAllowed": False,
        "DicomModalities": {"luna": ["LUNA", "127.0.0.1", receiver_port]},
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    (root / "storage").mkdir(parents=True, exist_ok=True)
    path = root / "orthanc.json"
    path.write_text(json.dumps(values))
    with started([program, str(path)], environment={}, log=root / "orthanc.log"):
        wait_for(lambda: _answers(found), limit_seconds=30, what="Orthanc's answer")
        yield found


def _answers(found: Orthanc) -> bool:
    with contextlib.suppress(requests.ConnectionError):
        return requests.get(f"{found.url}/system", timeout=5).ok
    return False
