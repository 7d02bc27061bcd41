"""MLflow, Dagster and Ray: what does not answer or is out of date is found."""

import contextlib
import http.server
import shutil
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._daemon.types import DaemonHeartbeat

from luna_pipeline.launchers.doctor import services
from luna_pipeline.settings import REPOSITORY, Settings
from luna_pipeline_tests.processes import free_port


def mlflow_at(uri: str, tmp_path: Path):
    return list(services.mlflow(Settings.from_environment({"MLFLOW_TRACKING_URI": uri, "LUNA_HOME": str(tmp_path)})))


@contextlib.contextmanager
def server(status: int) -> Iterator[int]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status if self.path == "/health" else 404)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield listening.server_port
        listening.shutdown()


def test_the_database_of_this_mlflow_is_ok_and_another_one_must_be_migrated(empty_database: Path, tmp_path: Path):
    path = tmp_path / "mlflow.db"
    (absent,) = mlflow_at(f"sqlite:///{path}", tmp_path)
    assert (absent.state, absent.value) == ("ok", f"{path} (made by the first training)")
    assert not path.exists()
    shutil.copyfile(empty_database, path)
    (found,) = mlflow_at(f"sqlite:///{path}", tmp_path)
    assert found.state == "ok"
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")
    (old,) = mlflow_at(f"sqlite:///{path}", tmp_path)
    assert (old.state, old.fix) == ("problem", "make mlflow-migrate")
    path.write_text("no database")
    (broken,) = mlflow_at(f"sqlite:///{path}", tmp_path)
    assert (broken.state, "not a database" in broken.value) == ("problem", True)


@pytest.mark.parametrize(("status", "state"), [(200, "ok"), (401, "ok"), (500, "problem")])
def test_a_server_of_mlflow_is_asked_for_its_health(tmp_path, status, state):
    with server(status) as port:
        (found,) = mlflow_at(f"http://user:secret@127.0.0.1:{port}", tmp_path)
    assert found.state == state
    assert "secret" not in found.value


def test_what_does_not_answer_is_a_problem(tmp_path):
    port = free_port()
    (found,) = mlflow_at(f"http://127.0.0.1:{port}", tmp_path)
    assert found.state == "problem"
    assert "make mlflow-server" in found.fix
    (database,) = mlflow_at(f"postgresql://user:secret@127.0.0.1:{port}/mlflow", tmp_path)
    assert (database.state, "secret" in database.value) == ("problem", False)
    (cluster,) = services.ray(f"127.0.0.1:{port}")
    assert (cluster.state, cluster.fix) == ("problem", "Start the head (`ray start --head`) or unset RAY_ADDRESS.")


def test_addresses_of_ray():
    assert [it.state for it in services.ray(None)] == ["ok"]
    assert [it.state for it in services.ray("ray://head:10001")] == ["problem"]
    assert [it.state for it in services.ray("head:port")] == ["problem"]
    with socket.create_server(("127.0.0.1", 0)) as listening:
        (found,) = services.ray(f"127.0.0.1:{listening.getsockname()[1]}")
    assert found.state == "ok"


def test_dagster_home_must_be_there_with_the_projects_dagster_yaml(tmp_path):
    (unset,) = services.dagster(None)
    assert (unset.state, "make targets" in unset.fix) == ("note", True)
    (missing,) = services.dagster(str(tmp_path / "no"))
    assert (missing.state, missing.value) == ("problem", f"{tmp_path / 'no'}: no such folder")
    (bare,) = services.dagster(str(tmp_path))
    assert bare.fix == f"cp {REPOSITORY / 'dagster.yaml'} {tmp_path / 'dagster.yaml'}"
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    other = next(services.dagster(str(tmp_path)))
    assert (other.state, "differs from" in other.value) == ("note", True)


def test_the_daemon_is_known_by_its_heartbeats(tmp_path):
    shutil.copyfile(REPOSITORY / "dagster.yaml", tmp_path / "dagster.yaml")
    ours, never = services.dagster(str(tmp_path))
    assert (ours.state, never.state) == ("ok", "note")
    assert never.value.startswith("has never run")
    beat(tmp_path, seconds_ago=5000)
    _, silent = services.dagster(str(tmp_path))
    assert (silent.state, "sensor" in silent.value, "make ui" in silent.fix) == ("note", True, True)
    beat(tmp_path, seconds_ago=5)
    _, alive = services.dagster(str(tmp_path))
    assert (alive.state, alive.value.startswith("heartbeat ")) == ("ok", True)


def beat(home: Path, *, seconds_ago: float) -> None:
    with dg.DagsterInstance.from_config(str(home)) as instance:
        for daemon in instance.get_required_daemon_types():
            instance.add_daemon_heartbeat(DaemonHeartbeat(time.time() - seconds_ago, daemon, "id", []))
