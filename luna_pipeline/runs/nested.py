"""Nested runs: a run that starts other runs, one after the other, in its own process."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
from dagster._core.definitions.reconstruct import ReconstructableRepository
from dagster._core.events import EngineEventData
from dagster._core.execution.api import execute_run
from dagster._core.storage.tags import USER_TAG
from dagster._core.utils import make_new_run_id

from luna_pipeline.runs.origins import DEFINITIONS, belongs_here, repository_origin_of, set_origin
from luna_pipeline.runs.results import result_of

PARENT_TAG = "luna/parent_run_id"
"""Tag of each nested run: the id of its outermost run, which a user, sensor or schedule started."""
UNLAUNCHED_TAG = "dagster/luna_unlaunched_run_id"
"""Tag of each run whose process Dagster did not launch, nested or from a terminal: its own id.

A re-execution copies the tags of its parent. With another run's id, they are recognised as copies. Lists of runs on
Dagster's pages hide tags with this prefix.
"""
OWN_PROCESS_TAG = "luna/own_process"
"""Tag of each run that has a process of its own, as nested runs have not. dagster.yaml limits how many are in progress.

Dagster's ``max_concurrent_runs`` also counts nested runs: with a limit of 2, one training and the run inside it would
leave no place for another run, although it is one process.
"""
PARTITION_TAG = "dagster/partition"
MAX_RETRIES_TAG = "dagster/max_retries"
ALL_ASSETS = "__ASSET_JOB"  # Dagster's implicit job


def outermost_run_id(run: dg.DagsterRun) -> str | None:
    """Return the id of the run in whose process a nested run executes; None for a run of its own.

    A re-executed nested run is a run of its own.
    """
    return None if _has_copied_tags(run) else run.tags.get(PARENT_TAG)


def name_of_job(run: dg.DagsterRun) -> str:
    """Return the name of a run's job; of a run of some assets their names, because Dagster's own job has no meaning."""
    if not run.job_name.startswith("__"):
        return run.job_name
    names = sorted(key.to_user_string() for key in run.asset_selection or ())
    return (", ".join(names[:3]) or "assets") + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def run_page(dagster_url: str, run_id: str) -> str:
    """Return the address of a run's page."""
    return f"{dagster_url}/runs/{run_id}"


def _has_copied_tags(run: dg.DagsterRun) -> bool:
    # Nested runs of earlier versions have only PARENT_TAG.
    is_marked = PARENT_TAG in run.tags or UNLAUNCHED_TAG in run.tags
    return is_marked and (run.parent_run_id is not None or run.tags.get(UNLAUNCHED_TAG, run.run_id) != run.run_id)


def drop_copied_tags(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dg.DagsterRun:
    """Remove from a re-execution what was true only of its parent: where that ran, and that it was not retried."""
    if not _has_copied_tags(run):
        return run
    copied = {PARENT_TAG, UNLAUNCHED_TAG} | ({USER_TAG} if PARENT_TAG in run.tags else set())
    if run.tags.get(MAX_RETRIES_TAG) == "0":
        copied.add(MAX_RETRIES_TAG)
    # Dagster has no function that removes tags. The record, which pages and daemon read, loses them; their rows, by
    # which runs are filtered, can only get another value.
    instance.add_run_tags(run.run_id, {name: "none" for name in sorted(copied & set(run.tags))})
    run = run.with_tags({name: value for name, value in run.tags.items() if name not in copied})
    origin = repository_origin_of(run).get_job_origin(run.job_name)
    instance.run_storage.replace_job_origin(run, run.remote_job_origin or origin)
    return run


def register_unlaunched(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """Give a run that was started on a terminal its origin.

    It is not retried by itself: a retry would run in the code location, with other environment variables.
    """
    if run.remote_job_origin is None and belongs_here(run):
        tags = {
            UNLAUNCHED_TAG: run.run_id,
            MAX_RETRIES_TAG: run.tags.get(MAX_RETRIES_TAG, "0"),
            OWN_PROCESS_TAG: "true",
        }
        instance.add_run_tags(run.run_id, tags)
        set_origin(instance, run.with_tags({**run.tags, **tags}))


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
    separate runs can. The log links the run and reports its result.

    Args:
        context: Context of the op that starts the run.
        job_name: Name of the job.
        run_config: Configuration of the run.
        tags: Further tags of the run.
        assets: The job's assets to materialize; None for all.
        shown: Description for messages; by default the job's name.

    Raises:
        dg.DagsterExecutionInterruptedError: If the run was interrupted.
        dg.Failure: If the run failed, or if it skipped an asset.
    """
    job = ReconstructableRepository.for_module(DEFINITIONS, "defs").get_reconstructable_job(job_name)
    run = _create_run(context, job, dict(run_config or {}), tags or {}, assets)
    shown = shown or f"`{job_name}`"
    link = {"run": dg.MetadataValue.dagster_run(run.run_id)}
    context.instance.report_engine_event(
        f"Started run {run.run_id} of {shown}",
        context.run,
        EngineEventData(link),
        step_key=str(context.op_handle),
    )
    # The same back: a nested run is found in the list of runs, or by its asset.
    context.instance.report_engine_event(
        f"Makes {shown} for run {context.run_id} of `{context.job_name}`. Terminating either ends both.",
        run,
        EngineEventData({"outer_run": dg.MetadataValue.dagster_run(context.run_id)}),
    )
    result = execute_run(job, run, context.instance)
    named = f"Run {run.run_id} of {shown}"
    ended = context.instance.get_run_by_id(run.run_id)
    if ended is not None and ended.status == dg.DagsterRunStatus.CANCELED:
        # The interrupt that ended the nested run applies to all.
        raise dg.DagsterExecutionInterruptedError
    if not result.success:
        reasons = [f"{event.step_key}: {root_message(event)}" for event in result.all_events if event.is_step_failure]
        raise dg.Failure(f"{named} failed: {'; '.join(reasons) or 'see its log'}")
    skipped = [event.step_key for event in result.all_events if event.event_type_value == "STEP_SKIPPED"]
    if skipped:
        raise dg.Failure(f"{named} must make all its assets, got {skipped} skipped. See its log.")
    context.log.info("%s: %s", shown, result_of(context.instance, run.run_id))


def _create_run(
    context: dg.OpExecutionContext,
    job: Any,
    run_config: dict[str, Any],
    tags: Mapping[str, str],
    assets: Sequence[str] | None,
) -> dg.DagsterRun:
    run_id, definition = make_new_run_id(), job.get_definition()
    own_tags = {
        PARENT_TAG: outermost_run_id(context.run) or context.run_id,
        UNLAUNCHED_TAG: run_id,
        # Only the outermost run is retried after its process was lost, and it starts its nested runs again.
        MAX_RETRIES_TAG: "0",
        # Pages show it in the column "Launched by".
        USER_TAG: f"{context.job_name} {context.run_id[:8]}",
    }
    # The context's record is older than the origin that the executor gave.
    outer = context.instance.get_run_by_id(context.run_id)
    return context.instance.create_run_for_job(
        definition,
        run_id=run_id,
        run_config=run_config,
        tags={**definition.run_tags, **own_tags, **tags},
        asset_selection=None if assets is None else frozenset(dg.AssetKey(asset) for asset in assets),
        remote_job_origin=repository_origin_of(outer).get_job_origin(definition.name),
        job_code_origin=job.get_python_origin(),
    )


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
    error = _root_error(event)
    return error.message.strip() if error else "unknown"


def root_class(event: dg.DagsterEvent) -> str:
    """Return the name of the class of the first cause of a step failure."""
    error = _root_error(event)
    return error.cls_name or "" if error else ""


def failure_line(event: dg.DagsterEvent) -> str:
    """Return the message of the first cause of a step failure in one line, without the name of its class."""
    line, name = " ".join(root_message(event).split()), f"{root_class(event)}: "
    return line.partition(name)[2] if line.partition(": ")[0].endswith(name[:-2]) else line


def _root_error(event: dg.DagsterEvent) -> Any:
    error = event.step_failure_data.error
    while error is not None and error.cause is not None:
        error = error.cause
    return error
