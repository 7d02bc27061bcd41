"""Access to a running stack through Docker Compose: its services, databases and versions.

Runs on the machine of the stack with Python alone.
"""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Sequence

DATABASES = ("dagster", "mlflow", "jobs")
STORAGES = ("postgres", "store")
# Alembic's table of Dagster and MLflow, and DBOS's of the jobs. A statement cannot name a table that may be missing.
_REVISION = """
SELECT CASE
  WHEN to_regclass('alembic_version') IS NOT NULL
    THEN (xpath('/row/version_num/text()', query_to_xml('SELECT version_num FROM alembic_version', true, true, '')))[1]
  WHEN to_regclass('dbos.dbos_migrations') IS NOT NULL
    THEN (xpath('/row/version/text()', query_to_xml('SELECT version FROM dbos.dbos_migrations', true, true, '')))[1]
END
"""
VERSIONS = """
import importlib.metadata as m, json
print(json.dumps({name: m.version(name) for name in ('luna-pipeline', 'dagster', 'mlflow')}))
"""


class NotPossibleError(Exception):
    """The command cannot be executed; the message is one line with the reason and what to do."""


class Compose:
    """The stack's services, through Docker Compose."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = list(command)

    def inside(self, service: str, *words: str) -> list[str]:
        """Return the command that executes words in the container of a running service."""
        return [*self._command, "exec", "-T", service, *words]

    def beside(self, service: str, *words: str) -> list[str]:
        """Return the command that executes words in a new, temporary container of the service."""
        return [*self._command, "run", "--rm", "--no-deps", "-T", service, *words]

    def running(self) -> set[str]:
        """Return the names of the services that run."""
        return set(said([*self._command, "ps", "--services", "--status", "running"]).split())

    def image(self) -> str:
        """Return the name of the project's image."""
        return str(json.loads(said([*self._command, "config", "--format", "json"]))["services"]["code"]["image"])

    def stop(self, names: Sequence[str]) -> None:
        """Stop services."""
        # Services of an inactive profile are listed only with that profile.
        said([*self._command, "--profile", "ray", "stop", *names])

    def start_storages(self) -> None:
        """Start only database and store, and wait until they are healthy."""
        said([*self._command, "up", "--detach", "--wait", "--no-deps", *STORAGES])


def said(command: Sequence[str]) -> str:
    """Run a command and return what it printed."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=False)
    refuse_failure(done.returncode, command)
    return done.stdout


def refuse_failure(code: int, command: Sequence[str], *, accepted: Sequence[int] = (0,)) -> None:
    """Raise a one-line error if a command's exit code is not accepted."""
    if code not in accepted:
        # Commands contain no passwords, which are in the containers' environments.
        shown = " ".join(shlex.join(command).split())
        shown = shown if len(shown) <= 160 else f"{shown[:100]} … {shown[-55:]}"
        raise NotPossibleError(f"A command must end with 0, got {code} ({shown}). Its own words are above.")


def by_role(database: str, program: str, *options: str) -> list[str]:
    """Return a command of PostgreSQL under the database's own role, with the password from the container."""
    password = f"${database.upper()}_POSTGRES_PASSWORD"
    place = ["--no-password", "--host=127.0.0.1", f"--username={database}", f"--dbname={database}"]
    return ["sh", "-c", f'PGPASSWORD="{password}" exec {shlex.join([program, *place, *options])}']


def ask(stack: Compose, database: str, statement: str) -> str:
    """Return the result of a statement in one of the databases, under its own role."""
    options = ["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1"]
    return said(stack.inside("postgres", *by_role(database, "psql", *options, f"--command={statement}"))).strip()


def make_databases(stack: Compose) -> None:
    """Create the roles and databases that an older version of the stack did not have."""
    script = 'PGHOST=127.0.0.1 PGPASSWORD="$POSTGRES_PASSWORD" exec bash /docker-entrypoint-initdb.d/databases.sh'
    said(stack.inside("postgres", "sh", "-c", script))


def schemas(stack: Compose) -> dict[str, str]:
    """Return the revision of each database's tables; empty for a database without tables."""
    return {name: ask(stack, name, _REVISION) for name in DATABASES}


def versions(stack: Compose) -> dict[str, str]:
    """Return the versions of the running code location, or of its image if it does not run."""
    words = ("python", "-c", VERSIONS)
    found = said(stack.inside("code", *words) if "code" in stack.running() else stack.beside("prepare", *words))
    server = ask(stack, "dagster", "SHOW server_version")
    return {"image": stack.image(), **json.loads(found), "postgresql": server}
