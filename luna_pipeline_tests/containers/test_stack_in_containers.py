"""The real image and compose file in a container engine: `make up`, the demo, pages in a browser, kills, `make down`.

Where upstream's images of Python, PostgreSQL and SeaweedFS cannot be had, stand-ins bear their names: run.sh says so.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pydicom
import pytest
import requests

from luna_pipeline_tests.alerts.receivers import Webhook
from luna_pipeline_tests.browsers import CHROMIUM, CHROMIUM_FLAGS
from luna_pipeline_tests.processes import REPOSITORY, free_port, wait_for
from luna_pipeline_tests.serving.dicom.pushing import associated, push
from luna_pipeline_tests.serving.services import phantom_ct
from luna_pipeline_tests.stack.asking import is_shown_ended, launch, runs_of, shown_attempts

pytestmark = pytest.mark.containers

SERVICES = {"postgres", "store", "mlflow", "code", "webserver", "daemon", "serve", "receive", "tensorboard"}


@dataclass(frozen=True)
class Containers:
    """The stack, brought up by `make up` under a project's name and ports of its own."""

    folder: Path
    ports: dict[str, int]
    tokens: list[str] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        ports = {f"{name.upper()}_PORT": str(port) for name, port in self.ports.items()}
        serving = {"COMPOSE_PROFILES": "dicom", "LUNA_SERVING_CONFIG": str(self.folder / "serving.yaml")}
        return {**os.environ, **ports, **serving, "COMPOSE_PROJECT_NAME": "luna-test", "LUNA_TAG": "test"}

    @property
    def env_file(self) -> Path:
        return self.folder / "env"

    def make(self, *words: str, **variables: str) -> str:
        command = ["make", "--no-print-directory", *words, f"ENV_FILE={self.env_file}"]
        if docker := os.environ.get("DOCKER"):
            command.append(f"DOCKER={docker}")
        done = subprocess.run(
            command, cwd=REPOSITORY, env={**self.environment, **variables}, capture_output=True, text=True, check=False
        )
        print(f"$ make {' '.join(words)}\n{done.stdout[-1500:]}", flush=True)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    def docker(self, *words: str) -> str:
        command = [os.environ.get("DOCKER", "docker"), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, env=self.environment).stdout

    def container(self, service: str) -> dict:
        """What the engine knows of a service's container."""
        return json.loads(self.docker("inspect", f"luna-test-{service}-1"))[0]

    def address(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ports[name]}"

    def is_healthy(self, service: str) -> bool:
        with contextlib.suppress(subprocess.CalledProcessError):
            return self.container(service)["State"].get("Health", {}).get("Status") == "healthy"
        return False

    def kill(self, service: str) -> None:
        """Kill a container's first process, as a crash does: after `docker kill` nothing is started again."""
        os.kill(self.container(service)["State"]["Pid"], signal.SIGKILL)

    def remove_volumes(self, *, but: str = "") -> None:
        """Forget all data, or all but one volume's; those of other projects stay."""
        names = self.docker("volume", "ls", "-q", "-f", "name=luna-test_").split()
        if lost := [name for name in names if name != f"luna-test_{but}"]:
            self.docker("volume", "rm", *lost)

    def processes(self, service: str) -> dict[int, str]:
        """Processes in a service's container, by their numbers on this machine."""
        rows = self.docker("top", f"luna-test-{service}-1", "-eo", "pid,args").splitlines()[1:]
        return {int(number): arguments for number, arguments in (row.split(maxsplit=1) for row in rows)}

    def run_workers(self) -> list[int]:
        """Processes of this machine in which the code location's runs are executed."""
        return [number for number, arguments in self.processes("code").items() if "spawn_main" in arguments]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containers]:
    folder = tmp_path_factory.mktemp("containers")
    stack = Containers(folder, {name: free_port() for name in ("dagster", "mlflow", "serve", "dicom", "tensorboard")})
    given = (REPOSITORY / "deploy/stack/serving.yaml").read_text()
    (folder / "serving.yaml").write_text(f"{given}receiver: {{calling_aets: [SCANNER]}}\n")
    began = time.monotonic()
    try:
        stack.make("image")
        built = time.monotonic()
        stack.tokens.extend(re.findall(r"\bluna_[\w-]{40,}", stack.make("up")))
        print(f"image {built - began:.0f} s, up {time.monotonic() - built:.0f} s", flush=True)
        yield stack
    finally:
        stack.make("down")
        stack.remove_volumes()


@pytest.fixture(scope="module")
def demo(stack: Containers) -> str:
    """What the demo said, done once by the queue; its data are what the other tests work on."""
    return stack.make("demo-stack")


def test_everything_is_well_and_confined(stack: Containers):
    for service in SERVICES:
        container = stack.container(service)
        assert container["State"]["Health"]["Status"] == "healthy", service
        host = container["HostConfig"]
        assert host["ReadonlyRootfs"]
        assert host["CapDrop"] == ["ALL"]
        assert host["Memory"] > 0
        assert "no-new-privileges:true" in host["SecurityOpt"]
        for bindings in (host["PortBindings"] or {}).values():
            assert {binding["HostIp"] for binding in bindings} == {"127.0.0.1"}
    for service in SERVICES - {"postgres", "store"}:
        assert stack.container(service)["Config"]["User"] == "1000:1000"
    # Whoever asks from outside finds neither the database nor the store.
    assert {name for name in SERVICES if stack.container(name)["HostConfig"]["PortBindings"]} == {
        "webserver",
        "mlflow",
        "serve",
        "receive",
        "tensorboard",
    }


def test_image_has_no_secret_and_no_root(stack: Containers):
    image = json.loads(stack.docker("inspect", "luna-pipeline:test"))[0]
    print(f"image: {image['Size'] / 1e6:.0f} MB")
    assert image["Config"]["User"] == "1000:1000"
    secrets = re.findall(r"^[A-Z_]+=([0-9a-f]{64})$", stack.env_file.read_text(), flags=re.MULTILINE)
    assert len(secrets) == 6
    kept = json.dumps(image) + stack.docker("history", "--no-trunc", "luna-pipeline:test")
    assert not any(secret in kept for secret in secrets)


def test_demo_by_the_queue_and_the_three_pages(stack: Containers, demo: str, tmp_path: Path):
    assert "SUCCESS" in demo
    assert CHROMIUM, "a browser must be installed: apt-get install chromium"
    from playwright.sync_api import sync_playwright

    pages = {
        "dagster": ("/runs", "demo"),
        "mlflow": ("/#/experiments", "luna_pipeline"),
        "tensorboard": ("/#timeseries", "nodule_classifier"),
    }
    pictures = Path(os.environ.get("LUNA_TEST_PICTURES", tmp_path))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=CHROMIUM_FLAGS)
        for name, (place, text) in pages.items():
            page = browser.new_page(viewport={"width": 1500, "height": 900})
            page.goto(f"{stack.address(name)}{place}", timeout=60_000)
            page.get_by_text(text).first.wait_for(timeout=60_000)
            page.screenshot(path=pictures / f"stack_{name}.png")
        browser.close()


def test_the_first_up_shows_a_token_once_and_the_service_answers_to_it_alone(stack: Containers):
    assert len(stack.tokens) == 1
    assert not re.search(r"\bluna_[\w-]{40,}", stack.make("up"))
    place = f"{stack.address('serve')}/v1/diagnoses"
    assert requests.get(place, timeout=30).status_code == 401
    allowed = {"Authorization": f"Bearer {stack.tokens[0]}"}
    assert requests.get(place, headers=allowed, timeout=30).json() == []


def test_a_series_that_is_pushed_by_a_named_title_is_a_job_that_waits_for_models(stack: Containers, tmp_path: Path):
    images = [pydicom.dcmread(path) for path in phantom_ct(tmp_path, 6, is_dicom=True).iterdir()]
    assert set(push(stack.ports["dicom"], images)) == {0x0000}
    with associated(stack.ports["dicom"], calling="ANOTHER") as refused:
        assert refused.is_rejected
    place = f"{stack.address('serve')}/v1/diagnoses"
    allowed = {"Authorization": f"Bearer {stack.tokens[0]}"}

    def waits() -> list[dict]:
        jobs = requests.get(place, headers=allowed, timeout=30).json()
        return [job for job in jobs if (job["origin"], job["stage"]) == ("dicom", "models")]

    (job,) = wait_for(waits, limit_seconds=120, what="The job of the pushed series")
    assert requests.delete(f"{place}/{job['id']}", headers=allowed, timeout=30).status_code == 204


def test_mlflow_answers_only_its_hosts(stack: Containers):
    place = stack.address("mlflow")
    assert requests.get(place, timeout=30).status_code == 200
    assert requests.get(place, headers={"Host": "elsewhere.example"}, timeout=30).status_code == 403


def test_killed_run_worker_and_killed_container_are_noticed_and_the_run_is_done(stack: Containers, demo: str):
    address = stack.address("dagster")
    config = {"ops": {"nodule_classifier": {"config": {"recipe": "demo", "epochs": 4}}}}
    run_id = launch(address, "train_nodule_classifier", config=config)
    _until_training(stack, 1)
    os.kill(stack.run_workers()[0], signal.SIGKILL)
    killed = time.monotonic()
    wait_for(lambda: len(shown_attempts(address, run_id)) == 2, limit_seconds=120, what="A second attempt")
    print(f"run worker killed: tried again after {time.monotonic() - killed:.0f} s", flush=True)
    _until_training(stack, 2)
    stack.kill("code")
    killed = time.monotonic()
    wait_for(lambda: len(shown_attempts(address, run_id)) == 3, limit_seconds=300, what="A third attempt")
    print(f"container of the code location killed: tried again after {time.monotonic() - killed:.0f} s", flush=True)
    wait_for(lambda: is_shown_ended(address, run_id), limit_seconds=600, what="The end of training")
    assert [run["status"] for run in shown_attempts(address, run_id)] == ["FAILURE", "FAILURE", "SUCCESS"]
    assert stack.container("code")["RestartCount"] == 1


def _done(stack: Containers, job: str, **options) -> str:
    """Launch a run by the queue and return how its last attempt ended."""
    address = stack.address("dagster")
    run_id = launch(address, job, **options)
    wait_for(lambda: is_shown_ended(address, run_id), limit_seconds=600, what=f"The end of {job}")
    return shown_attempts(address, run_id)[-1]["status"]


def _until_training(stack: Containers, count: int) -> None:
    """Wait until an attempt's inner run trains: so many runs of the classifier's asset have begun."""

    def has_begun() -> bool:
        runs = runs_of(stack.address("dagster"), pipelineName="__ASSET_JOB", statuses=["STARTED", "FAILURE"])
        return sum(run["tags"].get("dagster/partition") == "0" for run in runs) >= count

    wait_for(has_begun, limit_seconds=240, what="Training")
    # Into the epochs.
    time.sleep(5)


@pytest.mark.parametrize("service", ["postgres", "store", "mlflow", "webserver", "daemon", "serve", "receive"])
def test_killed_container_comes_back_and_work_goes_on(stack: Containers, demo: str, service: str):
    stack.kill(service)
    wait_for(lambda: not stack.is_healthy(service), limit_seconds=60, what=f"The end of {service}")
    wait_for(lambda: all(map(stack.is_healthy, SERVICES)), limit_seconds=300, what="Health")
    assert _done(stack, "__ASSET_JOB", assets=("ct_series",)) == "SUCCESS"


def test_logs_hold_no_secret(stack: Containers):
    secrets = re.findall(r"^[A-Z_]+=([0-9a-f]{64})$", stack.env_file.read_text(), flags=re.MULTILINE)
    for service in SERVICES:
        said = subprocess.run(
            [os.environ.get("DOCKER", "docker"), "logs", f"luna-test-{service}-1"],
            capture_output=True,
            text=True,
            check=True,
            env=stack.environment,
        )
        assert not any(secret in said.stdout + said.stderr for secret in secrets), service


def test_failed_run_is_told_from_inside_when_asked_for(stack: Containers):
    network = json.loads(stack.docker("network", "inspect", "luna-test_edge"))[0]
    webhook = Webhook(host=network["IPAM"]["Config"][0]["Gateway"])
    start = {"start_name": "nodule_classifier", "start_version": "no_such_version"}
    config = {"ops": {"nodule_classifier": {"config": {"recipe": "demo", **start}}}}
    try:
        stack.make("up", "ALERTS=1", LUNA_ALERT_WEBHOOK=webhook.address)
        assert _done(stack, "train_nodule_classifier", config=config) == "FAILURE"
        wait_for(lambda: webhook.posts, limit_seconds=120, what="An alert")
    finally:
        webhook.close()
    stack.make("up")
    (told,) = webhook.posts
    assert told["job"] == "train_nodule_classifier"
    assert told["run_url"].startswith(stack.address("dagster"))
    assert "no_such_version" not in told["text"]


def test_trials_run_on_the_ray_worker_and_a_study_outlives_the_head(stack: Containers, demo: str):
    stack.make("up", COMPOSE_PROFILES="ray,dicom", RAY_ADDRESS="ray-head:6379")
    _until_three_nodes(stack)
    places = {"optimizer.learning_rate": {"log_uniform": [0.0005, 0.003]}}
    study = {"recipe": "demo", "trials": 2, "epochs": 3, "places": places, "num_bootstraps": 10, "version": "0.0.1-ray"}
    address = stack.address("dagster")
    run_id = launch(address, "tune", config={"ops": {"tuning_study": {"config": study}}})
    wait_for(lambda: _trials(stack, "ray-worker"), limit_seconds=300, what="A trial on the worker")
    assert not _trials(stack, "code") + _trials(stack, "ray-head")
    stack.kill("ray-head")
    _until_three_nodes(stack)
    wait_for(lambda: is_shown_ended(address, run_id), limit_seconds=900, what="The end of the study")
    *before, last = [run["status"] for run in shown_attempts(address, run_id)]
    print(f"Ray's head killed: attempts {[*before, last]}", flush=True)
    assert last == "SUCCESS"
    assert set(before) <= {"FAILURE"}
    # Without the profile its containers would stay.
    stack.docker("rm", "--force", "luna-test-ray-head-1", "luna-test-ray-worker-1")
    stack.make("up")


def _trials(stack: Containers, service: str) -> list[str]:
    return [words for words in stack.processes(service).values() if words.startswith("ray::ImplicitFunc")]


def _until_three_nodes(stack: Containers) -> None:
    """Wait until the head that runs now knows the worker and the code location, both alive."""
    script = "import ray; ray.init('auto', log_to_driver=False); print(sum(n['Alive'] for n in ray.nodes()))"

    def are_three() -> bool:
        with contextlib.suppress(subprocess.CalledProcessError):
            return stack.docker("exec", "luna-test-ray-head-1", "python", "-c", script).split()[-1] == "3"
        return False

    began = time.monotonic()
    wait_for(are_three, limit_seconds=300, what="A cluster of three nodes", every_seconds=2)
    print(f"three nodes of Ray after {time.monotonic() - began:.0f} s", flush=True)


def test_upgrade_keeps_what_was_done(stack: Containers):
    address = stack.address("dagster")
    before = {run["runId"]: run["status"] for run in runs_of(address)}
    backups = stack.folder / "upgraded"
    stack.make("upgrade", f"BACKUPS={backups}")
    assert len([path for path in backups.iterdir() if path.is_dir()]) == 1
    assert {run["runId"]: run["status"] for run in runs_of(address)} == before
    assert all(map(stack.is_healthy, SERVICES))


def test_backup_goes_into_an_empty_stack(stack: Containers, demo: str):
    address = stack.address("dagster")
    assert _done(stack, "__ASSET_JOB", assets=("ct_series",)) == "SUCCESS"
    before = {run["runId"]: run["status"] for run in runs_of(address)}
    backups = stack.folder / "backups"
    stack.make("backup", f"BACKUPS={backups}")
    (backup,) = [path for path in backups.iterdir() if path.is_dir()]
    stack.make("backup-check", f"BACKUP={backup}")
    stack.make("down")
    # CTs are in no backup.
    stack.remove_volumes(but="data")
    stack.make("restore", f"BACKUP={backup}")
    stack.make("up")
    assert {run["runId"]: run["status"] for run in runs_of(address)} == before
    assert _done(stack, "__ASSET_JOB", assets=("ct_series",)) == "SUCCESS"
