"""Nested runs: a run that starts other runs, one after the other, in its own process."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
from dagster._core.definitions.reconstruct import ReconstructableRepository

DEFINITIONS = "luna_pipeline.definitions"
"""By name, because that module imports this one."""
PARENT_TAG = "luna/parent_run_id"
"""Tag of each nested run: the id of its outermost run, which a user, sensor or schedule started."""
PARTITION_TAG = "dagster/partition"
MAX_RETRIES_TAG = "dagster/max_retries"
ALL_ASSETS = "__ASSET_JOB"  # Dagster's implicit job


def run_nested_job(
    context: dg.OpExecutionContext,
    job_name: str,
    run_config: Mapping[str, Any] | None = None,
    *,
    tags: Mapping[str, str] | None = None,
    assets: Sequence[str] | None = None,
    shown: str = "",
) -> None:
    """Run a job of this code location to its end, as a separate run on the same instance.

    An asset job cannot contain both partitioned and unpartitioned assets, or assets of two partitions definitions;
    separate runs can.

    Args:
        context: Context of the op that starts the run.
        job_name: Name of the job.
        run_config: Configuration of the run.
        tags: Further tags of the run.
        assets: The job's assets to materialize; None for all.
        shown: Description for error messages; by default the job's name.

    Raises:
        dg.DagsterExecutionInterruptedError: If the run was interrupted.
        dg.Failure: If the run failed, or if it skipped an asset.
    """
    result = dg.execute_job(
        ReconstructableRepository.for_module(DEFINITIONS, "defs").get_reconstructable_job(job_name),
        instance=context.instance,
        run_config=dict(run_config or {}),
        # Only the outermost run is retried after its process was lost, and it starts its nested runs again.
        tags={PARENT_TAG: context.run.tags.get(PARENT_TAG, context.run_id), MAX_RETRIES_TAG: "0", **(tags or {})},
        raise_on_error=False,
        asset_selection=None if assets is None else [dg.AssetKey(asset) for asset in assets],
    )
    named = f"Run {result.run_id} of {shown or f'`{job_name}`'}"
    run = context.instance.get_run_by_id(result.run_id)
    if run is not None and run.status == dg.DagsterRunStatus.CANCELED:
        # The interrupt that ended the nested run applies to all.
        raise dg.DagsterExecutionInterruptedError
    if not result.success:
        reasons = [f"{event.step_key}: {root_message(event)}" for event in result.all_events if event.is_step_failure]
        raise dg.Failure(f"{named} failed: {'; '.join(reasons) or 'see its log'}")
    skipped = [event.step_key for event in result.all_events if event.event_type_value == "STEP_SKIPPED"]
    if skipped:
        raise dg.Failure(f"{named} must make all its assets, got {skipped} skipped.")


def materialize_nested(
    context: dg.OpExecutionContext,
    assets: Sequence[str],
    *,
    fold: int | None = None,
    run_config: Mapping[str, Any] | None = None,
) -> None:
    """Materialize assets in a nested run; errors as in ``run_nested_job``.

    Args:
        context: Context of the op that starts the run.
        assets: Names of assets with the same partitions definition.
        fold: Their partition; None if they have none.
        run_config: Configuration of the run.
    """
    shown = f"`{'`, `'.join(assets)}`" + ("" if fold is None else f" of fold {fold}")
    context.log.info("Making %s", shown)
    tags = {} if fold is None else {PARTITION_TAG: str(fold)}
    run_nested_job(context, ALL_ASSETS, run_config, tags=tags, assets=assets, shown=shown)


def root_message(event: dg.DagsterEvent) -> str:
    """Return the message of the first cause of a step failure."""
    error = event.step_failure_data.error
    while error is not None and error.cause is not None:
        error = error.cause
    return error.message.strip() if error else "unknown"
