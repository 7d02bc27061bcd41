"""The queue counts processes: a job and the runs inside it take one place. The coordinator's own function decides."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import dagster as dg
import pytest
import yaml
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.run_coordinator import SubmitRunContext
from dagster._core.storage.dagster_run import DagsterRun
from dagster._core.utils import make_new_run_id
from dagster._daemon.monitoring import concurrency
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon
from dagster._time import get_current_datetime

from luna_pipeline.runs import nested
from luna_pipeline.runs.coordinator import ProcessRunCoordinator
from luna_pipeline.runs.nested import PARENT_TAG, UNLAUNCHED_TAG
from luna_pipeline.runs.origins import LOCATION
from luna_pipeline_tests.processes import REPOSITORY

ACTIVE = ["STARTING", "STARTED", "CANCELING"]


@dg.job
def _job() -> None:
    pass


ORIGIN = RemoteJobOrigin(RemoteRepositoryOrigin(GrpcServerCodeLocationOrigin("here", 1, None, LOCATION), "r"), "_job")


@pytest.fixture
def instance(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[dg.DagsterInstance]:
    """An instance with one of the configurations, on SQLite."""
    settings = yaml.safe_load((REPOSITORY / getattr(request, "param", "dagster.yaml")).read_text())
    own = {key: settings[key] for key in ("telemetry", "run_coordinator", "concurrency", "run_monitoring")}
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(own))
    with dg.DagsterInstance.from_config(str(tmp_path)) as made:
        yield made


def submit(instance: dg.DagsterInstance, **tags: str) -> str:
    """Put a run into the queue, as page, sensors, backfills and retries do."""
    run = instance.create_run_for_job(_job, tags=tags, remote_job_origin=ORIGIN)
    return instance.run_coordinator.submit_run(SubmitRunContext(run, workspace=mock.Mock())).run_id


def start(instance: dg.DagsterInstance, run_id: str, status: str = "STARTED") -> None:
    run = instance.get_run_by_id(run_id)
    instance.run_storage.handle_run_event(run_id, _event(run, status))


def _event(run: DagsterRun, status: str) -> dg.DagsterEvent:
    kinds = {"STARTING": "PIPELINE_STARTING", "STARTED": "PIPELINE_START", "CANCELING": "PIPELINE_CANCELING"}
    return dg.DagsterEvent(kinds.get(status, f"PIPELINE_{status}"), run.job_name)


def nested_in(instance: dg.DagsterInstance, outer: str, status: str = "STARTED") -> str:
    """A run that another one started in its process, with its tags."""
    run_id = make_new_run_id()
    tags = {PARENT_TAG: outer, UNLAUNCHED_TAG: run_id}
    return instance.create_run_for_job(_job, run_id=run_id, tags=tags, status=dg.DagsterRunStatus(status)).run_id


def launched_next(instance: dg.DagsterInstance) -> list[str]:
    """The runs that the daemon would launch now."""
    daemon = QueuedRunCoordinatorDaemon(interval_seconds=5)
    runs = daemon._get_runs_to_dequeue(instance, instance.get_concurrency_config(), fixed_iteration_time=None)
    return [run.run_id for run in runs]


@pytest.mark.parametrize(
    ("instance", "places"), [("dagster.yaml", 2), ("deploy/stack/dagster.yaml", 8)], indirect=["instance"]
)
def test_a_job_and_the_runs_inside_it_take_one_place(instance: dg.DagsterInstance, places: int):
    assert isinstance(instance.run_coordinator, ProcessRunCoordinator)
    waiting = [submit(instance, **tags) for tags in [{}, {"dagster/partition": "a"}, {"dagster/backfill": "b"}] * 3]
    assert launched_next(instance) == waiting[:places]
    for outer in waiting[: places - 1]:
        start(instance, outer)
        for status in ACTIVE:
            # A training: the run inside it, and those that this one started.
            nested_in(instance, outer, status)
    assert launched_next(instance) == [waiting[places - 1]]
    start(instance, waiting[places - 1])
    assert launched_next(instance) == []
    start(instance, waiting[0], "SUCCESS")
    assert launched_next(instance) == [waiting[places]]


def test_runs_on_a_terminal_and_reexecuted_nested_runs_take_a_place(instance: dg.DagsterInstance):
    on_terminal = instance.create_run_for_job(_job, status=dg.DagsterRunStatus.STARTED)
    with mock.patch.object(nested, "belongs_here", return_value=True):
        nested.register_unlaunched(instance, on_terminal)
    # The tags of a re-execution are copies.
    reexecuted, last = (submit(instance, **{PARENT_TAG: "outer", UNLAUNCHED_TAG: "parent"}) for _ in range(2))
    assert launched_next(instance) == [reexecuted]
    start(instance, reexecuted)
    assert launched_next(instance) == []
    instance.report_run_failed(instance.get_run_by_id(on_terminal.run_id))
    assert launched_next(instance) == [last]


@pytest.mark.parametrize("instance", ["dagster.yaml", "deploy/stack/dagster.yaml"], indirect=True)
def test_slots_of_a_killed_run_are_free_soon_after_its_end(instance: dg.DagsterInstance):
    storage, ends = instance.event_log_storage, ["FAILURE", "CANCELED", "SUCCESS"]
    storage.set_concurrency_slots("gpu", len(ends))
    for end in ends:
        run = instance.create_run_for_job(_job, status=dg.DagsterRunStatus.STARTED)
        assert storage.claim_concurrency_slot("gpu", run.run_id, "train").is_claimed
        start(instance, run.run_id, end)
    free = []
    for seconds in (25, 45):
        later = get_current_datetime() + timedelta(seconds=seconds)
        with mock.patch.object(concurrency, "get_current_datetime", return_value=later):
            list(concurrency.execute_concurrency_slots_iteration(SimpleNamespace(instance=instance), mock.Mock()))
        free.append(len(ends) - storage.get_concurrency_info("gpu").active_slot_count)
    assert free == [0, len(ends)]
