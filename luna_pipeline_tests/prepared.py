"""Homes in which the first jobs of a test have already run: made once a session, copied for each test.

Each sequence of jobs is run in this process, on top of the copy of a home in which all but its last job have run.
"""

import contextlib
import hashlib
import json
import shutil
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import dagster as dg
import pytest

from luna_pipeline_tests.empty_storage import local_instance

if TYPE_CHECKING:
    from luna_pipeline_tests.conftest import Folders

Job: TypeAlias = tuple[str, Mapping[str, Any]]
"""Name of a job and its run configuration."""

INGEST: Job = ("ingest", {})
CUT: Job = ("cut", {})
INDEX: Job = ("index", {})


def run_job(job: Job, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    """Run a job of the project in this process; it must succeed."""
    from luna_pipeline.definitions import defs

    name, config = job
    result = defs.resolve_job_def(name).execute_in_process(
        instance=instance, run_config=dict(config), raise_on_error=False
    )
    assert result.success, name
    return result


def run_on(folders: "Folders", job: Job) -> None:
    """Run a job in this process on an installation for processes; it must succeed."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in folders.environment.items():
            patch.setenv(name, value)
        with dg.DagsterInstance.from_config(str(folders.dagster)) as instance:
            run_job(job, instance)


class PreparedHomes:
    """Copies of a home and its Dagster home after given jobs.

    Args:
        data: Data root of all of them; only read.
        mlflow: MLflow's database without any run.
        folder: Folder for what is copied.
    """

    def __init__(self, data: Path, mlflow: Path, folder: Path) -> None:
        self._data = data
        self._mlflow = mlflow
        self._folder = folder

    def copy(self, jobs: tuple[Job, ...], *, home: Path, dagster: Path) -> None:
        """Copy a home and a Dagster home in which ``jobs`` have run; neither may exist yet."""
        source = self._made(jobs)
        shutil.copytree(source / "dagster", dagster, dirs_exist_ok=True)
        shutil.copytree(source / "home", home)
        _move_artifacts(home, old=source / "home")

    def _made(self, jobs: tuple[Job, ...]) -> Path:
        root = self._folder / hashlib.sha256(json.dumps(jobs, sort_keys=True).encode()).hexdigest()[:16]
        if (root / "whole").exists():
            return root
        if not jobs:
            (root / "dagster").mkdir(parents=True)
            (root / "home").mkdir()
            shutil.copyfile(self._mlflow, root / "home/mlflow.db")
        else:
            self.copy(jobs[:-1], home=root / "home", dagster=root / "dagster")
            with pytest.MonkeyPatch.context() as patch, local_instance(root / "dagster") as instance:
                patch.delenv("MLFLOW_TRACKING_URI", raising=False)
                patch.setenv("LUNA_DATA_DIR", str(self._data))
                patch.setenv("LUNA_HOME", str(root / "home"))
                run_job(jobs[-1], instance)
        (root / "whole").touch()
        return root


def _move_artifacts(home: Path, *, old: Path) -> None:
    """Replace the absolute paths that MLflow keeps of its artifacts."""
    with contextlib.closing(sqlite3.connect(home / "mlflow.db")) as database, database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            for _, column, kind, *_ in database.execute(f'PRAGMA table_info("{table}")').fetchall():
                if "CHAR" in kind.upper() or "TEXT" in kind.upper():
                    database.execute(
                        f'UPDATE "{table}" SET "{column}" = replace("{column}", ?, ?) WHERE instr("{column}", ?)',
                        (str(old), str(home), str(old)),
                    )
    for path in home.rglob("MLmodel"):
        path.write_text(path.read_text().replace(str(old), str(home)))
