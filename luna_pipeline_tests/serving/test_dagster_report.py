"""Reports of the service's diagnoses to Dagster: what they hold, real events on a real page, and no event twice."""

import contextlib
import dataclasses
import http.server
import json
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest
import requests

from luna_pipeline.core.diagnosis.manifest import MANIFEST, Manifest, manifest_json
from luna_pipeline.core.diagnosis.result import Diagnosis
from luna_pipeline.definitions import defs
from luna_pipeline.partitions import INCOMING_SERIES, INCOMING_SERIES_NAME
from luna_pipeline.serving.dagster_report import DagsterReportError, materialization, report_diagnosis
from luna_pipeline_tests.browsers import CHROMIUM, CHROMIUM_FLAGS, keep_picture
from luna_pipeline_tests.core.diagnosis.examples import UID, diagnosis, nodule
from luna_pipeline_tests.dagster_site import answers
from luna_pipeline_tests.diagnosed import CONFIG, Clinic
from luna_pipeline_tests.processes import REPOSITORY, free_port, started, wait_for
from luna_pipeline_tests.serving.services import UID as PHANTOM_UID
from luna_pipeline_tests.serving.services import Service, wait_until_ended

JOB = "0123456789abcdef" * 2
OTHER_UID = "1.2.840.77"
SERIES = f"{PHANTOM_UID}.5"


def output_of(folder: Path, made: Diagnosis) -> Path:
    """The folder of a job's results, with its ``diagnosis.json``."""
    folder.mkdir(exist_ok=True)
    (folder / MANIFEST).write_bytes(manifest_json(Manifest(diagnosis=made, outputs={})))
    return folder


def two_findings(**changes) -> Diagnosis:
    return diagnosis(nodule(), nodule((10, 20, 30), probability=0.25, malignancy=None), **changes)


def test_a_report_holds_nodules_models_job_and_the_intended_use(tmp_path):
    report = materialization(output_of(tmp_path / "output", two_findings()), job_id=JOB, origin="dicom")
    assert report["partition"] == UID
    assert report["description"] == "Diagnosis by the service. Research use only. Not a medical device."
    metadata = report["metadata"]
    # One of the two is at the classifier's threshold of 0.5 or above.
    assert (metadata["num_findings"], metadata["num_nodules"], metadata["threshold"]) == (2, 1, 0.5)
    assert metadata["nodules"] == [
        "probability 0.750, malignancy 0.250, 7.2 mm, x, y, z 2.0, 12.0, 50.0 mm",
        "probability 0.250, 7.2 mm, x, y, z 0.0, 0.0, 30.0 mm",
    ]
    assert metadata["models"][1] == f"classifier: nodule_classifier 0.0.1, MLflow run {'f00d' * 8}"
    assert len(metadata["models"]) == 3
    assert (metadata["job"], metadata["origin"]) == (JOB, "dicom")
    assert metadata["report"] == f"/v1/diagnoses/{JOB}/report.html"
    assert "synthetic" not in metadata["notes"]
    json.dumps(report, allow_nan=False)


def test_a_phantom_is_called_synthetic_and_a_volume_has_the_jobs_id_as_partition(tmp_path):
    made = two_findings(series_instance_uid="ct", is_synthetic=True)
    report = materialization(output_of(tmp_path / "output", made), job_id=JOB, origin="http")
    assert report["partition"] == JOB
    assert "Synthetic data" in report["metadata"]["notes"]


def test_notes_of_a_diagnosis_stay_in_the_service(tmp_path):
    made = two_findings(notes=("The file DOE^JANE.dcm is ignored.",))
    report = materialization(output_of(tmp_path / "output", made), job_id=JOB, origin="http")
    assert "DOE" not in json.dumps(report)


def test_the_data_version_is_that_of_the_findings_not_of_the_run(tmp_path):
    first, again, other = (
        materialization(output_of(tmp_path / str(number), made), job_id=JOB, origin="http")
        for number, made in enumerate(
            [
                two_findings(run_ids={}),
                two_findings(run_ids={"dagster": "another"}, seconds={"lungs": 2.5}),
                diagnosis(nodule()),
            ]
        )
    )
    assert first["data_version"] == again["data_version"] != other["data_version"]
    assert first["metadata"]["result_sha256"] != again["metadata"]["result_sha256"]


@pytest.fixture
def another_server() -> Iterator[str]:
    """A web server that is not Dagster's: each answer is a page."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(404 if self.path.startswith("/missing") else 200)
            self.end_headers()
            self.wfile.write(b"<p>hello</p>")

        def log_message(self, *_arguments) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_what_does_not_accept_a_report_is_named_by_its_kind_alone(tmp_path, another_server):
    output = output_of(tmp_path / "output", two_findings())
    for url, found in (
        (f"http://127.0.0.1:{free_port()}", "ConnectError"),
        (another_server, "JSONDecodeError"),
        (f"{another_server}/missing", "status 404"),
        ("dagster:3000", "UnsupportedProtocol"),
    ):
        with pytest.raises(DagsterReportError, match=f"must accept a report, got {found} "):
            report_diagnosis(url, output, job_id=JOB, origin="http")


def test_a_job_without_a_result_cannot_be_reported(tmp_path):
    with pytest.raises(FileNotFoundError):
        report_diagnosis("http://127.0.0.1:1", tmp_path, job_id=JOB, origin="http")


@dataclass(frozen=True)
class Site:
    """A running webserver, and its instance."""

    address: str
    instance: dg.DagsterInstance

    def events(self, uid: str) -> list[dg.AssetMaterialization]:
        """Events of a series, the newest first."""
        wanted = dg.AssetRecordsFilter(dg.AssetKey("diagnosis"), asset_partitions=[uid])
        records = self.instance.fetch_materializations(wanted, limit=10).records
        return [record.asset_materialization for record in records]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Dagster's webserver with the project's definitions, on an empty installation."""
    root = tmp_path_factory.mktemp("dagster")
    folders = {"LUNA_HOME": "home", "LUNA_INCOMING_DIR": "incoming", "LUNA_DATA_DIR": "data", "DAGSTER_HOME": "dagster"}
    for name in folders.values():
        (root / name).mkdir()
    shutil.copy(REPOSITORY / "dagster.yaml", root / "dagster")
    environment = {variable: str(root / name) for variable, name in folders.items()}
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = ["dagster-webserver", "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", str(port)]
    with pytest.MonkeyPatch.context() as patch, started(command, environment=environment, log=root / "log.txt"):
        for name, value in environment.items():
            patch.setenv(name, value)
        wait_for(
            lambda: answers(f"{address}/server_info"), limit_seconds=120, what="The webserver's answer", every_seconds=1
        )
        with dg.DagsterInstance.get() as instance:
            yield Site(address, instance)


@pytest.mark.slow
def test_a_diagnosis_is_an_event_of_its_series_once_and_a_new_one_another(site: Site, tmp_path):
    output = output_of(tmp_path / "output", two_findings())
    # Dagster has no event of the asset yet.
    assert report_diagnosis(site.address, output, job_id=JOB, origin="http")
    assert not report_diagnosis(site.address, output, job_id=JOB, origin="http")
    (event,) = site.events(UID)
    assert event.metadata["num_nodules"].value == 1
    assert event.metadata["nodules"].value[0].startswith("probability 0.750")
    assert event.metadata["job"].value == JOB
    assert event.tags["dagster/data_version"] == materialization(output, job_id=JOB, origin="http")["data_version"]

    output_of(output, two_findings(seconds={"lungs": 3.0}))
    assert report_diagnosis(site.address, output, job_id=JOB, origin="http")
    assert len(site.events(UID)) == 2
    assert site.events(OTHER_UID) == []


@pytest.mark.slow
def test_reported_series_are_no_partitions_of_incoming_cts_and_fail_no_check(site: Site, tmp_path):
    made = dataclasses.replace(two_findings(), series_instance_uid=OTHER_UID)
    assert report_diagnosis(site.address, output_of(tmp_path / "output", made), job_id=JOB, origin="dicom")
    job = defs.resolve_job_def("diagnose")
    done = job.execute_in_process(
        instance=site.instance, run_config={"ops": {"diagnose_series": {"config": CONFIG}}}, raise_on_error=False
    )
    assert done.success
    for name in ("incoming_series_readable", "no_incoming_series_is_gone", "diagnoses_complete"):
        # The clinic also asserts that the page shows them beside the newest event, which has no run.
        assert Clinic(tmp_path, site.instance).checks()[name][0], name
    assert site.instance.get_dynamic_partitions(INCOMING_SERIES_NAME) == []
    # The page's own count of partitions works on a partition that is not registered.
    statuses = site.instance.get_status_by_partition(dg.AssetKey("diagnosis"), [OTHER_UID], INCOMING_SERIES)
    assert statuses is not None
    assert len(site.events(OTHER_UID)) == 1


@contextlib.contextmanager
def forwarded(port: int, address: str) -> Iterator[None]:
    """Listen on a port, and pass requests on to a server: it was away until then."""

    class Forwarder(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            answer = requests.post(
                address + self.path, data=body, headers={"Content-Type": "application/json"}, timeout=30
            )
            self.send_response(answer.status_code)
            self.end_headers()
            self.wfile.write(answer.content)

        def log_message(self, *_arguments) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", port), Forwarder)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.slow
def test_a_job_is_done_while_dagster_is_away_and_is_reported_once_when_it_is_back(site: Site, tmp_path):
    port = free_port()
    service = Service(tmp_path, {"dagster_url": f"http://127.0.0.1:{port}"})
    with service.jobs() as jobs, service.worker():
        job, _ = jobs.submit(service.staged(is_dicom=True), origin="dicom")
        assert wait_until_ended(jobs, job.id).state == "done"
        log = tmp_path / "worker.log"
        wait_for(lambda: "It is tried again." in log.read_text(), limit_seconds=30, what="A failed report")
        with forwarded(port, site.address):
            wait_for(lambda: site.events(SERIES), limit_seconds=30, what="A report", every_seconds=0.5)
        assert SERIES not in log.read_text()
    (event,) = site.events(SERIES)
    assert (event.metadata["job"].value, event.metadata["origin"].value) == (job.id, "dicom")
    assert event.metadata["num_nodules"].value == job_nodules(service, job.id)
    assert "Synthetic" not in event.metadata["notes"].value


def job_nodules(service: Service, job_id: str) -> int:
    with service.jobs() as jobs:
        return int(jobs.get(job_id).num_nodules or 0)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_dagsters_page_shows_the_event_with_partition_job_and_nodules(site: Site, tmp_path):
    from playwright.sync_api import sync_playwright

    made = dataclasses.replace(two_findings(), series_instance_uid="1.2.840.99", seconds={"lungs": 9.0})
    assert report_diagnosis(site.address, output_of(tmp_path / "output", made), job_id=JOB, origin="dicom")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=CHROMIUM_FLAGS)
        page = browser.new_page(viewport={"width": 1600, "height": 1100})
        page.set_default_timeout(60_000)
        page.goto(f"{site.address}/assets/diagnosis?view=events")
        page.get_by_text("1.2.840.99", exact=True).first.wait_for()
        page.get_by_text(JOB).first.wait_for()
        keep_picture(page, "dagster_diagnosis", tmp_path)
        browser.close()
