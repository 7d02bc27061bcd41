"""The run coordinator that dagster.yaml names: the queue's limit counts processes, not runs."""

import dagster as dg
from dagster._core.run_coordinator import QueuedRunCoordinator, SubmitRunContext

from luna_pipeline.runs.nested import OWN_PROCESS_TAG, drop_copied_tags


class ProcessRunCoordinator(QueuedRunCoordinator):
    """Dagster's run queue, which tags each run that it will launch: from pages, sensors, backfills and retries."""

    def submit_run(self, context: SubmitRunContext) -> dg.DagsterRun:
        """Tag a run, remove tags that a re-execution has copied from a nested run, and put it into the queue."""
        run = drop_copied_tags(self._instance, context.dagster_run)
        self._instance.add_run_tags(run.run_id, {OWN_PROCESS_TAG: "true"})
        return super().submit_run(context)
