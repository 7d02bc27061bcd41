"""Malformed requests: each is answered with 4xx and one clear sentence, and leaves nothing on the disk."""

import re
from collections.abc import Iterator

import httpx
import pytest
from fastapi.testclient import TestClient

from luna_pipeline_tests.serving.http.apps import client_of, files_below, parts_of
from luna_pipeline_tests.serving.http.malformed import ACCEPTED, HTML, MAX_FILES, SERIES, SQL, VOLUMES, ZIPS, volume
from luna_pipeline_tests.serving.services import Service

UPLOADS = ZIPS | VOLUMES | SERIES
ID = "0123456789abcdef0123456789abcdef"
PLACE = "/v1/diagnoses"
BOUNDARY = "b0undary"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Service:
    limits = {"max_files": MAX_FILES, "max_bytes": 20 << 20}
    return Service(tmp_path_factory.mktemp("malformed"), {"max_queued": 50, "limits": limits})


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[TestClient]:
    with client_of(service) as client:
        yield client


def _check_refused(service: Service, answer: httpx.Response, statuses: set[int]) -> None:
    assert answer.status_code in statuses, answer.text
    (key,) = answer.json()
    detail = answer.json()[key]
    assert key == "detail"
    assert re.match(r"\w.*, got .*\.$", detail), detail
    assert len(detail) < 400
    assert not re.search(r"\bdoe\b|script|drop|passwd|traceback|/tmp", detail.lower()), detail
    assert files_below(service.folders.staging) == []


@pytest.mark.parametrize("kind", ACCEPTED)
def test_what_the_cases_are_made_of_is_accepted(service: Service, client: TestClient, kind: str):
    answer = client.post(PLACE, files=ACCEPTED[kind]())
    assert answer.status_code == 202, answer.text
    assert client.delete(answer.headers["location"]).status_code == 204
    assert files_below(service.folders.jobs) == []


@pytest.mark.parametrize("kind", UPLOADS)
def test_a_malformed_upload_is_refused(service: Service, client: TestClient, kind: str):
    answer = client.post(PLACE, files=UPLOADS[kind]())
    if answer.status_code == 202:
        # Otherwise all cases behind it fail too.
        client.delete(answer.headers["location"])
    _check_refused(service, answer, {413, 415, 422})
    assert files_below(service.folders.jobs) == []
    assert client.get("/health").json() == {"status": "alive"}


def _form(*parts: bytes, end: bytes = b"--\r\n") -> bytes:
    return b"".join(f"--{BOUNDARY}\r\n".encode() + part + b"\r\n" for part in parts) + f"--{BOUNDARY}".encode() + end


def _part(content: bytes, *, name: str = "files", filename: str | None = "a.mha", headers: bytes = b"") -> bytes:
    shown = "" if filename is None else f'; filename="{filename}"'
    return f'Content-Disposition: form-data; name="{name}"{shown}\r\n'.encode() + headers + b"\r\n" + content


FORMS = {
    "empty body": b"",
    "no parts": f"--{BOUNDARY}--\r\n".encode(),
    "no boundary in it": b"x" * 3000,
    "another boundary": _form(_part(b"x")).replace(BOUNDARY.encode(), b"another"),
    "no end": _form(_part(b"x" * 5000), end=b""),
    "cut off in the content": _form(_part(b"x" * 5000))[:3000],
    "cut off in the headers": _form(_part(b"x"))[:40],
    "no disposition": _form(b"Content-Type: text/plain\r\n\r\nx"),
    "not form-data": _form(b'Content-Disposition: attachment; name="files"; filename="a.mha"\r\n\r\nx'),
    "another name": _form(_part(b"x", name="patient")),
    "HTML as name": _form(_part(b"x", name=HTML)),
    "SQL as name": _form(_part(b"x", name=SQL)),
    "no file name": _form(_part(b"x", filename=None)),
    "file name of 0 letters": _form(_part(b"x", filename="")),
    "a value beside a file": _form(_part(volume(".mha")), _part(b"doe", name="patient", filename=None)),
    "long header": _form(_part(b"x", headers=b"X-Doe: " + b"d" * 10_000 + b"\r\n")),
    "many headers": _form(_part(b"x", headers=b"X-Doe: d\r\n" * 20)),
    "no colon in a header": _form(_part(b"x", headers=b"doe\r\n")),
    "other line ends": _form(_part(b"x")).replace(b"\r\n", b"\n"),
    "bytes before it": b"doe\r\n" + _form(_part(b"x"))[1:],
    "wrong length of a part": _form(_part(b"x", headers=b"Content-Length: 7\r\n")),
}


@pytest.mark.parametrize("kind", FORMS)
def test_a_malformed_form_is_refused(service: Service, client: TestClient, kind: str):
    headers = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
    _check_refused(service, client.post(PLACE, content=FORMS[kind], headers=headers), {400, 415})


TYPES = ["", "application/json", "text/html", "application/x-www-form-urlencoded", "multipart/mixed; boundary=a"]
TYPES += ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=\xe4", HTML]


@pytest.mark.parametrize("content_type", TYPES)
def test_another_content_type_is_refused(service: Service, client: TestClient, content_type: str):
    headers = {"content-type": content_type.encode("latin-1")}
    _check_refused(service, client.post(PLACE, content=b"{}", headers=headers), {415})


IDS = ["x", "..", "%2e%2e", "..%2f..%2fjobs.sqlite", "%00", "A" * 32, "0" * 33, "0" * 31, ID, "a" * 5000]
IDS += [
    SQL.replace(" ", "%20").replace(";", "%3B"),
    HTML.replace("/", "%2F").replace("<", "%3C"),
    "%ff%fe",
    "\u0660" * 32,
]


@pytest.mark.parametrize("job_id", IDS)
def test_an_unknown_id_is_refused(service: Service, client: TestClient, job_id: str):
    for place in (f"{PLACE}/{job_id}", f"{PLACE}/{job_id}/nodules.json", f"{PLACE}/{job_id}/seg.dcm"):
        _check_refused(service, client.get(place), {404})
    _check_refused(service, client.delete(f"{PLACE}/{job_id}"), {404, 405})


WRONG = [("PUT", PLACE), ("PATCH", PLACE), ("DELETE", PLACE), ("POST", f"{PLACE}/{ID}"), ("POST", "/health")]
WRONG += [("TRACE", PLACE), ("PUT", "/metrics"), ("DELETE", f"{PLACE}/{ID}/seg.dcm"), ("DOE", PLACE)]


@pytest.mark.parametrize(("method", "place"), WRONG)
def test_a_wrong_method_is_refused(service: Service, client: TestClient, method: str, place: str):
    answer = client.request(method, place)
    _check_refused(service, answer, {405})
    assert answer.headers["allow"]


PLACES = ["/doe", "/v2/diagnoses", "/v1", "//etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/.git"]


@pytest.mark.parametrize("place", PLACES)
def test_an_unknown_place_is_refused(service: Service, client: TestClient, place: str):
    _check_refused(service, client.get(f"http://localhost{place}"), {404})


def test_a_body_that_is_too_long_is_refused_by_its_announced_and_by_its_real_length(
    service: Service, client: TestClient
):
    headers = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
    body = _form(_part(b"\0" * (21 << 20)))
    _check_refused(service, client.post(PLACE, content=body, headers=headers), {413})
    blocks = (body[start : start + (1 << 20)] for start in range(0, len(body), 1 << 20))
    _check_refused(service, client.post(PLACE, content=blocks, headers=headers), {413})
    many = parts_of(*[(f"{number}.raw", b"x") for number in range(MAX_FILES + 1)])
    _check_refused(service, client.post(PLACE, files=many), {413})


def test_there_are_at_least_80_cases():
    assert len(UPLOADS) + len(FORMS) + len(TYPES) + 4 * len(IDS) + len(WRONG) + len(PLACES) >= 180
    assert len(UPLOADS) >= 80
