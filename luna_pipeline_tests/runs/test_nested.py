"""Nested runs: whose process they share, what a re-execution keeps of their tags, what the outer run's log says."""

import re
from unittest import mock

import dagster as dg
import pytest
from dagster._core.launcher import DefaultRunLauncher, LaunchRunContext, WorkerStatus
from dagster._core.run_coordinator import SubmitRunContext

from luna_pipeline.runs.leases import LeaseWatch
from luna_pipeline.runs.nested import (
    MAX_RETRIES_TAG,
    PARENT_TAG,
    UNLAUNCHED_TAG,
    drop_copied_tags,
    outermost_run_id,
    run_nested_job,
)
from luna_pipeline.runs.origins import REPOSITORY_ORIGIN

FAILURE, STARTED = dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.STARTED


@dg.job
def _job() -> None:
    pass


def _run(instance: dg.DagsterInstance, **options) -> dg.DagsterRun:
    origin = REPOSITORY_ORIGIN.get_job_origin("_job")
    return instance.create_run_for_job(_job, remote_job_origin=origin, **options)


def _nested(instance: dg.DagsterInstance, outer: str = "outer") -> dg.DagsterRun:
    run_id = dg.DagsterRun(job_name="_job").run_id
    tags = {PARENT_TAG: outer, UNLAUNCHED_TAG: run_id, MAX_RETRIES_TAG: "0", "user": "demo 1", "mine": "kept"}
    return _run(instance, run_id=run_id, tags=tags)


def _reexecuted(instance: dg.DagsterInstance, run: dg.DagsterRun, **changed: str) -> dg.DagsterRun:
    """As the page does: the tags are copied."""
    tags = {name: value for name, value in run.tags.items() if not name.startswith(".dagster/")}
    root = run.root_run_id or run.run_id
    return _run(instance, parent_run_id=run.run_id, root_run_id=root, tags={**tags, **changed})


def _launched(instance: dg.DagsterInstance, run: dg.DagsterRun, monkeypatch: pytest.MonkeyPatch) -> dg.DagsterRun:
    monkeypatch.setattr(DefaultRunLauncher, "launch_run", lambda launcher, context: None)
    instance.run_launcher.launch_run(LaunchRunContext(dagster_run=run, workspace=None))
    return instance.get_run_by_id(run.run_id)


def _queued(instance: dg.DagsterInstance, run: dg.DagsterRun, _: pytest.MonkeyPatch) -> dg.DagsterRun:
    instance.run_coordinator.submit_run(SubmitRunContext(run, workspace=mock.Mock()))
    assert instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.QUEUED
    return instance.get_run_by_id(run.run_id)


def test_nested_run_shares_the_process_of_its_outermost_run_and_a_copy_of_its_tags_does_not(instance):
    inner = _nested(instance)
    assert outermost_run_id(inner) == "outer"
    again = _reexecuted(instance, inner)
    assert outermost_run_id(again) is None
    assert outermost_run_id(_reexecuted(instance, again)) is None
    assert outermost_run_id(_run(instance, tags={**inner.tags})) is None
    assert outermost_run_id(_run(instance)) is None


def test_nested_run_of_an_earlier_version_is_known_and_its_reexecution_is_a_run_of_its_own(instance):
    inner = _run(instance, tags={PARENT_TAG: "outer", MAX_RETRIES_TAG: "0"})
    assert outermost_run_id(inner) == "outer"
    again = _reexecuted(instance, inner)
    assert outermost_run_id(again) is None
    assert drop_copied_tags(instance, again).tags.keys().isdisjoint({PARENT_TAG, MAX_RETRIES_TAG})


@pytest.mark.parametrize("receive", [_queued, _launched])
def test_reexecution_of_a_nested_run_keeps_nothing_of_the_outer_run(instance, monkeypatch, receive):
    inner = _nested(instance)
    run = receive(instance, _reexecuted(instance, inner), monkeypatch)
    assert run.tags.keys().isdisjoint({PARENT_TAG, UNLAUNCHED_TAG, MAX_RETRIES_TAG, "user"})
    assert run.tags["mine"] == "kept"
    assert (run.parent_run_id, run.remote_job_origin) == (inner.run_id, inner.remote_job_origin)
    for name, value in ((PARENT_TAG, "outer"), ("user", "demo 1"), (UNLAUNCHED_TAG, inner.run_id)):
        found = instance.get_runs(dg.RunsFilter(tags={name: value}))
        assert [each.run_id for each in found] == [inner.run_id], name
    assert not instance.get_runs(dg.RunsFilter(tags={PARENT_TAG: run.run_id}))
    # The nested run itself is what it was.
    assert instance.get_run_by_id(inner.run_id).tags[PARENT_TAG] == "outer"


def test_launched_runs_that_copy_nothing_keep_all_their_tags(instance, monkeypatch):
    tags = {MAX_RETRIES_TAG: "0", "user": "me", "dagster/priority": "1"}
    assert tags.items() <= _launched(instance, _run(instance, tags=tags), monkeypatch).tags.items()
    asked = _reexecuted(instance, _nested(instance), **{MAX_RETRIES_TAG: "2"})
    assert _launched(instance, asked, monkeypatch).tags[MAX_RETRIES_TAG] == "2"


def test_lost_process_of_a_reexecuted_nested_run_is_retried_as_that_of_any_reexecution(instance, monkeypatch):
    monkeypatch.setattr(type(instance), "run_retries_max_retries", 2)
    inner = _nested(instance)
    for run in (inner, _launched(instance, _reexecuted(instance, inner), monkeypatch)):
        instance.report_run_failed(run, "taken for lost")
    assert [run.tags["dagster/will_retry"] for run in instance.get_runs()] == ["true", "false"]


@pytest.mark.parametrize("outer_status", [STARTED, FAILURE])
def test_reexecuted_nested_run_is_judged_by_its_own_lease(instance, monkeypatch, outer_status):
    outer = _run(instance, status=outer_status)
    run = _launched(instance, _reexecuted(instance, _nested(instance, outer.run_id)), monkeypatch)
    launcher = instance.run_launcher
    assert launcher.check_run_worker_health(run).status == WorkerStatus.RUNNING
    monkeypatch.setattr(LeaseWatch, "silent_seconds", lambda *_: 60.0)
    assert launcher.check_run_worker_health(run).status == WorkerStatus.FAILED


def test_terminating_a_reexecuted_nested_run_leaves_the_outer_run_alone(instance, monkeypatch):
    inner = _nested(instance)
    asked: list[str] = []
    monkeypatch.setattr(DefaultRunLauncher, "terminate", lambda _, run_id: asked.append(run_id))
    for run in (inner, _reexecuted(instance, inner)):
        instance.run_launcher.terminate(run.run_id)
    assert asked == ["outer", instance.get_runs(limit=1)[0].run_id]


def test_outer_run_links_its_nested_run_and_says_its_result_and_both_are_of_one_location(luna):
    @dg.op
    def outer(context: dg.OpExecutionContext):
        run_nested_job(context, "ingest")

    @dg.job
    def one():
        outer()

    # The outer run has copied the tags of a nested run: it is a run of its own, with nested runs of its own.
    result = one.execute_in_process(instance=luna.instance, tags={PARENT_TAG: "demo", UNLAUNCHED_TAG: "another"})
    (inner,) = luna.instance.get_runs(dg.RunsFilter(job_name="ingest"))
    assert inner.remote_job_origin == REPOSITORY_ORIGIN.get_job_origin("ingest")
    assert outermost_run_id(inner) == result.run_id
    # Only the outermost run is tried again.
    assert inner.tags[MAX_RETRIES_TAG] == "0"
    assert inner.tags["user"] == f"one {result.run_id[:8]}"
    entries = luna.instance.all_logs(result.run_id)
    links = [entry.dagster_event.engine_event_data for entry in entries if "Started run" in entry.message]
    assert [data.metadata["run"] for data in links] == [dg.MetadataValue.dagster_run(inner.run_id)]
    events = [entry.dagster_event for entry in luna.instance.all_logs(inner.run_id) if entry.dagster_event]
    (back,) = [event for event in events if (event.message or "").startswith("Makes `ingest` for run")]
    assert back.engine_event_data.metadata["outer_run"] == dg.MetadataValue.dagster_run(result.run_id)
    (said,) = [entry.user_message for entry in entries if entry.dagster_event is None]
    title, _, result = said.partition(": ")
    assert title == "`ingest`"
    # Their order is that of the steps, of which some could be exchanged.
    parts = sorted(re.sub(r"\d+", "N", result).split("; "))
    assert parts == [
        "candidates N rows, rejected N rows, reader_nodules N rows",
        "ct_series N rows",
        "folds N rows",
        "same_scans N rows",
    ]
