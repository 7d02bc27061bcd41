"""A local Ray session: all processes are stopped, and others cannot use it."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from luna_pipeline import core
from luna_pipeline.cluster.session import MAX_FOLDER_LENGTH, WORKER_VARIABLES, ray_session
from luna_pipeline_tests.processes import free_port, session_of, started

# A program with a nested session; it writes what it observed.
PROGRAM = """
import json, os, signal, sys
import psutil
from luna_pipeline.cluster.session import ray_session

def state():
    children = [process.name() for process in psutil.Process().children(recursive=True)]
    return {"environment": dict(os.environ), "children": children, "sigterm": str(signal.getsignal(signal.SIGTERM))}

signal.signal(signal.SIGTERM, signal.default_int_handler)
seen = {"before": state()}
with ray_session(num_cpus=1) as outer:
    import ray
    seen["within"] = state()
    with ray_session(num_cpus=7) as inner:
        seen["inner_cpus"] = inner.num_cpus
        seen["inner_is_outer"] = inner == outer
    seen["stays"] = ray.get(ray.remote(lambda: 6 * 7).remote())
    (folder,) = os.scandir(os.environ["TMPDIR"])
    seen["folder"], seen["mode"] = folder.name, oct(folder.stat().st_mode & 0o777)
seen["after"] = state()
signal.signal(signal.SIGTERM, signal.SIG_DFL)
with ray_session(num_cpus=2) as second:
    seen["second_cpus"], seen["just_dies"] = second.num_cpus, signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
seen["just_dies_after"] = signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
seen["is_initialized"] = ray.is_initialized()
open(sys.argv[1], "w").write(json.dumps(seen))
"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    root = tmp_path_factory.mktemp("session")
    # The longest allowed path: in a longer one Ray's socket paths are too long.
    temporary = tempfile.mkdtemp(prefix="luna-test-", dir="/tmp")
    assert len(temporary) == MAX_FOLDER_LENGTH
    (root / "home").mkdir()
    environment = {"HOME": str(root / "home"), "TMPDIR": temporary, "RAY_AUTH_MODE": "disabled", "RAY_ADDRESS": ""}
    command = [sys.executable, "-c", PROGRAM, str(root / "seen.json")]
    with started(command, environment=environment, log=root / "log.txt") as process:
        assert process.wait(timeout=120) == 0, (root / "log.txt").read_text()
        left = [left.name() for left in session_of(process.pid)]
    found = json.loads((root / "seen.json").read_text())
    yield {**found, "left": left, "home": os.listdir(root / "home"), "temporary": os.listdir(temporary)}
    shutil.rmtree(temporary)


def test_nothing_is_left_running(seen):
    assert {"raylet", "gcs_server"} <= set(seen["within"]["children"])
    assert seen["after"]["children"] == seen["left"] == []
    assert not seen["is_initialized"]


def test_environment_and_signals_are_as_before(seen):
    assert seen["within"]["environment"] != seen["before"]["environment"]
    assert seen["after"]["environment"] == seen["before"]["environment"]
    states = [seen[when]["sigterm"] for when in ("before", "within", "after")]
    assert all("default_int_handler" in state for state in states), states


def test_who_would_just_die_by_sigterm_ends_ray_before(seen):
    assert (seen["just_dies"], seen["just_dies_after"]) == (False, True)


def test_nothing_is_left_in_the_home_folder_and_among_temporary_files(seen):
    assert seen["home"] == []
    assert seen["folder"].startswith("luna-ray-")
    assert seen["temporary"] == []


def test_other_users_of_the_machine_cannot_reach_its_sockets(seen):
    assert seen["mode"] == "0o700"


def test_a_session_inside_another_is_that_one_and_leaves_it(seen):
    assert (seen["inner_cpus"], seen["inner_is_outer"], seen["stays"]) == (1.0, True, 42)


def test_another_session_may_follow(seen):
    assert seen["second_cpus"] == 2.0


@pytest.mark.parametrize("by", ["argument", "variable"])
def test_an_address_at_which_nobody_listens_is_said_at_once(by, monkeypatch):
    address = f"127.0.0.1:{free_port()}"
    monkeypatch.setenv("RAY_ADDRESS", "" if by == "argument" else address)
    begun = time.monotonic()
    with (
        pytest.raises(ConnectionError) as caught,
        ray_session(address=address if by == "argument" else None),
    ):
        pass
    assert time.monotonic() - begun < 20
    assert str(caught.value) == (
        f"The Ray cluster must answer, got [Errno 111] Connection refused ({address}). Start it, or unset RAY_ADDRESS."
    )


def test_a_client_of_ray_is_refused():
    with (
        pytest.raises(ValueError, match="must be HOST:PORT of its head, got ray://head:10001"),
        ray_session(address="ray://head:10001"),
    ):
        pass


# A program without luna_pipeline.
STRANGER = """
import sys, ray
ray.init(address=sys.argv[1], logging_level="ERROR", log_to_driver=False)
print("inside:", ray.get(ray.remote(lambda: 6 * 7).remote()))
"""


def tried(address, home, **own) -> subprocess.CompletedProcess[str]:
    """Return the result of another program's single attempt to use a Ray."""
    environment = {**os.environ, "HOME": str(home), "RAY_NUM_REDIS_GET_RETRIES": "1", **own}
    command = [sys.executable, "-c", STRANGER, address]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.slow
def test_the_ports_are_of_no_use_without_the_token(tmp_path):
    with ray_session(num_cpus=1):
        import ray

        address = ray.get_runtime_context().gcs_address
        # Child processes get the token from the environment.
        own = tried(address, tmp_path)
        strangers = [
            tried(address, tmp_path, RAY_AUTH_MODE="disabled"),
            tried(address, tmp_path, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="0" * 64),
        ]
    assert own.stdout == "inside: 42\n", own.stderr
    for stranger in strangers:
        assert stranger.returncode != 0
        assert "InvalidAuthToken" in stranger.stderr
        assert stranger.stdout == ""


def test_a_token_that_somebody_has_chosen_is_the_one_that_counts(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "1" * 64)
    with ray_session(num_cpus=1):
        import ray

        address = ray.get_runtime_context().gcs_address
        assert tried(address, tmp_path, RAY_AUTH_TOKEN="1" * 64).stdout == "inside: 42\n"
        assert "InvalidAuthToken" in tried(address, tmp_path, RAY_AUTH_TOKEN="0" * 64).stderr


@pytest.mark.parametrize("has_dashboard", [False, True])
def test_the_dashboard_listens_on_request_and_on_loopback_only(has_dashboard):
    if has_dashboard:
        pytest.importorskip("aiohttp_cors", reason="the extra dashboard is not installed")
    with ray_session(num_cpus=1, has_dashboard=has_dashboard):
        (dashboard,) = [
            process
            for process in psutil.Process().children()
            if "dashboard/dashboard.py" in " ".join(process.cmdline())
        ]
        listening = [found.laddr.ip for found in dashboard.net_connections("tcp") if found.status == "LISTEN"]
    assert listening == (["127.0.0.1"] if has_dashboard else [])


def test_a_dashboard_that_is_not_installed_is_said_before_ray_starts(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with (
        pytest.raises(ModuleNotFoundError, match=r"Ray's dashboard must be installed, got none. `pip install"),
        ray_session(num_cpus=1, has_dashboard=True),
    ):
        pass


def test_workers_get_every_variable_of_the_project_that_the_core_reads():
    # variables.py describes all variables, and reads none.
    paths = [path for path in Path(core.__file__).parent.rglob("*.py") if path.name != "variables.py"]
    texts = [path.read_text() for path in paths]
    read = {name for text in texts for name in re.findall(r'"(LUNA_[A-Z_]+)"', text)}
    assert {"LUNA_ASSUME_HU", "LUNA_MAX_CT_GIB"} <= read
    assert read <= set(WORKER_VARIABLES)
