"""An MLflow run as a value, and a context manager that ends it with its true status.

MLflow's global active run is not used: every call goes through a client bound to one tracking server.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from luna_pipeline.core.events.messages import Message
from luna_pipeline.tracking.mlflow_requests import HASTY, first_answer, mlflow_requests
from luna_pipeline.tracking.moved_home import ARTIFACTS, adopt_moved_home, local_folder
from luna_pipeline.tracking.outbox import PATIENCE_SECONDS, Outbox, without_password

if TYPE_CHECKING:
    from mlflow import MlflowClient

FINISHED, FAILED, KILLED = "FINISHED", "FAILED", "KILLED"
NOTE_TAG = "mlflow.note.content"
"""Tag of the description that MLflow's page shows."""
SYSTEM_METRICS_SECONDS = 10.0
ERROR_PATIENCE_SECONDS = 10.0


@dataclass(frozen=True)
class MlflowRun:
    """One run of one tracking server.

    Attributes:
        client: Client of that server.
        run_id: The run's id.
        tracking_uri: The server's address or ``sqlite:///…``.
        note: End of the run's description, in Markdown: its ``NOTE_TAG`` when it was opened.
    """

    client: MlflowClient
    run_id: str
    tracking_uri: str
    note: str = ""

    @classmethod
    def at(cls, tracking_uri: str, run_id: str) -> MlflowRun:
        """Return the run ``run_id`` of the server at ``tracking_uri``, without a request to the server."""
        from mlflow import MlflowClient

        return cls(client=MlflowClient(tracking_uri), run_id=run_id, tracking_uri=tracking_uri)


# Takes the name of a run, and the id of the run to continue (None for a new one).
OpenMlflowRun = Callable[[str, str | None], contextlib.AbstractContextManager[MlflowRun]]


@contextlib.contextmanager
def mlflow_run(
    tracking_uri: str,
    *,
    experiment: str,
    artifact_location: str | Path | None,
    run_name: str | None = None,
    run_id: str | None = None,
    identity: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
    system_metrics_seconds: float | None = SYSTEM_METRICS_SECONDS,
) -> Iterator[MlflowRun]:
    """Start or continue a run; it ends FINISHED, FAILED after an error, or KILLED after an interrupt.

    Args:
        tracking_uri: A server's address or ``sqlite:///…`` (its folder is created).
        experiment: Name of the experiment, created where it is missing.
        artifact_location: Folder or URI for the artifacts of a new experiment; None leaves it to the server,
            which is right for ``http`` and puts ``mlruns`` into the current folder otherwise.
        run_name: Name shown in the list of runs; MLflow generates one for a new run without it.
        run_id: The run to continue; a new one is started if it no longer exists.
        identity: Tags that identify the run. Without ``run_id``, the newest run with all of them is continued.
        tags: Further tags of the run.
        system_metrics_seconds: Interval at which CPU, memory, disk and network are recorded; None for never.

    Yields:
        The run, open for logging.

    Raises:
        TrackerUnavailableError: If MLflow cannot be reached.
        ValueError: If the experiment was deleted in MLflow.
    """
    from mlflow import MlflowClient

    if tracking_uri.startswith("sqlite:///"):
        database = Path(tracking_uri.removeprefix("sqlite:///"))
        database.parent.mkdir(parents=True, exist_ok=True)
        adopt_moved_home(database, database.with_name(ARTIFACTS))
    client = MlflowClient(tracking_uri)
    first_answer(lambda: client.get_experiment_by_name(experiment), tracking_uri)
    with mlflow_requests(HASTY):
        experiment_id = experiment_id_of(client, experiment, artifact_location=artifact_location)
        if run_id is None and identity:
            run_id = run_id_by_tags(client, identity, experiment_id=experiment_id)
        all_tags = {**(identity or {}), **(tags or {})}
        opened = _reopened(client, run_id, run_name=run_name, tags=all_tags)
        if opened is None:
            opened = str(client.create_run(experiment_id, run_name=run_name, tags=all_tags).info.run_id)
    run = MlflowRun(client=client, run_id=opened, tracking_uri=tracking_uri, note=all_tags.get(NOTE_TAG, ""))
    with _true_status(run):
        _check_artifacts(run)
        with _system_metrics(run, system_metrics_seconds):
            yield run


def run_id_by_tags(client: MlflowClient, tags: Mapping[str, str], *, experiment_id: str) -> str | None:
    """Return the id of the experiment's newest run with all these tags, or None; values must not contain quotes."""
    wanted = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
    found = client.search_runs([experiment_id], filter_string=wanted, max_results=1)
    return str(found[0].info.run_id) if found else None


def experiment_id_of(client: MlflowClient, name: str, *, artifact_location: str | Path | None) -> str:
    """Return the id of an experiment; a missing one is created, with this folder or URI for its artifacts.

    Raises:
        ValueError: If the experiment was deleted in MLflow.
    """
    from mlflow.exceptions import MlflowException

    if isinstance(artifact_location, Path):
        artifact_location = artifact_location.absolute().as_uri()
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return client.create_experiment(name, artifact_location=artifact_location)
        except MlflowException as error:
            # Another process created it in the meantime.
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = client.get_experiment_by_name(name)
    if found is None or found.lifecycle_stage == "deleted":
        msg = f"An experiment must be there to log into, got a deleted one ({name}). Restore it in MLflow."
        raise ValueError(msg)
    return str(found.experiment_id)


def _reopened(client: MlflowClient, run_id: str | None, *, run_name: str | None, tags: Mapping[str, str]) -> str | None:
    """Set a run to RUNNING and tag it; return its id, or None if it does not exist or was deleted."""
    from mlflow.entities import RunTag
    from mlflow.exceptions import MlflowException

    if run_id is None:
        return None
    try:
        if client.get_run(run_id).info.lifecycle_stage == "deleted":
            return None
    except MlflowException as error:
        # Removed by hand, or logged to another server: train all the same.
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
    client.update_run(run_id, status="RUNNING", name=run_name)
    client.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])
    return run_id


def _check_artifacts(run: MlflowRun) -> None:
    """Raise an OSError if the run's artifacts have a folder on this machine that cannot be written."""
    with mlflow_requests(HASTY):
        folder = local_folder(run.client.get_run(run.run_id).info.artifact_uri)
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise artifacts_error(error, run.run_id) from error


def artifacts_error(error: OSError, run_id: str) -> OSError:
    """Return an error of the artifact store with its rule and remedy; the error number stays."""
    msg = f"MLflow's artifacts must be stored, got {error.strerror} (run {run_id}, {error.filename})"
    return OSError(error.errno, f"{msg}. Make the folder writable, and run the same command again.")


@contextlib.contextmanager
def _true_status(run: MlflowRun) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        is_failure = isinstance(error, Exception)
        try:
            # An interrupted process must end soon.
            _end(run, FAILED if is_failure else KILLED, patience_seconds=ERROR_PATIENCE_SECONDS if is_failure else 0)
        except Exception as second:
            # The first error is the one to report.
            error.add_note(
                f"MLflow run {run.run_id} could not be ended and still looks running: {without_password(str(second))}"
            )
        raise
    _end(run, FINISHED, patience_seconds=PATIENCE_SECONDS)


@dataclass(frozen=True, kw_only=True)
class _RunEnd(Message):
    """The run has ended."""

    must_succeed: ClassVar[bool] = True
    status: str


def _end(run: MlflowRun, status: str, *, patience_seconds: float) -> None:
    """Set the status of an ended run; an outage is reported and waited for."""

    def send(end: _RunEnd) -> None:
        with mlflow_requests(HASTY):
            run.client.set_terminated(run.run_id, end.status)

    box = Outbox(f"MLflow run {run.run_id}", clock=time.monotonic, sleep=time.sleep)
    box.send(send, _RunEnd(status=status), patience_seconds=patience_seconds)


@contextlib.contextmanager
def _system_metrics(run: MlflowRun, seconds: float | None) -> Iterator[None]:
    if seconds is None:
        yield
        return
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    # The class is not typed.
    monitor_class: Any = SystemMetricsMonitor
    monitor = monitor_class(run.run_id, sampling_interval=seconds, resume_logging=True, tracking_uri=run.tracking_uri)
    monitor.start()
    try:
        yield
    finally:
        monitor.finish()
