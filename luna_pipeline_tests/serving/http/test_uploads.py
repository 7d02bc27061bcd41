"""Uploads of CTs in each format, and what becomes of their files."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import SimpleITK as sitk
from fastapi.testclient import TestClient

from luna_pipeline.core.ct.reading import read_ct
from luna_pipeline_tests.serving.http.apps import (
    PATIENT,
    client_of,
    files_below,
    parts_of,
    upload_of,
    zip_of,
    zipped_series,
)
from luna_pipeline_tests.serving.services import Service, phantom_ct

SLICES = [f"{number:06}.dcm" for number in range(1, 33)]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Service:
    return Service(tmp_path_factory.mktemp("uploads"), {"max_queued": 50})


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[TestClient]:
    with client_of(service) as client:
        yield client


def _accepted(service: Service, client: TestClient, parts) -> list[str]:
    """Upload a CT twice; return the names of the files of its job."""
    answer = client.post("/v1/diagnoses", files=parts)
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert answer.headers["location"] == f"/v1/diagnoses/{job['id']}"
    assert (job["state"], job["origin"], job["results"]) == ("queued", "http", {})
    assert "Research use only" in job["notice"]
    again = client.post("/v1/diagnoses", files=list(reversed(parts)))
    assert (again.status_code, again.json()["id"]) == (202, job["id"])
    assert client.get(answer.headers["location"]).json()["id"] == job["id"]
    assert files_below(service.folders.staging) == []
    assert PATIENT not in answer.text
    return files_below(service.folders.job(job["id"]) / "input")


def _volume(service: Service, suffix: str) -> Path:
    source = next(phantom_ct(service.root / "phantoms", 7).glob("*.mhd"))
    path = service.root / f"volume{suffix}"
    sitk.WriteImage(sitk.ReadImage(source), path)
    return path


def test_a_zipped_dicom_series_is_a_job_with_numbered_files(service: Service, client: TestClient):
    zipped = zipped_series(service.root / "phantoms")
    assert _accepted(service, client, parts_of((f"{PATIENT}.zip", zipped))) == SLICES


def test_the_files_of_a_series_are_the_same_job_as_its_zip_file(service: Service, client: TestClient):
    slices = phantom_ct(service.root / "phantoms", 6, is_dicom=True)
    zipped = client.post("/v1/diagnoses", files=parts_of(("a.zip", zipped_series(service.root / "phantoms", 6))))
    others = parts_of(("DICOMDIR", bytes(128) + b"DICM"), ("000034", b"Jane Doe"), ("README.TXT", b"Jane Doe"))
    single = client.post("/v1/diagnoses", files=[*upload_of(list(slices.iterdir())), *others])
    assert single.json()["id"] == zipped.json()["id"]


@pytest.mark.parametrize("suffix", [".mha", ".nrrd", ".nii.gz"])
def test_a_volume_is_named_by_its_content(service: Service, client: TestClient, suffix: str):
    content = _volume(service, suffix).read_bytes()
    (name,) = _accepted(service, client, parts_of((f"{PATIENT}{suffix.upper()}", content)))
    assert len(name) == 32 + len(suffix)
    assert name.endswith(suffix)


def test_a_header_with_its_voxels_is_read_as_before(service: Service, client: TestClient):
    folder = phantom_ct(service.root / "phantoms", 8)
    header, raw = _accepted(service, client, upload_of([folder / "ct.mhd", folder / "ct.raw"]))
    assert (header[-4:], raw[-4:]) == (".mhd", ".raw")
    assert header[:-4] == raw[:-4]
    (stored,) = service.folders.jobs.rglob(header)
    before = read_ct(folder / "ct.mhd", series_instance_uid="ct")
    after = read_ct(stored, series_instance_uid=header[:-4])
    assert (after.hounsfield == before.hounsfield).all()
    assert after.grid == before.grid


def test_a_full_queue_is_answered_before_the_body_is_used(tmp_path: Path):
    service = Service(tmp_path, {"max_queued": 1})
    with client_of(service) as client:
        first = client.post("/v1/diagnoses", files=parts_of(("a.zip", zipped_series(tmp_path / "phantoms"))))
        assert first.status_code == 202
        # It is public: how many CTs there are is in the metrics.
        assert client.get("/ready").json() == {"status": "ready"}
        refused = client.post("/v1/diagnoses", files=parts_of(("b.zip", zipped_series(tmp_path / "phantoms", 6))))
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "30")
        detail = "The queue must have a free place, got 1 waiting jobs. Try again in 30 s."
        assert refused.json() == {"detail": detail}
        assert client.delete(first.headers["location"]).status_code == 204
        assert client.get(first.headers["location"]).status_code == 404
        assert client.post("/v1/diagnoses", files=upload_of([_volume(service, ".mha")])).status_code == 202
        assert files_below(service.folders.staging) == []


def test_results_are_there_once_the_diagnosis_is_done(service: Service, client: TestClient):
    job_id = client.post("/v1/diagnoses", files=upload_of([_volume(service, ".mha")])).json()["id"]
    early = client.get(f"/v1/diagnoses/{job_id}/nodules.json")
    assert (early.status_code, early.json()["detail"]) == (
        409,
        "A diagnosis must be done to have results, got one that is queued. Look at its state.",
    )
    assert client.get(f"/v1/diagnoses/{job_id}/passwd").status_code == 404
    assert job_id in {job["id"] for job in client.get("/v1/diagnoses").json()}


@pytest.fixture
def small_disk(service: Service) -> Iterator[Path]:
    """The folder of uploads on a disk of 2 MB."""
    folder = service.folders.staging
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small disk needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("name", ["ct.mha", "ct.zip"])
def test_a_full_disk_is_answered_and_leaves_nothing(client: TestClient, small_disk: Path, name: str):
    # A zip file that fits is full of what does not.
    zipped = zip_of(("ct.mha", bytes(1 << 20)), ("IM1.dcm", os.urandom(1 << 20)))
    content = bytes(3 << 20) if name == "ct.mha" else zipped
    answer = client.post("/v1/diagnoses", files=parts_of((name, content)))
    assert answer.status_code == 507
    detail = "The service's disk must have free space, got a full one. Try again later, or free some."
    assert answer.json() == {"detail": detail}
    assert list(small_disk.iterdir()) == []


def test_below_the_floor_of_free_space_nothing_is_taken(tmp_path: Path):
    service = Service(tmp_path, {"limits": {"min_free_bytes": 1 << 60}})
    with client_of(service) as client:
        answer = client.post("/v1/diagnoses", files=parts_of(("a.mha", b"x")))
        assert (answer.status_code, ", got a full one." in answer.json()["detail"]) == (507, True)
        # A body that is read is refused with 400.
        headers = {"content-type": "multipart/form-data; boundary=b"}
        assert client.post("/v1/diagnoses", content=b"no form", headers=headers).status_code == 507
