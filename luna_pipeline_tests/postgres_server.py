"""A real PostgreSQL server (Debian's package) with the stack's roles and databases; each test gets a new database."""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from luna_pipeline_tests.processes import REPOSITORY, free_port, wait_for

POSTGRES_BIN = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)


@dataclass(frozen=True)
class PostgresCluster:
    """Data folder of PostgreSQL, as the image's entrypoint makes it at its first start.

    Attributes:
        folder: Its own, outside of pytest's: those are closed to other users, and PostgreSQL does not run as root.
        port: Where it listens, on loopback and in the folder.
        environment: Of its processes; with the passwords, by the names that they have in the compose file.
    """

    folder: Path
    port: int
    environment: Mapping[str, str]

    @classmethod
    def in_new_folder(cls, *, port: int, environment: Mapping[str, str]) -> "PostgresCluster":
        return cls(Path(tempfile.mkdtemp(prefix="luna_postgres_")), port, environment)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def command(self) -> list[str]:
        options = ["-D", str(self.data), "-c", "listen_addresses=127.0.0.1", "-k", str(self.data), "-p", str(self.port)]
        return [*_as_postgres(), "postgres", *options]

    def initialize(self) -> None:
        secret = self.folder / "superuser"
        secret.write_text(self.environment["POSTGRES_PASSWORD"])
        if os.geteuid() == 0:
            for path in (self.folder, secret):
                shutil.chown(path, "postgres", "postgres")
        self._run(
            *_as_postgres(),
            "initdb",
            "-D",
            str(self.data),
            "-U",
            "postgres",
            "-A",
            "scram-sha-256",
            f"--pwfile={secret}",
        )

    def wait(self, *, limit_seconds: float = 30) -> None:
        asked = ["pg_isready", f"--host={self.data}", f"--port={self.port}"]
        wait_for(
            lambda: subprocess.run(asked, env=self.environment, capture_output=True, check=False).returncode == 0,
            limit_seconds=limit_seconds,
            what="PostgreSQL's first start",
        )

    def make_databases(self) -> None:
        """Run the project's script, as the image's entrypoint does."""
        self._run("bash", str(REPOSITORY / "deploy/stack/databases.sh"))

    def execute(self, *statements: str) -> None:
        """Run statements as superuser."""
        commands = [f"--command={statement}" for statement in statements]
        self._run("psql", "--quiet", "--no-psqlrc", "--username=postgres", "--dbname=postgres", *commands)

    def _run(self, *command: str) -> None:
        place = {
            "PGHOST": str(self.data),
            "PGPORT": str(self.port),
            "PGPASSWORD": self.environment["POSTGRES_PASSWORD"],
        }
        environment = {**self.environment, **place}
        subprocess.run(command, env=environment, cwd=self.folder, check=True, capture_output=True)


def _as_postgres() -> list[str]:
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []


@dataclass(frozen=True)
class PostgresServer:
    """A running server with databases that tests copy: to make the tables takes seconds, a copy less."""

    cluster: PostgresCluster

    @contextlib.contextmanager
    def database_like(self, name: str) -> Iterator[str]:
        """Make a database with the tables of `dagster` or `mlflow`; it is dropped at the end, with its connections."""
        copy = f"{name}_{uuid.uuid4().hex}"
        self.cluster.execute(f"CREATE DATABASE {copy} TEMPLATE {name} OWNER {name}")
        try:
            yield copy
        finally:
            self.cluster.execute(f"DROP DATABASE {copy} WITH (FORCE)")

    def dagster_environment(self, database: str) -> dict[str, str]:
        """Environment variables that deploy/stack/dagster.yaml reads."""
        return {
            "DAGSTER_POSTGRES_HOST": "127.0.0.1",
            "DAGSTER_POSTGRES_PORT": str(self.cluster.port),
            "DAGSTER_POSTGRES_DB": database,
            "DAGSTER_POSTGRES_USER": "dagster",
            "DAGSTER_POSTGRES_PASSWORD": self.cluster.environment["DAGSTER_POSTGRES_PASSWORD"],
        }

    def mlflow_address(self, database: str) -> str:
        password = self.cluster.environment["MLFLOW_POSTGRES_PASSWORD"]
        return f"postgresql+psycopg2://mlflow:{password}@127.0.0.1:{self.cluster.port}/{database}"


@contextlib.contextmanager
def postgres_running() -> Iterator[PostgresServer]:
    """Start a server with the stack's databases, empty; its files are deleted at the end."""
    passwords = {f"{name}POSTGRES_PASSWORD": secrets.token_hex(32) for name in ("", "DAGSTER_", "MLFLOW_", "JOBS_")}
    outer = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "POSTGRES_"))}
    environment = {**outer, **passwords, "PATH": f"{POSTGRES_BIN}:{os.environ['PATH']}"}
    cluster = PostgresCluster.in_new_folder(port=free_port(), environment=environment)
    try:
        cluster.initialize()
        # Tests do not need their data after a power cut.
        quick = ["-c", "fsync=off", "-c", "full_page_writes=off"]
        with (cluster.folder / "log.txt").open("ab") as log:
            process = subprocess.Popen(
                [*cluster.command, *quick],
                env=environment,
                cwd=cluster.folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            cluster.wait()
            cluster.make_databases()
            yield PostgresServer(cluster)
        finally:
            # PostgreSQL's fast shutdown: it disconnects its clients and frees its shared memory.
            process.send_signal(signal.SIGINT)
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    finally:
        shutil.rmtree(cluster.folder, ignore_errors=True)
