"""Storage of the fixture `luna`: local files, or PostgreSQL and S3 as in the stack.

`pytest --storage=stack` runs the tests that use `luna` on the stack's storage: Dagster with the stack's dagster.yaml
and MLflow, each in PostgreSQL, and the home in S3. Raw data are local in both cases.
"""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import pytest

from luna_pipeline_tests.postgres_server import POSTGRES_BIN, PostgresServer, postgres_running
from luna_pipeline_tests.processes import REPOSITORY

if TYPE_CHECKING:
    import dagster as dg

NewInstance: TypeAlias = "Callable[[], contextlib.AbstractContextManager[dg.DagsterInstance]]"
"""Makes a new, empty Dagster instance at each call."""

LOCAL, STACK = "local", "stack"
POOLS = {"gpu": 1, "disk": 2}
"""Slots of each pool, as deploy/stack/prepare.sh sets them."""


@pytest.fixture
def new_instance(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[NewInstance]:
    """Set the locations of the home, its cache and MLflow; return the function that makes Dagster instances."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    if request.config.getoption("--storage") == LOCAL:
        monkeypatch.setenv("LUNA_HOME", str(tmp_path / "home"))
        yield _local_instances(tmp_path)
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    monkeypatch.setenv("LUNA_HOME", request.getfixturevalue("s3_home"))
    monkeypatch.setenv("LUNA_CACHE", str(tmp_path / "cache"))
    with server.database_like("mlflow") as database:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.mlflow_address(database))
        yield _stack_instances(tmp_path, server, monkeypatch)


@pytest.fixture(scope="session")
def storage_environment(request: pytest.FixtureRequest) -> dict[str, str]:
    """Environment variables (endpoint and key) for processes that start before a test and use its home."""
    is_local = request.config.getoption("--storage") == LOCAL
    return {} if is_local else request.getfixturevalue("s3_server").environment


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A server for all tests of a session, in which Dagster and MLflow have made their tables."""
    if POSTGRES_BIN is None:
        pytest.fail("--storage=stack needs PostgreSQL (apt-get install postgresql)")
    with postgres_running() as server:
        _make_tables(server, tmp_path_factory.mktemp("dagster"))
        yield server


def _local_instances(folder: Path) -> NewInstance:
    @contextlib.contextmanager
    def new_instance() -> "Iterator[dg.DagsterInstance]":
        from luna_pipeline_tests.empty_storage import local_instance

        with local_instance(_new_folder(folder)) as instance:
            yield instance

    return new_instance


def _stack_instances(folder: Path, server: PostgresServer, patch: pytest.MonkeyPatch) -> NewInstance:
    @contextlib.contextmanager
    def new_instance() -> "Iterator[dg.DagsterInstance]":
        with (
            server.database_like("dagster") as database,
            _instance_on(server, database, _new_folder(folder), patch) as instance,
        ):
            yield instance

    return new_instance


@contextlib.contextmanager
def _instance_on(
    server: PostgresServer, database: str, folder: Path, patch: pytest.MonkeyPatch
) -> "Iterator[dg.DagsterInstance]":
    import dagster as dg

    files = {f"LUNA_DAGSTER_{kind}": str(folder / kind.lower()) for kind in ("FILES", "LOGS")}
    for name, value in {**server.dagster_environment(database), **files}.items():
        patch.setenv(name, value)
    shutil.copyfile(REPOSITORY / "deploy/stack/dagster.yaml", folder / "dagster.yaml")
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        yield instance


def _make_tables(server: PostgresServer, folder: Path) -> None:
    from mlflow import MlflowClient

    with pytest.MonkeyPatch.context() as patch, _instance_on(server, "dagster", folder, patch) as instance:
        for pool, limit in POOLS.items():
            instance.event_log_storage.set_concurrency_slots(pool, limit)
    MlflowClient(server.mlflow_address("mlflow")).search_experiments()
    # A database with open connections cannot be copied, and MLflow keeps its connections.
    server.cluster.execute(
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname IN ('dagster', 'mlflow')"
    )


def _new_folder(folder: Path) -> Path:
    new = folder / f"dagster_{len(list(folder.glob('dagster_*')))}"
    new.mkdir()
    return new
