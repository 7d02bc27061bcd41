"""Outcome of a failed run: it is reported, waits for its retry or its outermost run, or needs no report."""

from dataclasses import dataclass
from enum import Enum, auto

import dagster as dg
from dagster._core.execution.backfill import BULK_ACTION_TERMINAL_STATUSES

from luna_pipeline.runs.nested import UNLAUNCHED_TAG, outermost_run_id

RETRY_LIMIT_SECONDS = 600.0
"""Time in which Dagster's daemon must have started the retry that it promised; it looks every 5 s."""
OUTER_LIMIT_SECONDS = 86_400.0
"""Time after which a failed nested run is reported although its outermost run is in progress."""
# Tags that Dagster's daemon sets and reads; it has no public names for them.
WILL_RETRY_TAG = "dagster/will_retry"
RETRY_RUN_TAG = "dagster/auto_retry_run_id"
RETRY_NUMBER_TAG = "dagster/retry_number"
RETRY_OF_TAG = "dagster/parent_run_id"
REASON_TAG = "dagster/failure_reason"
BACKFILL_TAG = "dagster/backfill"


class Fate(Enum):
    """What to do about a failed run in this tick."""

    WAIT = auto()
    DROP = auto()
    REPORT = auto()


@dataclass(frozen=True)
class Outcome:
    """Fate of a failed run, and the line about its retry that its alert has."""

    fate: Fate
    note: str = ""


WAIT, DROP = Outcome(Fate.WAIT), Outcome(Fate.DROP)


def outcome_of(instance: dg.DagsterInstance, run: dg.DagsterRun | None, *, waited_seconds: float) -> Outcome:
    """Decide about a failed run.

    Rules:
        A run that was deleted, or did not fail in the end, is not reported.
        A nested run is reported with its outermost run if that one failed, else on its own.
        Of a run and its retries, none is reported if one succeeded, and the last one if all failed. A retry that was
        cancelled or deleted does not count. A retry that the daemon does not start is not waited for.

    Args:
        instance: The instance that holds the run.
        run: The run; None if it was deleted.
        waited_seconds: Time since the run was found.
    """
    if run is None or run.status != dg.DagsterRunStatus.FAILURE:
        return DROP
    return _outcome_with_outermost(instance, run, waited_seconds) or _outcome_with_retries(
        instance, run, waited_seconds
    )


def _outcome_with_outermost(instance: dg.DagsterInstance, run: dg.DagsterRun, waited_seconds: float) -> Outcome | None:
    """Return the outcome of a nested run whose outermost run failed or is in progress; else None."""
    outermost_id = outermost_run_id(run)
    outermost = instance.get_run_by_id(outermost_id) if outermost_id else None
    if outermost is None:
        return None
    if outermost.status == dg.DagsterRunStatus.FAILURE:
        return DROP
    return WAIT if not outermost.is_finished and waited_seconds < OUTER_LIMIT_SECONDS else None


def _outcome_with_retries(instance: dg.DagsterInstance, run: dg.DagsterRun, waited_seconds: float) -> Outcome:
    retry = _retry_of(instance, run)
    if retry is None and run.tags.get(WILL_RETRY_TAG) == "true":
        return _outcome_of_promise(instance, run, waited_seconds)
    if retry is None:
        return _outcome_of_last(instance, run)
    if retry.status == dg.DagsterRunStatus.CANCELED:
        return Outcome(Fate.REPORT, f"Its retry {retry.run_id[:8]} was cancelled.")
    if retry.is_finished:
        # If the retry failed, it has an outcome of its own.
        return DROP
    if retry.status == dg.DagsterRunStatus.NOT_STARTED and waited_seconds >= RETRY_LIMIT_SECONDS:
        return Outcome(Fate.REPORT, f"Its retry {retry.run_id[:8]} was not started.")
    return WAIT


def _outcome_of_last(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Outcome:
    """Return the outcome of a run that Dagster does not retry."""
    if run.tags.get(RETRY_NUMBER_TAG):
        return Outcome(Fate.REPORT, f"It was retry {run.tags[RETRY_NUMBER_TAG]} of run {(run.root_run_id or '?')[:8]}.")
    if run.tags.get(UNLAUNCHED_TAG) != run.run_id:
        return Outcome(Fate.REPORT)
    reason = "it ran inside another run" if outermost_run_id(run) else "it was started on the command line"
    # Where failed steps are not retried, the daemon itself says so.
    if run.tags.get(REASON_TAG) == "STEP_FAILURE" and not instance.run_retries_retry_on_asset_or_op_failure:
        return Outcome(Fate.REPORT)
    return _reported_as_final(instance, run, reason)


def _reported_as_final(instance: dg.DagsterInstance, run: dg.DagsterRun, reason: str) -> Outcome:
    note = f"This run is not tried again: {reason}."
    instance.report_engine_event(f"{note} Launch it again.", run)
    return Outcome(Fate.REPORT, note)


def _outcome_of_promise(instance: dg.DagsterInstance, run: dg.DagsterRun, waited_seconds: float) -> Outcome:
    """Return the outcome of a run that Dagster marked as to be retried, and that has no retry yet."""
    reason = why_not_retried(instance, run)
    if reason is None and waited_seconds < RETRY_LIMIT_SECONDS:
        return WAIT
    reason = reason or f"Dagster's daemon did not start the retry within {RETRY_LIMIT_SECONDS / 60:.0f} minutes"
    # The page shows the tag, and a daemon that comes later obeys it.
    instance.add_run_tags(run.run_id, {WILL_RETRY_TAG: "false"})
    return _reported_as_final(instance, run, reason)


def why_not_retried(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str | None:
    """Return why Dagster's daemon does not retry a run that it marked as to be retried; None if it does.

    Its rules are in ``dagster._daemon.auto_run_reexecution``.
    """
    if not instance.run_retries_enabled:
        return "`run_retries` are not enabled in dagster.yaml"
    if run.remote_job_origin is None:
        return "it was started on the command line, outside a code location of the daemon"
    backfill_id = run.tags.get(BACKFILL_TAG)
    if backfill_id is not None:
        backfill = instance.get_backfill(backfill_id)
        if backfill is None or backfill.status in BULK_ACTION_TERMINAL_STATUSES:
            return "the backfill that it is part of has ended"
    return None


def _retry_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dg.DagsterRun | None:
    """Return the run with which the daemon retries a run, also if it has not noted it yet; None if there is none."""
    if retry_id := run.tags.get(RETRY_RUN_TAG):
        return instance.get_run_by_id(retry_id)
    started = instance.get_runs(dg.RunsFilter(tags={RETRY_OF_TAG: run.run_id}))
    return next((one for one in started if RETRY_NUMBER_TAG in one.tags and one.parent_run_id == run.run_id), None)
