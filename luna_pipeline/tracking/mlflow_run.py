"""An MLflow run as a value, and a run that always ends with its true status.

Nothing here relies on MLflow's global active run: every call goes through a client bound to one address.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luna_pipeline.core.events.outbox import without_password
from luna_pipeline.tracking.mlflow_requests import HASTY, mlflow_requests

if TYPE_CHECKING:
    from mlflow import MlflowClient

from collections.abc import Callable

FINISHED, FAILED, KILLED = "FINISHED", "FAILED", "KILLED"
SYSTEM_METRICS_SECONDS = 10.0


@dataclass(frozen=True)
class MlflowRun:
    """One run of one tracking server.

    Attributes:
        client: Client of that server.
        run_id: The run's id.
        tracking_uri: The server's address or ``sqlite:///…``.
    """

    client: MlflowClient
    run_id: str
    tracking_uri: str

    @classmethod
    def at(cls, tracking_uri: str, run_id: str) -> MlflowRun:
        """Return the run ``run_id`` of the server at ``tracking_uri``, without asking the server."""
        from mlflow import MlflowClient

        return cls(client=MlflowClient(tracking_uri), run_id=run_id, tracking_uri=tracking_uri)


@contextlib.contextmanager
def mlflow_run(
    tracking_uri: str,
    *,
    experiment: str,
    artifact_location: str | Path | None,
    run_name: str | None = None,
    tags: Mapping[str, str] | None = None,
    system_metrics_seconds: float | None = SYSTEM_METRICS_SECONDS,
    run_id: str | None = None,
) -> Iterator[MlflowRun]:
    """Start a run, or go on in one, and end it truthfully: FINISHED, FAILED after an error, KILLED by an interrupt.

    Args:
        tracking_uri: A server's address or ``sqlite:///…`` (its folder is made where it is missing).
        experiment: Name of the experiment; made where it is missing.
        artifact_location: Folder or URI for the artifacts of a new experiment; None leaves it to the server,
            which is right for ``http`` and puts ``mlruns`` into the current folder otherwise.
        run_name: Name shown in the list of runs; MLflow invents one without it.
        tags: Tags of the run.
        system_metrics_seconds: How often CPU, memory, disk and network are recorded; None switches that off.
        run_id: The run to go on in, where it still exists; None for a new one.

    Yields:
        The run, open for logging.
    """
    from mlflow import MlflowClient

    _make_database_folder(tracking_uri)
    client = MlflowClient(tracking_uri)
    experiment_id = experiment_id_of(client, experiment, artifact_location=artifact_location)
    opened = reopened_or_new_run(client, run_id, experiment_id=experiment_id, run_name=run_name, tags=tags or {})
    run = MlflowRun(client=client, run_id=opened, tracking_uri=tracking_uri)
    with _true_status(run), _system_metrics(run, system_metrics_seconds):
        yield run


def reopened_or_new_run(
    client: MlflowClient,
    run_id: str | None,
    *,
    experiment_id: str,
    run_name: str | None,
    tags: Mapping[str, str],
) -> str:
    """Set a run RUNNING again, or make one where there is none (any more).

    Args:
        client: Client of the server.
        run_id: The run to go on in; None for a new one.
        experiment_id: Where a new run belongs.
        run_name: Name of a new run; MLflow invents one without it.
        tags: Tags of the run, new or not.

    Returns:
        The id of the open run.
    """
    from mlflow.exceptions import MlflowException

    try:
        found = None if run_id is None else client.get_run(run_id)
    except MlflowException as error:
        # Somebody cleared it away, or it was kept by another server: training goes on all the same.
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        found = None
    if found is None or found.info.lifecycle_stage == "deleted":
        return str(client.create_run(experiment_id, run_name=run_name, tags=dict(tags)).info.run_id)
    client.update_run(found.info.run_id, status="RUNNING")
    for name, value in tags.items():
        client.set_tag(found.info.run_id, name, value)
    return str(found.info.run_id)


def run_id_by_tags(client: MlflowClient, tags: Mapping[str, str], *, experiment_id: str) -> str | None:
    """Return the newest run that has all these tags, or None.

    Args:
        client: Client of the server.
        tags: Names, and values without a quotation mark.
        experiment_id: Where to look.
    """
    wanted = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
    found = client.search_runs([experiment_id], filter_string=wanted, max_results=1)
    return str(found[0].info.run_id) if found else None


def experiment_id_of(client: MlflowClient, name: str, *, artifact_location: str | Path | None) -> str:
    """Return the id of the experiment ``name``, which is made where it is missing.

    Args:
        client: Client of the server.
        name: Name of the experiment.
        artifact_location: Folder or URI for the artifacts of a new experiment.

    Raises:
        ValueError: If the experiment was deleted in MLflow.
    """
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return client.create_experiment(name, artifact_location=_as_uri(artifact_location))
        except MlflowException as error:
            # Another process made it between the question and the answer.
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = client.get_experiment_by_name(name)
    if found is None or found.lifecycle_stage == "deleted":
        msg = f"An experiment must be there to log into, got a deleted one ({name}). Restore it in MLflow."
        raise ValueError(msg)
    return str(found.experiment_id)


def status_after(error: BaseException | None) -> str:
    """Return the status of a run that ended with ``error``; an interrupt is no failure of the work."""
    if error is None:
        return FINISHED
    return FAILED if isinstance(error, Exception) else KILLED


@contextlib.contextmanager
def _true_status(run: MlflowRun) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        try:
            with mlflow_requests({} if isinstance(error, Exception) else HASTY):
                run.client.set_terminated(run.run_id, status_after(error))
        except Exception as second:
            # What went wrong first is what somebody has to read.
            error.add_note(
                f"MLflow run {run.run_id} could not be ended and still looks running: {without_password(str(second))}"
            )
        raise
    run.client.set_terminated(run.run_id, FINISHED)


@contextlib.contextmanager
def _system_metrics(run: MlflowRun, seconds: float | None) -> Iterator[None]:
    if seconds is None:
        yield
        return
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    # MLflow gives this class no types.
    monitor_class: Any = SystemMetricsMonitor
    monitor = monitor_class(run.run_id, sampling_interval=seconds, resume_logging=True, tracking_uri=run.tracking_uri)
    monitor.start()
    try:
        yield
    finally:
        monitor.finish()


def _as_uri(location: str | Path | None) -> str | None:
    return location.absolute().as_uri() if isinstance(location, Path) else location


def _make_database_folder(tracking_uri: str) -> None:
    if tracking_uri.startswith("sqlite:///"):
        Path(tracking_uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)


# Opens the MLflow run of this name; or the one with this id again, which an ended process has left.
OpenMlflowRun = Callable[[str, str | None], contextlib.AbstractContextManager[MlflowRun]]
