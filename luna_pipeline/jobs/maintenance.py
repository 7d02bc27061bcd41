"""The job that removes old runs, and its schedule, which is off without ``LUNA_KEEP_RUNS_DAYS``."""

import os
from datetime import timedelta

import dagster as dg
from pydantic import Field

from luna_pipeline.alerts.records import unreported_runs
from luna_pipeline.jobs.definition import job
from luna_pipeline.runs.retention import prune_old_runs

DAYS = "LUNA_KEEP_RUNS_DAYS"


class RunsToKeep(dg.Config):
    """Age of the runs that are removed."""

    days: int = Field(default=90, ge=1, description="Runs that ended more than this number of days ago are removed.")


@dg.op
def remove_old_runs(context: dg.OpExecutionContext, config: RunsToKeep) -> None:
    """Remove old runs with their events, logs and values; those that show the present state are kept."""
    found = prune_old_runs(
        context.instance,
        timedelta(days=config.days),
        is_removed=True,
        report=context.log.info,
        unreported=unreported_runs(context.instance),
    )
    context.add_output_metadata({"num_removed": len(found.removable), "num_kept": len(found.kept)})


@job
def prune_runs() -> None:
    """Remove Dagster's old runs, as `luna prune --runs-older-than 90d --yes` does."""
    remove_old_runs()


@dg.schedule(
    job=prune_runs,
    cron_schedule="0 5 * * 0",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description=f"Every Sunday: removes runs that ended more than {DAYS} days ago; off without this variable.",
)
def prune_runs_weekly() -> dg.RunRequest | dg.SkipReason:
    """Request a run with the number of days in the environment."""
    value = os.environ.get(DAYS, "").strip() or "0"
    if value == "0":
        return dg.SkipReason(f"Old runs are kept: {DAYS} is not set")
    if not value.isdecimal():
        msg = f"{DAYS} must be a number of days from 1, or 0 to keep all runs, got {value!r}. Set it again."
        raise ValueError(msg)
    return dg.RunRequest(run_config={"ops": {"remove_old_runs": {"config": {"days": int(value)}}}})
