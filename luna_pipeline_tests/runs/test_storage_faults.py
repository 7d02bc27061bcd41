"""DAGSTER_HOME that is deleted, read-only or full under a run is one line; other errors stay what they are."""

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import pytest
import sqlalchemy

from luna_pipeline.runs import leases, storage_faults
from luna_pipeline.runs.executor import interruptible_executor


class ProcessEnded(BaseException):
    """Raised in place of the end of this process."""


LINES: list[str] = []
"""With which the process would have ended."""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    (tmp_path / "home/dagster.yaml").write_text("telemetry: {enabled: false}\n")
    return tmp_path / "home"


@pytest.fixture
def instance(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    def give_up(_run_id: str, reason: str) -> None:
        LINES.append(reason)
        raise ProcessEnded

    LINES.clear()
    monkeypatch.setattr(storage_faults, "give_up", give_up)
    with dg.DagsterInstance.from_config(str(home)) as made:
        yield made


WORK: list[Callable[[dg.OpExecutionContext], object]] = []


@dg.op
def op_of_test(context: dg.OpExecutionContext) -> None:
    WORK[-1](context)


@dg.job(executor_def=interruptible_executor)
def job_of_test() -> None:
    op_of_test()


def run_with(instance: dg.DagsterInstance, work: Callable[[dg.OpExecutionContext], object]) -> dg.JobExecutionResult:
    WORK.append(work)
    # `execute_in_process` would take another executor.
    return dg.execute_job(dg.reconstructable(job_of_test), instance=instance)


def ended_by(instance: dg.DagsterInstance, work: Callable[[dg.OpExecutionContext], object]) -> str:
    # Dagster goes on after the exception that stands for the end, and may fail with another one.
    with pytest.raises((ProcessEnded, sqlalchemy.exc.OperationalError)):
        run_with(instance, work)
    return LINES[0]


def line_of(instance: dg.DagsterInstance, damage: Callable[[], object]) -> str:
    """The line with which a run ends whose storage is damaged between two lines of its log."""

    def work(context: dg.OpExecutionContext) -> None:
        context.log.info("before")
        damage()
        context.log.info("after")

    line = ended_by(instance, work)
    assert "\n" not in line
    assert line.startswith("DAGSTER_HOME must be a writable folder with free space until the run ends, got ")
    assert line.endswith("Run the job again afterwards: files that are finished are kept.")
    return line


def test_deleted_folder(instance: dg.DagsterInstance, home: Path):
    assert f"got one that was deleted ({home}). Correct that" in line_of(instance, lambda: shutil.rmtree(home))


def test_folder_that_was_deleted_and_made_again(instance: dg.DagsterInstance, home: Path):
    def replace() -> None:
        shutil.rmtree(home)
        home.mkdir()
        with dg.DagsterInstance.local_temp(str(home)):
            # As a page or daemon makes it that still runs.
            pass

    assert f"got one that was deleted and made again ({home})" in line_of(instance, replace)


@pytest.mark.parametrize(
    ("error", "got"),
    [
        ("attempt to write a readonly database", "one that is read-only"),
        ("database or disk is full", "a full disk"),
        ("database is locked", "a database that another process has locked for a minute"),
        ("no such table: kvs", "one that was deleted and made again"),
        ("something new", "OperationalError: something new"),
    ],
)
def test_errors_of_sqlite(instance: dg.DagsterInstance, monkeypatch, error: str, got: str):
    def fail(*_: object, **_options: object) -> None:
        raise sqlalchemy.exc.OperationalError("INSERT INTO\nevent_logs", {}, sqlite3.OperationalError(error))

    def damage() -> None:
        monkeypatch.setattr(instance.event_log_storage, "store_event", fail)
        monkeypatch.setattr(instance.daemon_cursor_storage, "set_cursor_values", fail)

    assert f"got {got} ({instance.root_directory})" in line_of(instance, damage)


def test_runs_whose_own_work_fails_are_recorded_as_before(instance: dg.DagsterInstance):
    def work(_context: dg.OpExecutionContext) -> None:
        raise sqlalchemy.exc.OperationalError("SELECT", {}, sqlite3.OperationalError("database or disk is full"))

    # Such as MLflow's database: Dagster's own works.
    result = run_with(instance, work)
    assert not result.success
    assert instance.get_run_by_id(result.run_id).status == dg.DagsterRunStatus.FAILURE


def test_reads_of_a_step_are_guarded_too(instance: dg.DagsterInstance, home: Path):
    def work(context: dg.OpExecutionContext) -> None:
        shutil.rmtree(home)
        context.instance.get_run_by_id(context.run_id)

    assert "got one that was deleted" in ended_by(instance, work)


def test_a_nested_run_leaves_the_guard_of_its_outer_run_in_place(instance: dg.DagsterInstance, home: Path):
    def work(context: dg.OpExecutionContext) -> None:
        with storage_faults.guarded_events(context.instance, "inner"):
            pass
        shutil.rmtree(home)
        context.log.info("after")

    assert "got one that was deleted" in ended_by(instance, work)


def test_other_storages_are_named_by_their_first_line():
    error = sqlalchemy.exc.OperationalError("SELECT 1", {}, OSError('connection to "postgres" failed\nIs it running?'))
    line = storage_faults.describe_fault(SimpleNamespace(event_log_storage=object()), error)
    assert line.startswith('Dagster\'s storage must answer until the run ends, got OSError: connection to "postgres" ')
    assert "\n" not in line
    assert "Is it running" not in line


def test_lease_that_cannot_be_renewed_says_why_once_and_at_the_end(instance, home: Path, monkeypatch, capsys):
    ended: list[str] = []
    monkeypatch.setattr(leases, "give_up", lambda _run_id, reason: ended.append(reason))
    renewal = leases._Renewal(instance, "a run")
    shutil.rmtree(home)
    waits = iter([False, False, False, True])
    monkeypatch.setattr(renewal.over, "wait", lambda _seconds: next(waits))
    with contextlib.suppress(StopIteration):
        renewal.renew()
    assert capsys.readouterr().err.count("Lease of run a run not renewed. DAGSTER_HOME must be") == 1
    renewal.unrenewed_seconds = int(leases.STOP_AFTER_SECONDS) - 1
    waits = iter([False, True])
    renewal.watch()
    assert f"got one that was deleted ({home})" in ended[0]


def test_last_line_reaches_the_terminal_although_the_captured_output_is_deleted(
    instance: dg.DagsterInstance, tmp_path: Path, monkeypatch, capfd
):
    monkeypatch.undo()
    monkeypatch.setattr(storage_faults.os, "_exit", lambda _code: None)
    monkeypatch.setattr("psutil.Process", lambda: SimpleNamespace(children=lambda recursive: []))
    terminal, captured = os.dup(2), (tmp_path / "captured").open("w")
    with captured, storage_faults.guarded_events(instance, "a run"):
        os.dup2(captured.fileno(), 2)
        (tmp_path / "captured").unlink()
        storage_faults.give_up("a run", "DAGSTER_HOME must stay, got none.")
        os.dup2(terminal, 2)
    os.close(terminal)
    assert capfd.readouterr().err.endswith(f"given up by process {os.getpid()}. DAGSTER_HOME must stay, got none.\n")
