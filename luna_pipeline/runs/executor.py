"""How runs are executed: in one process that holds the run's lease; an interrupted run is cancelled, not failed."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import dagster as dg

from luna_pipeline.runs.leases import leased

if TYPE_CHECKING:
    from dagster._core.execution.context.system import PlanOrchestrationContext
    from dagster._core.execution.plan.plan import ExecutionPlan
    from dagster._core.execution.retries import RetryMode


class InterruptibleExecutor(dg.Executor):
    """Dagster's in-process executor, which says of an interrupt that somebody wanted the end.

    Dagster takes SIGTERM and Ctrl-C for a failure unless the run was asked to end through its page; here they are
    such a request. It holds for runs inside runs too, which nobody could terminate by their own page.
    """

    def __init__(self, in_process: dg.Executor) -> None:
        self._in_process = in_process

    @property
    def retries(self) -> "RetryMode":
        """How often a step is tried again, as the in-process executor has it."""
        return self._in_process.retries

    def execute(
        self, plan_context: "PlanOrchestrationContext", execution_plan: "ExecutionPlan"
    ) -> Iterator[dg.DagsterEvent]:
        """Execute all steps in this process."""
        try:
            with leased(plan_context.instance, plan_context.run_id):
                yield from self._in_process.execute(plan_context, execution_plan)
        except (KeyboardInterrupt, dg.DagsterExecutionInterruptedError):
            run = plan_context.instance.get_run_by_id(plan_context.run_id)
            if run is not None and not run.is_finished and run.status != dg.DagsterRunStatus.CANCELING:
                plan_context.instance.report_run_canceling(run, message="Interrupted by a signal.")
            raise


IN_PROCESS: Any = dg.in_process_executor


@dg.executor(name="in_process_interruptible", config_schema=IN_PROCESS.config_schema)
def interruptible_executor(init_context: dg.InitExecutorContext) -> InterruptibleExecutor:
    """Execute all steps in one process; an interrupt cancels the run."""
    return InterruptibleExecutor(IN_PROCESS.executor_creation_fn(init_context))
