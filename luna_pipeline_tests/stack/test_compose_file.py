"""Dockerfile and compose file, read by their own tools; passwords, and what is confined."""

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from luna_pipeline.serving.config import ServiceConfig, read_config
from luna_pipeline_tests.processes import REPOSITORY
from luna_pipeline_tests.stack.as_processes import composed

BIN = Path(sys.executable).parent
ALWAYS = {"postgres", "store", "prepare", "mlflow", "code", "webserver", "daemon", "serve", "tensorboard"}
WITH_PROFILES = ALWAYS | {"ray-head", "ray-worker", "receive"}
PASSWORDS = [
    "POSTGRES_PASSWORD",
    "DAGSTER_POSTGRES_PASSWORD",
    "MLFLOW_POSTGRES_PASSWORD",
    "JOBS_POSTGRES_PASSWORD",
    "STORE_SECRET_KEY",
    "RAY_AUTH_TOKEN",
]


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    """All services, those of the profiles too, as Compose understands them."""
    return composed(tmp_path_factory.mktemp("compose"), "--profile", "ray", "--profile", "dicom")["services"]


def _config(tmp_path: Path, env_file: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "env").write_text(env_file)
    command = [BIN / "docker-compose", "--env-file", str(tmp_path / "env"), "config", "--quiet"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    return subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)


def test_dockerfiles_are_in_order():
    command = [BIN / "hadolint", "--failure-threshold", "warning", "Dockerfile", "deploy/luna25/Dockerfile"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_services_are_those_of_the_design(services, tmp_path):
    assert set(services) == WITH_PROFILES
    assert set(composed(tmp_path)["services"]) == ALWAYS


@pytest.mark.parametrize("missing", PASSWORDS)
def test_compose_refuses_without_a_password_and_says_what_to_do(tmp_path, missing):
    given = "".join(f"{name}=x\n" for name in PASSWORDS if name != missing)
    done = _config(tmp_path, given)
    assert done.returncode != 0
    assert re.search(rf"{missing} is missing a value: must be set. Run `make up`, or copy .env.example", done.stderr)


def test_example_names_every_password_and_gives_none(tmp_path):
    lines = (REPOSITORY / ".env.example").read_text().splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == [f"{name}=" for name in PASSWORDS]
    assert _config(tmp_path, "\n".join(lines)).returncode != 0


def test_every_variable_of_the_compose_file_stands_in_the_example():
    names = ("docker-compose.yml", "docker-compose.alerts.yml")
    used = {name for file in names for name in re.findall(r"(?<!\$)\$\{([A-Z_]+)", (REPOSITORY / file).read_text())}
    used |= set(re.findall(r"--build-arg ([A-Z_]+)", (REPOSITORY / "Makefile").read_text()))
    example = set(re.findall(r"^#?([A-Z_]+)=", (REPOSITORY / ".env.example").read_text(), flags=re.MULTILINE))
    assert used == example - {"COMPOSE_PROFILES"}


def test_passwords_are_random_kept_and_readable_by_their_owner_only(tmp_path):
    texts = []
    for name in ("one", "other"):
        command = ["sh", "deploy/stack/make_env.sh", str(tmp_path / name)]
        subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)
        texts.append((tmp_path / name).read_text())
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    values = re.findall(r"^([A-Z_]+)=([0-9a-f]{64})$", "\n".join(texts), flags=re.MULTILINE)
    assert [name for name, _ in values] == PASSWORDS * 2
    assert len({value for _, value in values}) == 12
    # What is there is what the databases were made with.
    subprocess.run(command, cwd=REPOSITORY, check=True)
    assert (tmp_path / "other").read_text() == texts[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "other"]


def test_passwords_that_an_older_version_did_not_have_are_added_to_its_file(tmp_path):
    older = tmp_path / "env"
    older.write_text(
        "POSTGRES_PASSWORD=old\nMLFLOW_POSTGRES_PASSWORD=older\n#JOBS_POSTGRES_PASSWORD=\nDAGSTER_PORT=3001"
    )
    older.chmod(0o600)
    command = ["sh", "deploy/stack/make_env.sh", str(older)]
    said = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True).stdout
    assert said.strip().endswith("DAGSTER_POSTGRES_PASSWORD JOBS_POSTGRES_PASSWORD STORE_SECRET_KEY RAY_AUTH_TOKEN")
    text = older.read_text()
    assert text.startswith(
        "POSTGRES_PASSWORD=old\nMLFLOW_POSTGRES_PASSWORD=older\n#JOBS_POSTGRES_PASSWORD=\nDAGSTER_PORT=3001\n"
    )
    assert re.findall(r"^([A-Z_]+)=[0-9a-f]{64}$", text, flags=re.MULTILINE) == said.split(":")[-1].split()
    assert stat.S_IMODE(older.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["env"]


def test_every_service_is_confined_limited_and_watched(services):
    for name, service in services.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert int(service["mem_limit"]) > 0, name
        assert service["logging"]["options"]["max-size"], name
        if name == "prepare":
            assert service["restart"] == "no"
        else:
            assert service["restart"] == "unless-stopped", name
            assert service["healthcheck"]["test"][0] == "CMD", name


def test_ports_are_on_loopback_and_databases_and_store_have_none(services):
    published = {name: service["ports"] for name, service in services.items() if service.get("ports")}
    assert set(published) == {"webserver", "mlflow", "tensorboard", "serve", "receive"}
    assert {port["host_ip"] for ports in published.values() for port in ports} == {"127.0.0.1"}


def test_only_what_others_connect_to_can_reach_outside(services):
    outside = {name for name, service in services.items() if "edge" in service["networks"]}
    assert outside == {"webserver", "mlflow", "tensorboard", "serve", "receive"}


def test_inner_network_has_no_way_out(tmp_path):
    networks = composed(tmp_path)["networks"]
    assert networks["inside"]["internal"]
    assert not networks["edge"].get("internal")


def test_start_waits_for_health_and_for_what_is_done_once(services):
    for name, service in services.items():
        for other, how in service.get("depends_on", {}).items():
            once = other == "prepare"
            assert how["condition"] == ("service_completed_successfully" if once else "service_healthy"), (name, other)
    assert set(services["webserver"]["depends_on"]) == set(services["daemon"]["depends_on"]) == {"code"}


def test_no_password_stands_in_a_command(services):
    for name, service in services.items():
        words = " ".join([*(service.get("command") or []), *(service.get("entrypoint") or [])])
        assert not re.search(r"[0-9a-f]{64}", words), name


def test_the_service_has_the_passwords_of_its_own_database_and_of_the_store_alone(services, tmp_path):
    environment = services["serve"]["environment"]
    secrets = {name for name, value in environment.items() if re.fullmatch(r"[0-9a-f]{64}", str(value))}
    assert secrets == {"PGPASSWORD", "AWS_SECRET_ACCESS_KEY"}
    assert environment["PGPASSWORD"] not in {services["mlflow"]["environment"]["PGPASSWORD"]}
    received = services["receive"]["environment"]
    assert received == {"PGPASSWORD": environment["PGPASSWORD"], "LUNA_SERVICE_DIR": environment["LUNA_SERVICE_DIR"]}
    # The configuration in the image reads as the service reads it; a password is in no file.
    config = read_config(REPOSITORY / "deploy/stack/serving.yaml")
    assert config.database == "postgresql+psycopg://jobs@postgres:5432/jobs"
    assert config == ServiceConfig(database=config.database, dagster_url="http://webserver:3000")


@pytest.mark.parametrize("service", ["serve", "receive"])
def test_the_service_takes_a_configuration_and_certificates_of_its_own(tmp_path, service):
    given = {"LUNA_SERVING_CONFIG": "/srv/own.yaml", "LUNA_CERTIFICATES": "/srv/pem"}
    own = composed(tmp_path, "--profile", "dicom", **given)["services"][service]["volumes"]
    mounted = {volume["target"]: volume["source"] for volume in own if volume["type"] == "bind" and volume["read_only"]}
    assert mounted == {"/opt/luna/stack/serving.yaml": "/srv/own.yaml", "/luna/certificates": "/srv/pem"}


def test_the_receiver_listens_where_it_is_told(tmp_path):
    given = {"DICOM_ADDRESS": "192.0.2.1", "DICOM_PORT": "104"}
    (port,) = composed(tmp_path, "--profile", "dicom", **given)["services"]["receive"]["ports"]
    assert (port["host_ip"], port["published"], port["target"]) == ("192.0.2.1", "104", 11112)


def test_mlflow_takes_only_named_hosts(services):
    (hosts,) = [word for word in services["mlflow"]["command"] if word.startswith("--allowed-hosts=")]
    assert hosts == "--allowed-hosts=mlflow:8080,127.0.0.1:8080,localhost:8080"


def test_gpu_is_asked_for_by_the_second_file_alone(tmp_path):
    files = ("-f", "docker-compose.yml", "-f", "docker-compose.cuda.yml", "--profile", "ray")
    with_gpu = composed(tmp_path, *files)["services"]
    asked = {name for name, service in with_gpu.items() if "reservations" in str(service.get("deploy"))}
    assert asked == {"code", "ray-worker", "serve"}
