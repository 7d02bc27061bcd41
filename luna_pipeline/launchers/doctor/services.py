"""Findings about MLflow, Dagster and Ray: what the variables name answers, and is up to date."""

import contextlib
import filecmp
import importlib.util
import os
import re
import socket
import sqlite3
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from luna_pipeline.launchers.doctor.findings import Finding
from luna_pipeline.settings import REPOSITORY, Settings
from luna_pipeline.tracking.outbox import without_password

_SECONDS_TO_ANSWER = 5.0
_START_DAGSTER = "Run `make ui`, which starts Dagster's page and daemon."


def mlflow(settings: Settings) -> Iterator[Finding]:
    """Report whether the tracking store answers: a server, an SQLite file or another database."""
    uri = settings.mlflow_tracking_uri
    if uri.startswith("sqlite:///"):
        yield _sqlite_store(Path(uri.removeprefix("sqlite:///")))
    elif uri.startswith("http"):
        yield _server("MLflow", f"{uri.rstrip('/')}/health", "Start it (`make mlflow-server`) or correct")
    elif "://" in uri and urllib.parse.urlsplit(uri).hostname:
        parts = urllib.parse.urlsplit(uri)
        yield _port("MLflow", str(parts.hostname), parts.port or 5432, "Start the database or correct")
    else:
        folder = Path(urllib.parse.urlsplit(uri).path)
        is_there = folder.is_dir()
        fix = "" if is_there else "Correct MLFLOW_TRACKING_URI."
        yield Finding("MLflow", "ok" if is_there else "problem", f"folder {folder}", fix)


def _sqlite_store(path: Path) -> Finding:
    if not path.exists():
        return Finding("MLflow", "ok", f"{path} (made by the first training)")
    try:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=2)) as database:
            (revision,) = database.execute("SELECT version_num FROM alembic_version").fetchone()
    except (sqlite3.Error, TypeError) as error:
        return Finding("MLflow", "problem", f"{path}: {error}", "Move the file away, or set MLFLOW_TRACKING_URI.")
    if revision != (newest := newest_mlflow_revision()):
        value = f"{path} is of another version of MLflow ({revision}, needed {newest})"
        return Finding("MLflow", "problem", value, "make mlflow-migrate")
    return Finding("MLflow", "ok", f"{path}; look at it with `make mlflow-server`")


def newest_mlflow_revision() -> str | None:
    """Return the revision of the database that the installed MLflow needs, without importing it: that takes seconds."""
    found = importlib.util.find_spec("mlflow")
    if found is None or not found.submodule_search_locations:
        return None
    folder = Path(found.submodule_search_locations[0]) / "store/db_migrations/versions"
    texts = [path.read_text() for path in folder.glob("*.py")]
    older = {match[1] for text in texts if (match := re.search(r'^down_revision = "(\w+)"', text, re.MULTILINE))}
    own = [match[1] for text in texts if (match := re.search(r'^revision = "(\w+)"', text, re.MULTILINE))]
    return next((revision for revision in own if revision not in older), None)


def dagster(home: str | None) -> Iterator[Finding]:
    """Report on the folder of Dagster's history, its ``dagster.yaml`` and its daemon.

    Args:
        home: Value of DAGSTER_HOME.
    """
    if not home:
        value = "not set, so runs leave no history and partitions are forgotten"
        yield Finding("DAGSTER_HOME", "note", value, "export DAGSTER_HOME=$PWD/.luna/dagster (the make targets set it)")
        return
    folder, ours = Path(home), REPOSITORY / "dagster.yaml"
    own = folder / "dagster.yaml"
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        state = "cannot be written" if folder.is_dir() else "no such folder"
        yield Finding("DAGSTER_HOME", "problem", f"{folder}: {state}", f"mkdir -p {folder} && cp dagster.yaml {folder}")
        return
    if not own.exists():
        yield Finding("DAGSTER_HOME", "problem", f"{folder}: no dagster.yaml", f"cp {ours} {own}")
        return
    is_ours = not ours.exists() or filecmp.cmp(own, ours, shallow=False)
    value = f"{folder}: dagster.yaml " + ("is the project's" if is_ours else f"differs from {ours}")
    yield Finding("DAGSTER_HOME", "ok" if is_ours else "note", value, "" if is_ours else f"cp {ours} {own}")
    yield _daemon(folder)


def _daemon(home: Path) -> Finding:
    from dagster import DagsterInstance

    with DagsterInstance.from_config(str(home)) as instance:
        statuses = instance.get_daemon_statuses()
    needed = {name: status for name, status in statuses.items() if status.required}
    silent = sorted(name.lower() for name, status in needed.items() if not status.healthy)
    beats = [status.last_heartbeat.timestamp for status in needed.values() if status.last_heartbeat]
    if not silent:
        return Finding("Dagster's daemon", "ok", f"heartbeat {time.time() - max(beats):.0f} s ago")
    if not beats:
        return Finding("Dagster's daemon", "note", "has never run: automations and the queue need it", _START_DAGSTER)
    value = f"silent for {time.time() - max(beats):.0f} s ({', '.join(silent)}): automations and the queue need it"
    return Finding("Dagster's daemon", "note", value, _START_DAGSTER)


def ray(address: str | None) -> Iterator[Finding]:
    """Report whether the head of the cluster answers; ``address`` is the value of RAY_ADDRESS."""
    if not address:
        yield Finding("RAY_ADDRESS", "ok", "not set: Ray runs on this machine when it is needed")
    elif "://" in address or ":" not in address:
        value = f"{address} is not HOST:PORT"
        yield Finding("RAY_ADDRESS", "problem", value, "export RAY_ADDRESS=HOST:6379, the head of the cluster")
    else:
        host, _, port = address.rpartition(":")
        if not port.isdecimal():
            yield Finding("RAY_ADDRESS", "problem", f"{address} is not HOST:PORT", "export RAY_ADDRESS=HOST:6379")
            return
        yield _port("RAY_ADDRESS", host.strip("[]"), int(port), "Start the head (`ray start --head`) or unset")


def _server(name: str, address: str, advice: str) -> Finding:
    shown = without_password(address)
    parts = urllib.parse.urlsplit(address)
    # urllib takes no password in an address; whether the server is there needs none.
    plain = urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    try:
        with urllib.request.urlopen(plain, timeout=_SECONDS_TO_ANSWER):
            return Finding(name, "ok", f"{shown} answers")
    except urllib.error.HTTPError as error:
        # A server that asks for a password is there.
        is_closed = error.code in (401, 403)
        fix = "" if is_closed else f"{advice} MLFLOW_TRACKING_URI."
        return Finding(name, "ok" if is_closed else "problem", f"{shown} answers with status {error.code}", fix)
    except OSError as error:
        reason = getattr(error, "reason", error)
        return Finding(name, "problem", f"{shown} does not answer: {reason}", f"{advice} MLFLOW_TRACKING_URI.")


def _port(name: str, host: str, port: int, advice: str) -> Finding:
    variable = "MLFLOW_TRACKING_URI" if name == "MLflow" else name
    try:
        socket.create_connection((host, port), timeout=_SECONDS_TO_ANSWER).close()
    except OSError as error:
        return Finding(name, "problem", f"{host}:{port} does not answer: {error}", f"{advice} {variable}.")
    return Finding(name, "ok", f"{host}:{port} answers")
