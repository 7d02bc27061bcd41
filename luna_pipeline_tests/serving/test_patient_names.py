"""A patient's name that arrives by every way, at the processes of a whole service, and is found nowhere."""

import contextlib
import io
import json
import sqlite3
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pydicom
import pytest
import SimpleITK as sitk
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage

from luna_pipeline.core.ct.quiet import quiet_pydicom
from luna_pipeline.serving.folders import INPUT
from luna_pipeline_tests.planted import DAY, NAME, plant
from luna_pipeline_tests.processes import free_port, started, wait_for
from luna_pipeline_tests.serving.services import Service, phantom_ct

pytestmark = pytest.mark.slow

TITLE = f"{NAME}1"
ENDED = ("done", "failed")


@dataclass
class Traces:
    """A service after all ways were tried.

    Attributes:
        service: Its folders.
        answers: Status line, headers and body of each answer.
        statuses: Status of each answer, and of each C-STORE, by the way.
        states: State of each job in the end.
    """

    service: Service
    answers: list[str] = field(default_factory=list)
    statuses: dict[str, int] = field(default_factory=dict)
    states: list[str] = field(default_factory=list)

    def ask(self, client: httpx.Client, way: str, method: str, path: str, **options) -> httpx.Response:
        answer = client.request(method, path, **options)
        # Outputs are looked at on the disk.
        body = answer.text if "json" in answer.headers.get("content-type", "") else ""
        self.answers.append(f"{way}: {answer.status_code} {dict(answer.headers)} {body}")
        self.statuses[way] = answer.status_code
        return answer


def planted_slices(root: Path, number: int, *, count: int = 32, **faults: object) -> list[pydicom.Dataset]:
    """The first slices of a phantom patient's CT, each eighth with the name in every text, all with faults."""
    slices = []
    for index, path in enumerate(sorted(phantom_ct(root, number, is_dicom=True).iterdir())[:count]):
        dataset = pydicom.dcmread(path)
        dataset.PatientName = dataset.PatientID = NAME
        if index % 8 == 0:
            # Some 2,000 elements, half a second.
            plant(dataset)
        with quiet_pydicom():
            for keyword, value in faults.items():
                setattr(dataset, keyword, value)
        slices.append(dataset)
    return slices


def zipped(slices: list[pydicom.Dataset], member: str = f"{NAME}/{NAME}", *, comment: str = "") -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as files:
        for number, dataset in enumerate(slices):
            content = io.BytesIO()
            with quiet_pydicom():
                dataset.save_as(content, enforce_file_format=True)
            files.writestr(f"{member}{number}.dcm", content.getvalue())
        files.comment = comment.encode()
    return archive.getvalue()


def volume(root: Path) -> bytes:
    """A MetaImage in one file."""
    path = root / "volume.mha"
    sitk.WriteImage(sitk.ReadImage(next(phantom_ct(root, 7).glob("*.mhd"))), path)
    return path.read_bytes()


def uploads(root: Path) -> dict[str, tuple[str, bytes]]:
    """Name and content of a file for each way; the first two are CTs."""
    good = zipped(planted_slices(root, 5))
    nested = io.BytesIO()
    with zipfile.ZipFile(nested, "w") as files:
        files.writestr(f"{NAME}.zip", good)
    return {
        "zip": (f"{NAME}.zip", good),
        "volume": (f"{NAME}.mha", volume(root)),
        "member outside": (f"{NAME}.zip", zipped(planted_slices(root, 5, count=2), f"../{NAME}")),
        "comment": ("a.zip", zipped(planted_slices(root, 5, count=2), comment=NAME)),
        "nested": (f"{NAME}.zip", nested.getvalue()),
        "torn": (f"{NAME}.zip", good[: len(good) // 2]),
        "other suffix": (f"x.{NAME}", b"x"),
        "modality": ("a.zip", zipped(planted_slices(root, 5, count=3, Modality=NAME))),
        "uid": ("a.zip", zipped(planted_slices(root, 5, count=3, SeriesInstanceUID=NAME))),
        "pixels": ("a.zip", zipped(planted_slices(root, 5, count=3, PhotometricInterpretation=NAME))),
        "header": (f"{NAME}.mha", f"ObjectType = {NAME}\n".encode()),
    }


def try_http(traces: Traces, client: httpx.Client, root: Path) -> None:
    for way, file in uploads(root).items():
        traces.ask(client, way, "POST", "/v1/diagnoses", files={"files": file})
    traces.ask(client, "part", "POST", "/v1/diagnoses", files={NAME: (NAME, b"x", f"image/{NAME}")})
    traces.ask(client, "path", "GET", f"/v1/diagnoses/{NAME}")
    traces.ask(client, "other path", "GET", f"/{NAME}/x?name={NAME}", headers={"X-Patient": NAME})
    traces.ask(client, "method", NAME, "/v1/diagnoses")
    traces.ask(client, "query", "GET", f"/v1/diagnoses?limit={NAME}")
    traces.ask(client, "cutouts", "POST", "/v1/classify", content=NAME.encode(), headers={"Content-Type": f"x/{NAME}"})
    traces.ask(client, "host", "GET", "/", headers={"Host": f"{NAME}.example"})
    traces.ask(client, "origin", "POST", "/v1/diagnoses", headers={"Origin": f"http://{NAME}"})


def try_dicom(traces: Traces, port: int, root: Path) -> None:
    for calling, called in ((TITLE, "LUNA"), (f"{NAME}2", "LUNA"), (TITLE, NAME)):
        entity = AE(ae_title=calling)
        entity.add_requested_context(CTImageStorage, [pydicom.uid.ExplicitVRLittleEndian])
        association = entity.associate("127.0.0.1", port, ae_title=called)
        traces.statuses[f"{calling} calls {called}"] = int(association.is_established)
        if association.is_established:
            bad = planted_slices(root, 6, count=1, Modality=NAME)[0]
            traces.statuses["C-STORE of another modality"] = association.send_c_store(bad).Status
            sent = {association.send_c_store(dataset).Status for dataset in planted_slices(root, 6)}
            traces.statuses["C-STORE"] = max(sent)
            association.release()


@contextlib.contextmanager
def running(service: Service) -> Iterator[tuple[httpx.Client, int]]:
    """The service's processes; a client of its front, and the port of the receiver."""
    ports = free_port(), free_port()
    command = [sys.executable, "-m", "luna_pipeline.cli"]
    with contextlib.ExitStack() as processes:
        for name, port in zip(("serve", "receive"), ports, strict=True):
            arguments = [*command, name, "--config", str(service.config_path), "--port", str(port)]
            log = service.root / f"{name}.log"
            processes.enter_context(started(arguments, environment=service.environment, log=log))
        client = processes.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{ports[0]}", timeout=60))
        wait_for(lambda: is_ready(client), limit_seconds=120, what="the service")
        wait_for(
            lambda: "Receiving as" in (service.root / "receive.log").read_text(), limit_seconds=120, what="the receiver"
        )
        yield client, ports[1]


def is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/ready").status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def traces(tmp_path_factory) -> Traces:
    root = tmp_path_factory.mktemp("patient")
    values = {"deidentifies": True, "receiver": {"calling_aets": [TITLE], "quiet_seconds": 0.5}}
    traces = Traces(Service(root, values))
    with running(traces.service) as (client, port):
        try_http(traces, client, root / "phantoms")
        try_dicom(traces, port, root / "phantoms")

        def ended() -> list[dict[str, object]]:
            jobs = client.get("/v1/diagnoses").json()
            origins = {job["origin"] for job in jobs if job["state"] in ENDED}
            return jobs if origins == {"http", "dicom"} and all(job["state"] in ENDED for job in jobs) else []

        wait_for(ended, limit_seconds=180, what="the end of all jobs", every_seconds=0.25)
        jobs = traces.ask(client, "list", "GET", "/v1/diagnoses").json()
        traces.states = [job["state"] for job in jobs]
        for job in jobs:
            for name in ("", "/nodules.json", "/report.html"):
                traces.ask(client, f"result{name}", "GET", f"/v1/diagnoses/{job['id']}{name}")
        traces.answers.append(client.get("/metrics").text)
    return traces


def test_the_ways_are_what_they_are_meant_to_be(traces):
    """A name in a tag, a member or a title is no reason to refuse a CT; the other ways are refused."""
    accepted = {"zip", "volume", "query", "list", "result", "result/nodules.json", "result/report.html"}
    titles = {name: status for name, status in traces.statuses.items() if " calls " in name}
    assert titles == {f"{TITLE} calls LUNA": 1, f"{NAME}2 calls LUNA": 0, f"{TITLE} calls {NAME}": 0}
    assert traces.statuses["C-STORE"] == 0
    assert traces.statuses["C-STORE of another modality"] != 0
    for way, status in traces.statuses.items():
        if way in accepted:
            assert status in (200, 202), way
        elif "C-STORE" not in way and way not in titles:
            assert 400 <= status < 500, (way, status)
    assert traces.states.count("done") >= 3


def test_no_answer_no_header_and_no_metric_holds_the_name(traces):
    assert len(traces.answers) > 20
    assert [answer for answer in traces.answers if NAME in answer.upper()] == []


def test_no_log_holds_the_name(traces):
    for name in ("serve", "receive"):
        text = (traces.service.root / f"{name}.log").read_text(errors="replace")
        assert "INFO luna_pipeline" in text
        assert [line for line in text.splitlines() if NAME in line.upper()] == []


def test_no_file_name_holds_the_name(traces):
    paths = [path.relative_to(traces.service.root).as_posix() for path in traces.service.folders.root.rglob("*")]
    assert any(f"/{INPUT}/" in path for path in paths)
    assert [path for path in paths if NAME in path.upper()] == []


def test_nothing_but_the_input_holds_the_name_on_the_disk(traces):
    """The results too: they are de-identified by the configuration."""
    files = [path for path in traces.service.folders.root.rglob("*") if path.is_file()]
    inputs = {path for path in files if path.parent.name == INPUT}
    assert any(NAME.encode() in path.read_bytes() for path in inputs)
    others = [path for path in files if path not in inputs]
    assert {"seg.dcm", "sr.dcm", "report.html", "jobs.sqlite"} <= {path.name for path in others}
    assert [path.name for path in others if NAME.encode() in path.read_bytes()] == []
    results = [path for path in others if path.parent.name == "output"]
    assert [path.name for path in results if DAY.encode() in path.read_bytes()] == []


def test_the_database_holds_ids_and_nothing_of_the_name(traces):
    with contextlib.closing(sqlite3.connect(traces.service.folders.database)) as database:
        rows = json.dumps(list(database.execute("SELECT * FROM workflow_status")), default=str)
    assert len(rows) > 100
    assert NAME not in rows.upper()
