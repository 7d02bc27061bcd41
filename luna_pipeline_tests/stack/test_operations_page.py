"""The pages on the stack in containers: their make targets exist, their other commands run, their names exist."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from luna_pipeline_tests.postgres_server import POSTGRES_BIN, postgres_running
from luna_pipeline_tests.processes import REPOSITORY
from luna_pipeline_tests.stack.as_processes import BIN, composed

PAGES = ("operate.md", "backup.md", "upgrade.md", "disk_space.md")
PAGE = "\n".join((REPOSITORY / "docs/how_to" / name).read_text() for name in PAGES)
COMMANDS = "\n".join(re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)).splitlines()
TARGETS = sorted({*re.findall(r"`make ([a-z-]+)", PAGE), *(line.split()[1] for line in COMMANDS if line[:4] == "make")})
OTHERS = [line for line in COMMANDS if line and not line.startswith("make ")]
INSIDE = "docker compose exec "


@pytest.mark.parametrize("target", TARGETS)
def test_make_targets_of_the_page_exist(target: str):
    command = ["make", "-n", target, "BACKUP=backups/2025-01-31T020000Z"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_services_volumes_and_variables_of_the_page_are_those_of_the_compose_file(tmp_path: Path):
    config = composed(tmp_path, "--profile", "ray", "--profile", "dicom")
    table = PAGE.split("| service |")[1].split("\n\n")[0]
    named = " ".join(re.findall(r"^\| (.*?) \|", table, re.MULTILINE))
    assert set(re.findall(r"`([a-z-]+)`", named)) == set(config["services"])
    for volume in config["volumes"]:
        assert f"`{volume}`" in PAGE
    known = (REPOSITORY / ".env.example").read_text()
    for name in (
        "GPU_RUNS",
        "DISK_RUNS",
        "CODE_MEMORY",
        "CODE_CPUS",
        "SERVE_MEMORY",
        "LUNA_DATA",
        "LUNA_TAG",
        "LUNA_CERTIFICATES",
        "DICOM_ADDRESS",
        "COMPOSE_PROFILES",
    ):
        assert name in PAGE
        assert name in known


def test_alerts_give_the_code_location_its_settings_and_a_way_out(tmp_path: Path):
    files = ("-f", "docker-compose.yml", "-f", "docker-compose.alerts.yml")
    address = "https://chat.example/x"
    plain, alerting = (composed(tmp_path, *chosen, LUNA_ALERT_WEBHOOK=address) for chosen in ((), files))
    assert set(plain["services"]["code"]["networks"]) == {"inside"}
    assert set(alerting["services"]["code"]["networks"]) == {"inside", "edge"}
    environment = alerting["services"]["code"]["environment"]
    assert environment["LUNA_ALERT_WEBHOOK"] == address
    assert environment.items() >= plain["services"]["code"]["environment"].items()
    sources = [path.read_text() for path in (REPOSITORY / "luna_pipeline/alerts").glob("*.py")]
    used = set(re.findall(r"\"(LUNA_[A-Z_]+)\"", "".join(sources)))
    assert "LUNA_ALERT_URLS" in used
    assert used <= set(environment)


@pytest.mark.skipif(POSTGRES_BIN is None, reason="needs PostgreSQL")
def test_command_that_changes_a_password_changes_it(tmp_path: Path):
    (command,) = [line for line in OTHERS if line.startswith(f"{INSIDE}postgres ")]
    words = shlex.split(command)
    with postgres_running() as server:
        own = server.cluster.environment
        place = {"PGHOST": "127.0.0.1", "PGPORT": str(server.cluster.port)}
        subprocess.run(
            words[4:],
            env={**own, **place, "PGPASSWORD": own["POSTGRES_PASSWORD"]},
            input=b"new\nnew\n",
            check=True,
            start_new_session=True,
            capture_output=True,
        )
        for password, code in (("new", 0), (own["DAGSTER_POSTGRES_PASSWORD"], 2)):
            asked = ["psql", "--no-password", "--username=dagster", "--dbname=dagster", "--command=SELECT 1"]
            done = subprocess.run(asked, env={**own, **place, "PGPASSWORD": password}, capture_output=True, check=False)
            assert done.returncode == code, done.stderr


def test_commands_of_the_services_tokens_run(tmp_path: Path):
    commands = [line.removeprefix(f"{INSIDE}serve ") for line in OTHERS if line.startswith(f"{INSIDE}serve ")]
    assert len(OTHERS) == 1 + len(commands) == 4
    environment = {"LUNA_SERVICE_DIR": str(tmp_path / "service"), "PATH": f"{BIN}:{os.environ['PATH']}"}
    first = subprocess.check_output(
        ["bash", "deploy/stack/first_token.sh"], cwd=REPOSITORY, env=os.environ | environment
    )
    assert first.count(b"luna_") == 1
    said = [
        subprocess.check_output(shlex.split(command), env=os.environ | environment, cwd=tmp_path, text=True)
        for command in commands
    ]
    assert "luna_" in said[0]
    assert {"first", "NAME"} <= set(said[1].split())
    # Once there are tokens, none is added by a start.
    command = ["bash", "deploy/stack/first_token.sh"]
    assert subprocess.check_output(command, cwd=REPOSITORY, env=os.environ | environment) == b""


def test_page_names_files_that_exist():
    for name in re.findall(r"(?:deploy/|docker-compose)[\w./-]+\w", PAGE):
        assert (REPOSITORY / name).is_file(), name
