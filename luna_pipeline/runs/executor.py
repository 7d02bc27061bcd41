"""The executor of all runs: one process that holds the run's lease; an interrupt cancels the run."""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster._core.execution.plan.instance_concurrency_context import InstanceConcurrencyContext

from luna_pipeline.runs.leases import leased
from luna_pipeline.runs.nested import drop_copied_tags, register_unlaunched
from luna_pipeline.runs.storage_faults import guarded_events

if TYPE_CHECKING:
    from dagster._core.execution.context.system import PlanOrchestrationContext
    from dagster._core.execution.plan.plan import ExecutionPlan
    from dagster._core.execution.retries import RetryMode


class InterruptibleExecutor(dg.Executor):
    """Dagster's in-process executor, but SIGTERM and Ctrl-C cancel the run.

    Dagster reports an interrupted run as failed unless its termination was requested in the UI. The same holds for
    nested runs, which have no process that the UI could terminate.
    """

    def __init__(self, in_process: dg.Executor) -> None:
        self._in_process = in_process

    @property
    def retries(self) -> "RetryMode":
        """The retry mode of the in-process executor."""
        return self._in_process.retries

    def execute(
        self, plan_context: "PlanOrchestrationContext", execution_plan: "ExecutionPlan"
    ) -> Iterator[dg.DagsterEvent]:
        """Execute all steps in this process."""
        with guarded_events(plan_context.instance, plan_context.run_id):
            yield from self._execute(plan_context, execution_plan)

    def _execute(
        self, plan_context: "PlanOrchestrationContext", execution_plan: "ExecutionPlan"
    ) -> Iterator[dg.DagsterEvent]:
        instance = plan_context.instance
        run = instance.get_run_by_id(plan_context.run_id)
        if run is not None:
            register_unlaunched(instance, drop_copied_tags(instance, run))
        try:
            with leased(instance, plan_context.run_id):
                yield from self._in_process.execute(plan_context, execution_plan)
        except (KeyboardInterrupt, dg.DagsterExecutionInterruptedError):
            run = instance.get_run_by_id(plan_context.run_id)
            if run is not None and not run.is_finished and run.status != dg.DagsterRunStatus.CANCELING:
                instance.report_run_canceling(run, message="Interrupted by a signal.")
            raise


def seconds_to_next_claim(claims: InstanceConcurrencyContext) -> float:
    """Return for how long a run that waits for a slot of a pool sleeps before it looks again, at most 1 s."""
    due = min(claims._pending_timeouts.values(), default=0.0)
    return min(1.0, max(0.0, due - time.time()))


# Dagster's own never returns more than 0: a run that waits for the GPU would use a whole core meanwhile.
setattr(InstanceConcurrencyContext, "interval_to_next_pending_claim_check", seconds_to_next_claim)  # noqa: B010


IN_PROCESS: Any = dg.in_process_executor


@dg.executor(name="in_process_interruptible", config_schema=IN_PROCESS.config_schema)
def interruptible_executor(init_context: dg.InitExecutorContext) -> InterruptibleExecutor:
    """Execute all steps in one process; an interrupt cancels the run."""
    return InterruptibleExecutor(IN_PROCESS.executor_creation_fn(init_context))
