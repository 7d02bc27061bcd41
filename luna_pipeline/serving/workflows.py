"""Workflows of the service: their steps are not repeated after a crash once they have ended."""

import contextlib
from collections.abc import Iterator
from typing import Any

from dbos import DBOS

from luna_pipeline.serving.database import DIAGNOSE, DIAGNOSES
from luna_pipeline.serving.diagnosing import WorkerContext, diagnose_job, wait_for_models
from luna_pipeline.serving.dicom.delivery import DELIVERIES, register_delivery
from luna_pipeline.serving.job import UnknownJobError
from luna_pipeline.serving.job_files import is_workflow_of
from luna_pipeline.serving.reporting import REPORTS, register_reporting

_POLLING_SECONDS = 0.5
_REPORT_POLLING_SECONDS = 2.0
_DELIVERIES_AT_A_TIME = 2


def register_workflows(context: WorkerContext) -> None:
    """Register all workflows, before the launch of DBOS."""

    @DBOS.step(name="diagnose_ct")
    def diagnose_ct(job_id: str) -> dict[str, Any]:
        workflow_id = str(DBOS.workflow_id)
        wait_for_models(context, job_id)
        if not is_workflow_of(context.folders.job(job_id), workflow_id):
            return {"reason": str(UnknownJobError(job_id))}
        with marked(context.diagnosing, workflow_id):
            return diagnose_job(context, job_id)

    report_result = register_reporting(context.folders, context.config)
    deliver_results = register_delivery(context.folders, context.config)

    # The number of attempts is limited by the step, which counts only those that a crash of the diagnosis ended.
    @DBOS.workflow(name=DIAGNOSE, max_recovery_attempts=None)
    def diagnose(job_id: str) -> dict[str, Any]:
        with marked(context.running, str(DBOS.workflow_id)):
            outcome = diagnose_ct(job_id)
            if "reason" not in outcome:
                deliver_results(job_id, str(DBOS.workflow_id))
                report_result(job_id, str(DBOS.workflow_id))
            return outcome


@contextlib.contextmanager
def marked(ids: set[str], workflow_id: str) -> Iterator[None]:
    """Add an id to a set until the context ends."""
    ids.add(workflow_id)
    try:
        yield
    finally:
        ids.discard(workflow_id)


def register_queues() -> None:
    """Register all queues, after the launch of DBOS."""
    DBOS.register_queue(DIAGNOSES, worker_concurrency=1, polling_interval_sec=_POLLING_SECONDS)
    DBOS.register_queue(REPORTS, worker_concurrency=1, polling_interval_sec=_REPORT_POLLING_SECONDS)
    DBOS.register_queue(DELIVERIES, worker_concurrency=_DELIVERIES_AT_A_TIME, polling_interval_sec=_POLLING_SECONDS)
