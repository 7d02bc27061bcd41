"""What becomes of a failed run, decided by what Dagster's daemon really does about its retry."""

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.storage import tags
from dagster._daemon.auto_run_reexecution import auto_run_reexecution as daemon

from luna_pipeline.alerts import outcome as rules
from luna_pipeline.alerts.outcome import Fate, outcome_of
from luna_pipeline.runs.nested import MAX_RETRIES_TAG, UNLAUNCHED_TAG
from luna_pipeline_tests.alerts.failed_runs import QUEUED, begun, ended, failed, nested, retried

LIMIT = rules.RETRY_LIMIT_SECONDS


def _fate(instance: dg.DagsterInstance, run: dg.DagsterRun, *, waited_seconds: float = 0) -> Fate:
    return _outcome(instance, run, waited_seconds=waited_seconds).fate


def _outcome(instance: dg.DagsterInstance, run: dg.DagsterRun, *, waited_seconds: float = 0) -> rules.Outcome:
    return outcome_of(instance, instance.get_run_by_id(run.run_id), waited_seconds=waited_seconds)


def _log(instance: dg.DagsterInstance, run: dg.DagsterRun) -> list[str]:
    records = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT).records
    return [record.event_log_entry.get_dagster_event().message for record in records]


def test_tags_are_those_of_the_daemon():
    assert (rules.WILL_RETRY_TAG, rules.RETRY_RUN_TAG) == (tags.WILL_RETRY_TAG, tags.AUTO_RETRY_RUN_ID_TAG)
    assert (rules.RETRY_NUMBER_TAG, rules.RETRY_OF_TAG) == (tags.RETRY_NUMBER_TAG, tags.PARENT_RUN_ID_TAG)
    assert (rules.BACKFILL_TAG, rules.REASON_TAG) == (tags.BACKFILL_ID_TAG, tags.RUN_FAILURE_REASON_TAG)


def test_run_that_is_not_retried_is_reported_and_others_are_not(instance):
    assert _fate(instance, failed(instance)) == Fate.REPORT
    for how in ("success", "canceled"):
        run = begun(instance)
        ended(instance, run, how)
        assert _fate(instance, run) == Fate.DROP
    assert outcome_of(instance, None, waited_seconds=0).fate == Fate.DROP


def test_run_of_the_command_line_is_not_retried_and_says_so_once(instance):
    run = failed(instance, max_retries=None)
    assert instance.get_run_by_id(run.run_id).tags[rules.WILL_RETRY_TAG] == "true"
    told = _outcome(instance, run)
    assert told.fate == Fate.REPORT
    assert told.note.startswith("This run is not tried again: it was started on the command line")
    assert _outcome(instance, run).fate == Fate.REPORT
    assert _log(instance, run) == [f"{told.note} Launch it again."]
    assert instance.get_run_by_id(run.run_id).tags[rules.WILL_RETRY_TAG] == "false"


@pytest.mark.parametrize(("is_nested", "reason"), [(False, "on the command line"), (True, "inside another run")])
def test_run_that_dagster_did_not_launch_says_that_it_is_not_retried(instance, is_nested: bool, reason: str):
    """As the executor marks it: with its id, and without retries."""
    run = nested(instance, begun(instance)) if is_nested else begun(instance, tags={MAX_RETRIES_TAG: "0"})
    instance.add_run_tags(run.run_id, {UNLAUNCHED_TAG: run.run_id})
    ended(instance, run, "failure")
    waited_seconds = rules.OUTER_LIMIT_SECONDS if is_nested else 0
    note = _outcome(instance, run, waited_seconds=waited_seconds).note
    assert reason in note
    assert _log(instance, run) == [f"{note} Launch it again."]


def test_failed_step_of_the_command_line_is_left_to_the_words_of_the_daemon(instance):
    run = begun(instance, tags={MAX_RETRIES_TAG: "0"})
    ended(instance, run, "failure")
    instance.add_run_tags(run.run_id, {UNLAUNCHED_TAG: run.run_id, rules.REASON_TAG: "STEP_FAILURE"})
    assert _outcome(instance, run) == rules.Outcome(Fate.REPORT)
    assert not daemon.should_retry(instance.get_run_by_id(run.run_id), instance)
    assert [entry.startswith("Not retrying run since") for entry in _log(instance, run)] == [True]


def test_daemon_agrees_that_a_run_without_an_origin_is_not_retried(instance):
    """Its own code, on a run that it marked as to be retried: no retry, and the mark stays."""

    class Workspace:
        def create_request_context(self) -> None:
            return None

    run = failed(instance, max_retries=None)
    Workspace.instance = instance
    assert daemon.should_retry(instance.get_run_by_id(run.run_id), instance)
    daemon.retry_run(instance.get_run_by_id(run.run_id), Workspace())
    assert instance.get_runs_count() == 1
    assert rules.why_not_retried(instance, instance.get_run_by_id(run.run_id))


def test_promised_retry_is_waited_for_with_a_limit(instance):
    run = failed(instance, max_retries=None, remote_job_origin=QUEUED)
    assert _fate(instance, run) == Fate.WAIT
    assert _fate(instance, run, waited_seconds=LIMIT - 1) == Fate.WAIT
    told = _outcome(instance, run, waited_seconds=LIMIT)
    assert told.fate == Fate.REPORT
    assert "did not start the retry within 10 minutes" in told.note
    assert len(_log(instance, run)) == 1
    # A daemon that comes later finds the tag, and does not retry what was reported as not retried.
    assert not daemon.should_retry(instance.get_run_by_id(run.run_id), instance)


@pytest.mark.parametrize(
    ("how", "fate", "retry_fate"),
    [("success", Fate.DROP, Fate.DROP), ("failure", Fate.DROP, Fate.REPORT), ("canceled", Fate.REPORT, Fate.DROP)],
)
def test_of_a_run_and_its_retry_one_is_reported_if_none_succeeds(instance, how: str, fate: Fate, retry_fate: Fate):
    run = failed(instance, max_retries=None, remote_job_origin=QUEUED)
    retry = retried(instance, run)
    assert _fate(instance, run, waited_seconds=10 * LIMIT) == Fate.WAIT
    ended(instance, retry, how)
    assert _fate(instance, run) == fate
    assert _fate(instance, retry) == retry_fate
    assert f"of run {run.run_id[:8]}" in _outcome(instance, retry).note or how != "failure"


@pytest.mark.parametrize("how", ["success", "failure"])
def test_of_a_chain_of_retries_only_the_last_decides(instance, how: str):
    runs = [failed(instance, max_retries=3, remote_job_origin=QUEUED)]
    for _ in range(3):
        runs.append(retried(instance, runs[-1], tags={rules.RETRY_NUMBER_TAG: str(len(runs)), MAX_RETRIES_TAG: "3"}))
        assert [_fate(instance, run) for run in runs[-2:]] == [Fate.WAIT, Fate.DROP]
        ended(instance, runs[-1], "failure" if len(runs) < 4 else how)
    expected = Fate.REPORT if how == "failure" else Fate.DROP
    assert [_fate(instance, run) for run in runs] == [Fate.DROP] * 3 + [expected]


def test_retry_without_the_tag_of_the_failed_run_is_known_and_one_by_a_person_is_none(instance):
    run = failed(instance, max_retries=None, remote_job_origin=QUEUED)
    links = {"parent_run_id": run.run_id, "root_run_id": run.run_id}
    begun(instance, **links)
    assert _fate(instance, run, waited_seconds=LIMIT) == Fate.REPORT
    run = failed(instance, max_retries=None, remote_job_origin=QUEUED)
    links = {"parent_run_id": run.run_id, "root_run_id": run.run_id}
    begun(instance, tags={rules.RETRY_NUMBER_TAG: "1"}, **links)
    assert _fate(instance, run, waited_seconds=LIMIT) == Fate.WAIT


def test_retry_that_is_never_started_or_was_deleted_is_not_waited_for(instance):
    run = failed(instance, max_retries=None, remote_job_origin=QUEUED)
    retry = retried(instance, run, status=dg.DagsterRunStatus.NOT_STARTED)
    assert _fate(instance, run, waited_seconds=LIMIT - 1) == Fate.WAIT
    assert _fate(instance, run, waited_seconds=LIMIT) == Fate.REPORT
    instance.delete_run(retry.run_id)
    assert _fate(instance, run, waited_seconds=LIMIT) == Fate.REPORT


def test_run_of_a_backfill_that_ended_is_not_retried_as_the_daemon_has_it(instance):
    run = failed(instance, max_retries=None, remote_job_origin=QUEUED, tags={rules.BACKFILL_TAG: "backfill"})
    assert not daemon.should_retry(instance.get_run_by_id(run.run_id), instance)
    assert "backfill" in rules.why_not_retried(instance, instance.get_run_by_id(run.run_id))
    for status in (BulkActionStatus.REQUESTED, BulkActionStatus.CANCELED):
        backfill_id = f"backfill {status.value}"
        backfill = PartitionBackfill(backfill_id, status, from_failure=False, tags={}, backfill_timestamp=0.0)
        instance.add_backfill(backfill)
        run = failed(instance, max_retries=None, remote_job_origin=QUEUED, tags={rules.BACKFILL_TAG: backfill_id})
        record = instance.get_run_by_id(run.run_id)
        assert daemon.should_retry(record, instance) == (rules.why_not_retried(instance, record) is None)


def test_retries_that_were_switched_off_after_the_failure_are_not_waited_for():
    with dg.DagsterInstance.ephemeral() as instance:
        run = failed(instance, tags={rules.WILL_RETRY_TAG: "true"}, remote_job_origin=QUEUED)
        assert "not enabled" in _outcome(instance, run).note


@pytest.mark.parametrize(
    ("how", "fate"), [("failure", Fate.DROP), ("success", Fate.REPORT), ("canceled", Fate.REPORT), (None, Fate.REPORT)]
)
def test_nested_run_is_reported_itself_unless_its_outermost_run_failed(instance, how: str | None, fate: Fate):
    outer = begun(instance)
    run = nested(instance, outer)
    ended(instance, run, "failure")
    assert _fate(instance, run) == Fate.WAIT
    if how is None:
        instance.delete_run(outer.run_id)
    else:
        ended(instance, outer, how)
    assert _fate(instance, run) == fate


def test_nested_run_is_reported_after_a_day_if_its_outermost_run_is_still_in_progress(instance):
    run = nested(instance, begun(instance))
    ended(instance, run, "failure")
    assert _fate(instance, run, waited_seconds=rules.OUTER_LIMIT_SECONDS - 1) == Fate.WAIT
    assert _fate(instance, run, waited_seconds=rules.OUTER_LIMIT_SECONDS) == Fate.REPORT


def test_nested_run_that_is_executed_again_on_its_own_is_a_run_of_its_own(instance):
    outer = begun(instance)
    run = nested(instance, outer)
    for each in (run, outer):
        ended(instance, each, "failure")
    again = nested(instance, outer, parent_run_id=run.run_id, root_run_id=run.run_id)
    ended(instance, again, "failure")
    assert _fate(instance, again) == Fate.REPORT
