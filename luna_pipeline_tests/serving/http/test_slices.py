"""Slices and findings for the viewer, of a phantom CT that is really diagnosed."""

import base64
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from luna_pipeline.core.config.json_files import read_json_object
from luna_pipeline.core.diagnosis.manifest import MANIFEST, manifest_of
from luna_pipeline.launchers.diagnosis.diagnose import DiagnosisRequest, diagnose_ct
from luna_pipeline.launchers.diagnosis.input import read_input
from luna_pipeline.serving.folders import INPUT, OUTPUT
from luna_pipeline.serving.http import slices
from luna_pipeline.serving.voxels import VOXELS
from luna_pipeline.settings import Settings
from luna_pipeline_tests.processes import wait_for
from luna_pipeline_tests.serving.http.apps import client_of
from luna_pipeline_tests.serving.services import Service
from luna_pipeline_tests.serving.viewed_cts import TURNED, write_viewed_ct


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Service:
    return Service(tmp_path_factory.mktemp("slices"))


@pytest.fixture(scope="module")
def client(service: Service):
    with client_of(service) as client:
        yield client


@pytest.fixture(scope="module")
def turned(service: Service) -> tuple[str, np.ndarray]:
    """The id of a diagnosed CT whose rows run to the front and columns to the right, and its HU (I, R, C)."""
    staged = service.folders.new_staging()
    _, hounsfield = write_viewed_ct(staged, TURNED)
    return _diagnosed(service, staged), hounsfield


def _diagnosed(service: Service, staged: Path, *, patient_key: bytes | None = None) -> str:
    """Submit a CT and diagnose it in this process as a worker does."""
    with service.jobs() as jobs:
        job, _ = jobs.submit(staged, origin="http")
    folder = service.folders.job(job.id)
    request = DiagnosisRequest(ct=folder / INPUT, out=folder / OUTPUT, patient_key=patient_key)
    diagnose_ct(Settings.from_environment(service.environment), request)
    return job.id


def test_each_plane_is_as_a_radiologist_looks_at_it(client: TestClient, turned):
    job_id, hounsfield = turned
    # Rows to the back, columns to the left of the patient; the head above in the other planes.
    view = hounsfield[:, ::-1, ::-1]
    expected = {"axial/7": view[7], "coronal/20": view[::-1, 20], "sagittal/30": view[::-1, :, 30]}
    for place, voxels in expected.items():
        answer = client.get(f"/v1/diagnoses/{job_id}/slices/{place}")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/octet-stream")
        np.testing.assert_array_equal(np.frombuffer(answer.content, "<i2").reshape(voxels.shape), voxels)


def test_the_view_has_geometry_and_findings_with_their_voxels(service: Service, client: TestClient, turned):
    job_id, _ = turned
    path = service.folders.job(job_id) / "output" / MANIFEST
    diagnosis = manifest_of(read_json_object(path, "A diagnosis", advice="")).diagnosis
    view = client.get(f"/v1/diagnoses/{job_id}/view").json()
    assert view["size_irc"] == [48, 72, 72]
    assert view["spacing_irc_mm"] == [1.5, 0.854089, 0.854089]
    assert view["planes"]["coronal"]["letters"] == ["R", "L", "H", "F"]
    assert "Research use only" in view["notice"]
    assert view["threshold"] == pytest.approx(0.01)
    assert view["num_findings"] == len(view["findings"]) == len(diagnosis.nodules) == 2
    for number, (shown, nodule) in enumerate(zip(view["findings"], diagnosis.nodules, strict=True), start=1):
        assert (shown["number"], shown["probability"]) == (number, nodule.probability)
        index, row, col = diagnosis.grid.world_to_voxel(nodule.center_xyz)
        np.testing.assert_allclose(shown["center_irc"], (index, 71 - row, 71 - col), atol=1e-6)
        bits = np.unpackbits(np.frombuffer(base64.b64decode(shown["mask"]), np.uint8), count=nodule.mask.size)
        whole = np.zeros((48, 72, 72), dtype=np.bool_)
        whole[nodule.box] = nodule.mask
        seen = np.zeros((48, 72, 72), dtype=np.bool_)
        (index, row, col), (depth, rows, cols) = shown["box_start_irc"], shown["box_shape_irc"]
        seen[index : index + depth, row : row + rows, col : col + cols] = bits.reshape(depth, rows, cols)
        np.testing.assert_array_equal(seen, whole[:, ::-1, ::-1])


def test_no_more_than_the_first_findings_are_sent(monkeypatch, client: TestClient, turned):
    monkeypatch.setattr(slices, "MAX_FINDINGS", 1)
    view = client.get(f"/v1/diagnoses/{turned[0]}/view").json()
    assert len(view["findings"]) == 1 < view["num_findings"]


@pytest.mark.parametrize(
    ("place", "status", "detail"),
    [
        ("slices/axial/48", 404, "A slice must be from 0 to 47, got 48 (axial). Take the size from `view`."),
        ("slices/axial/-1", 422, "The request's parameters must be as described"),
        ("slices/axial/1.5", 422, "The request's parameters must be as described"),
        ("slices/oblique/1", 422, "The request's parameters must be as described"),
    ],
)
def test_slices_that_there_are_not_are_refused(client: TestClient, turned, place: str, status: int, detail: str):
    answer = client.get(f"/v1/diagnoses/{turned[0]}/{place}")
    assert answer.status_code == status
    assert answer.json()["detail"].startswith(detail)


@pytest.mark.parametrize("place", ["view", "slices/axial/1"])
def test_a_diagnosis_that_is_not_done_has_no_slices(service: Service, client: TestClient, place: str):
    with service.jobs() as jobs:
        waiting, _ = jobs.submit(service.staged(6), origin="http")
    answer = client.get(f"/v1/diagnoses/{waiting.id}/{place}")
    assert answer.status_code == 409
    assert "got one that is queued" in answer.json()["detail"]
    for unknown in ("0" * 32, "..", "a"):
        assert client.get(f"/v1/diagnoses/{unknown}/{place}").status_code == 404


def test_voxels_for_the_viewer_go_with_the_diagnosis(service: Service, client: TestClient):
    own = _diagnosed(service, service.staged(7))
    assert client.get(f"/v1/diagnoses/{own}/slices/axial/1").status_code == 200
    folder = service.folders.job(own)
    assert os.stat(folder / "output" / VOXELS).st_size == 128 + 32 * 48 * 48 * 2
    assert client.delete(f"/v1/diagnoses/{own}").status_code == 204
    assert not folder.exists()
    assert client.get(f"/v1/diagnoses/{own}/slices/axial/1").status_code == 404
    assert client.get(f"/v1/diagnoses/{own}/view").status_code == 404


def test_states_answer_while_many_requests_wait_for_a_ct_that_is_read(
    service: Service, client: TestClient, monkeypatch: pytest.MonkeyPatch
):
    own, (may_read, reads) = _diagnosed(service, service.staged(9)), (threading.Event(), [])

    def held(*given, **options):
        reads.append(given)
        assert may_read.wait(60)
        return read_input(*given, **options)

    monkeypatch.setattr("luna_pipeline.serving.voxels.read_input", held)
    # More than the 40 threads that the routes share.
    with ThreadPoolExecutor(46) as pool:
        try:
            slices_of = [pool.submit(client.get, f"/v1/diagnoses/{own}/slices/axial/{it % 32}") for it in range(45)]
            wait_for(lambda: reads, limit_seconds=30, what="reading of the CT")
            for place in ("/ready", f"/v1/diagnoses/{own}", "/v1/diagnoses"):
                assert pool.submit(client.get, place).result(20).status_code == 200
        finally:
            may_read.set()
        assert {future.result(60).status_code for future in slices_of} == {200}
    assert len(reads) == 1


def test_a_volume_diagnosed_under_a_pseudonym_is_shown_unless_its_files_are_damaged(
    service: Service, client: TestClient
):
    own = _diagnosed(service, service.staged(8), patient_key=bytes(32))
    folder, place = service.folders.job(own), f"/v1/diagnoses/{own}/slices/axial/1"
    assert client.get(place).status_code == 200
    (folder / OUTPUT / VOXELS).unlink()
    (folder / INPUT / "ct.raw").write_bytes(b"cut off")
    answer = client.get(place)
    assert (answer.status_code, "got damaged ones. Delete the diagnosis" in answer.json()["detail"]) == (409, True)


def test_the_page_and_its_files_need_no_other_address(client: TestClient):
    page = client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    folder = Path(slices.__file__).parents[1] / "page"
    texts = {path.name: path.read_text() for path in folder.iterdir() if path.suffix in {".html", ".css", ".js"}}
    assert page.text == texts.pop("index.html")
    for name, text in texts.items():
        answer = client.get(f"/page/{name}")
        assert (answer.status_code, answer.text) == (200, text)
        assert "//" not in text.replace("// ", "").replace("\n//", "")
    for name in ("passwd", "__init__.py", "..%2fapp.py", "%2e%2e/app.py"):
        assert client.get(f"/page/{name}").status_code == 404
