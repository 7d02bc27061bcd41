"""The run coordinator that dagster.yaml names: the queue's limit counts processes, not runs."""

import dagster as dg
from dagster._core.run_coordinator import QueuedRunCoordinator, SubmitRunContext

OWN_PROCESS_TAG = "luna/own_process"
"""Tag of each run that has a process of its own, as nested runs have not. dagster.yaml limits how many are in progress.

Dagster's ``max_concurrent_runs`` also counts nested runs: with a limit of 2, one training and the run inside it would
leave no place for another run, although it is one process.
"""


class ProcessRunCoordinator(QueuedRunCoordinator):
    """Dagster's run queue, which tags each run that it will launch: from pages, sensors, backfills and retries."""

    def submit_run(self, context: SubmitRunContext) -> dg.DagsterRun:
        """Tag a run, and put it into the queue."""
        self._instance.add_run_tags(context.dagster_run.run_id, {OWN_PROCESS_TAG: "true"})
        return super().submit_run(context)
