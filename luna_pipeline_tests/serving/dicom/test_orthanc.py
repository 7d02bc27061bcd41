"""A real archive, Debian's Orthanc: a real CT is pushed from it, and SEG and SR arrive in it."""

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicomweb_client import DICOMwebClient

from luna_pipeline.serving.folders import OUTPUT
from luna_pipeline.serving.job import Job
from luna_pipeline_tests.core.diagnosis.test_dicom_checkers import run, tool
from luna_pipeline_tests.processes import free_port, wait_for
from luna_pipeline_tests.serving.dicom.orthanc import Orthanc, orthanc
from luna_pipeline_tests.serving.dicom.pushing import receiver_process
from luna_pipeline_tests.serving.services import Service, wait_until_ended

pytestmark = [pytest.mark.slow, pytest.mark.real]


@dataclass(frozen=True)
class Round:
    """What came of one push: the archive, the job, and the folder with its results."""

    pacs: Orthanc
    job: Job
    output: Path
    pushed: dict


@pytest.fixture(scope="module")
def diagnosed(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Round]:
    """LIDC-IDRI-0001, pushed from Orthanc, diagnosed by small models, its results delivered both ways."""
    root = tmp_path_factory.mktemp("pacs")
    with tarfile.open(real_data / "lidc" / "LIDC-IDRI-0001.tar.xz") as archive:
        archive.extractall(root / "lidc", filter="data")
    port, dicom_port, http_port = free_port(), free_port(), free_port()
    peers = [
        {"name": "pacs", "kind": "cstore", "port": dicom_port, "aet": "ORTHANC"},
        {"name": "web", "kind": "stow", "url": f"http://127.0.0.1:{http_port}/dicom-web"},
    ]
    service = Service(root, {"receiver": {"quiet_seconds": 1, "calling_aets": ["ORTHANC", "SCANNER"]}, "peers": peers})
    archives = orthanc(root / "orthanc", receiver_port=port, dicom_port=dicom_port, http_port=http_port)
    with service.jobs() as jobs, service.worker(), receiver_process(service, port), archives as pacs:
        pushed = pacs.push(pacs.add(root / "lidc"))
        wait_for(jobs.list, limit_seconds=30, what="the job")
        job = wait_until_ended(jobs, jobs.list()[0].id, limit_seconds=300)
        wait_for(
            lambda: [each.state for each in jobs.get(job.id).deliveries] == ["sent", "sent"],
            limit_seconds=60,
            what="both deliveries",
        )
        yield Round(pacs, jobs.get(job.id), service.folders.job(job.id) / OUTPUT, pushed)


def test_every_image_is_accepted_and_the_results_are_in_the_archive(diagnosed: Round):
    assert (diagnosed.pushed["InstancesCount"], diagnosed.pushed["FailedInstancesCount"]) == (133, 0)
    assert (diagnosed.job.state, diagnosed.job.origin) == ("done", "dicom")
    assert [(each.state, each.attempts) for each in diagnosed.job.deliveries] == [("sent", 1)] * 2
    # Both ways bring the same objects: each is there once.
    assert diagnosed.pacs.modalities() == ["CT", "SEG", "SR"]


def test_the_results_refer_to_the_series_and_open_by_dicomweb_as_the_same_pixels(diagnosed: Round):
    client = DICOMwebClient(diagnosed.pacs.dicomweb_url)
    for name, modality in (("seg.dcm", "SEG"), ("sr.dcm", "SR")):
        own = pydicom.dcmread(diagnosed.output / name)
        (found,) = client.search_for_series(search_filters={"Modality": modality})
        assert found["0020000D"]["Value"] == [own.StudyInstanceUID]
        fetched = client.retrieve_instance(own.StudyInstanceUID, own.SeriesInstanceUID, own.SOPInstanceUID)
        assert _comparable(fetched) == _comparable(own)
    (ct,) = client.search_for_series(search_filters={"Modality": "CT"})
    seg = pydicom.dcmread(diagnosed.output / "seg.dcm")
    assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == ct["0020000E"]["Value"][0]
    frames = client.retrieve_instance_frames(
        seg.StudyInstanceUID,
        seg.SeriesInstanceUID,
        seg.SOPInstanceUID,
        frame_numbers=[1],
        media_types=(("application/octet-stream", "1.2.840.10008.1.2.1"),),
    )
    size = seg.Rows * seg.Columns
    assert np.array_equal(np.unpackbits(_bits(frames[0]), bitorder="little")[:size], seg.pixel_array[0].ravel())


def test_what_the_archive_holds_is_valid(diagnosed: Round, tmp_path: Path):
    for series in diagnosed.pacs.get("/series"):
        details = diagnosed.pacs.get(f"/series/{series}")
        if details["MainDicomTags"]["Modality"] == "CT":
            continue
        path = tmp_path / "object.dcm"
        path.write_bytes(diagnosed.pacs.file(details["Instances"][0]))
        said = run(tool("dciodvfy"), path, may_fail=True)
        assert "Error" not in said, said


def _bits(frame: bytes) -> np.ndarray:
    return np.frombuffer(frame, dtype=np.uint8)


def _comparable(dataset: pydicom.Dataset) -> bytes:
    """The data set without its meta header, which archives replace."""
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, pydicom.Dataset(dataset), implicit_vr=False, little_endian=True)
    return buffer.getvalue()
