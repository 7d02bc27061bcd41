"""Runs inside runs: pieces that cannot share a job, one after the other, each shown on its own."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster._core.definitions.reconstruct import ReconstructableRepository

if TYPE_CHECKING:
    pass


# By its name: the parts are put together there, these among them.
DEFINITIONS = "luna_pipeline.definitions"
PARTITION_TAG = "dagster/partition"
MAX_RETRIES_TAG = "dagster/max_retries"
ALL_ASSETS = "__ASSET_JOB"
"""Dagster's own job of all assets, of which a run makes the selected ones."""


def run_nested_job(context: dg.OpExecutionContext, job_name: str, run_config: Mapping[str, Any] | None = None) -> None:
    """Run a job of this code location to its end, as a run of its own on the same instance.

    A partitioned and an unpartitioned asset, or assets of two partitions definitions, cannot share an asset job; runs
    one after the other can.

    Raises:
        dg.DagsterExecutionInterruptedError: If the run was interrupted.
        dg.Failure: If the run failed, or if it skipped an asset that it should have made.
    """
    _run(context, job_name, shown=f"`{job_name}`", run_config=run_config)


def materialize_nested(
    context: dg.OpExecutionContext,
    assets: Sequence[str],
    *,
    fold: int | None = None,
    run_config: Mapping[str, Any] | None = None,
) -> None:
    """Make assets in a run of their own, as ``run_nested_job`` does.

    Args:
        context: Of the op that wants them.
        assets: Their names; all of one partitions definition.
        fold: Their partition; None where they have none.
        run_config: Their configuration.

    Raises:
        dg.DagsterExecutionInterruptedError: If the run was interrupted.
        dg.Failure: If the run failed, or if it skipped an asset that it should have made.
    """
    shown = f"`{'`, `'.join(assets)}`" + ("" if fold is None else f" of fold {fold}")
    context.log.info("Making %s", shown)
    tags = {} if fold is None else {PARTITION_TAG: str(fold)}
    _run(context, ALL_ASSETS, shown=shown, run_config=run_config, tags=tags, assets=[dg.AssetKey(a) for a in assets])


def _run(
    context: dg.OpExecutionContext,
    job_name: str,
    *,
    shown: str,
    run_config: Mapping[str, Any] | None,
    tags: Mapping[str, str] | None = None,
    assets: Sequence[dg.AssetKey] | None = None,
) -> None:
    result = dg.execute_job(
        ReconstructableRepository.for_module(DEFINITIONS, "defs").get_reconstructable_job(job_name),
        instance=context.instance,
        run_config=dict(run_config or {}),
        # Of runs within runs within runs all are found by the one that somebody asked for. That one is tried again
        # when its process was lost, and makes them anew.
        tags={PARENT_TAG: context.run.tags.get(PARENT_TAG, context.run_id), MAX_RETRIES_TAG: "0", **(tags or {})},
        raise_on_error=False,
        asset_selection=assets,
    )
    run = context.instance.get_run_by_id(result.run_id)
    if run is not None and run.status == dg.DagsterRunStatus.CANCELED:
        # The interrupt that ended the inner run was meant for all.
        raise dg.DagsterExecutionInterruptedError
    if not result.success:
        reasons = [_reason(event) for event in result.all_events if event.is_step_failure]
        raise dg.Failure(f"Run {result.run_id} of {shown} failed: {'; '.join(reasons) or 'see its log'}")
    skipped = [event.step_key for event in result.all_events if event.event_type_value == "STEP_SKIPPED"]
    if skipped:
        raise dg.Failure(f"Run {result.run_id} of {shown} must make all its assets, got {skipped} skipped.")


def _reason(event: dg.DagsterEvent) -> str:
    error = event.step_failure_data.error
    while error is not None and error.cause is not None:
        error = error.cause
    return f"{event.step_key}: {error.message.strip() if error else 'unknown'}"


PARENT_TAG = "luna/parent_run_id"
"""Names the run that somebody asked for, on each run inside it."""
