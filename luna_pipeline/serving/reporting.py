"""Reports of a job's diagnosis to Dagster, with attempts that survive restarts.

As with deliveries, each attempt is a workflow of its own, and the next one waits in the database until it is due. An
attempt that is repeated after a crash adds no second event, see ``dagster_report``.
"""

import logging
import time
from collections.abc import Callable
from pathlib import Path

from luna_pipeline.core.diagnosis.manifest import MANIFEST
from luna_pipeline.serving.config import ServiceConfig
from luna_pipeline.serving.dagster_report import DagsterReportError, report_diagnosis
from luna_pipeline.serving.folders import OUTPUT, ServiceFolders
from luna_pipeline.serving.job import UnknownJobError
from luna_pipeline.serving.job_files import read_arrival
from luna_pipeline.serving.retries import next_wait

REPORT, REPORTS = "report", "reports"
"""Name of the workflow, and of its queue."""
_log = logging.getLogger(__name__)


def register_reporting(folders: ServiceFolders, config: ServiceConfig) -> Callable[[str, str], None]:
    """Register the workflow of a report, before the launch of DBOS.

    Returns:
        Function that starts the report of a job, given its id and the id of its workflow; it is called in that
        workflow, after the diagnosis.
    """
    from dbos import DBOS, SetEnqueueOptions, SetWorkflowID

    @DBOS.step(name="attempt_report")
    def attempt_report(job_id: str, number: int) -> float | None:
        return attempt(folders, config, job_id, number)

    def enqueue(job_id: str, prefix: str, number: int, wait_seconds: float) -> None:
        with SetWorkflowID(f"{prefix}-dagster-{number}"), SetEnqueueOptions(delay_seconds=wait_seconds):
            DBOS.enqueue_workflow(REPORTS, report, job_id, prefix, number)

    @DBOS.workflow(name=REPORT, max_recovery_attempts=None)
    def report(job_id: str, prefix: str, number: int) -> None:
        wait_seconds = attempt_report(job_id, number)
        if wait_seconds is not None:
            enqueue(job_id, prefix, number + 1, wait_seconds)

    def start(job_id: str, prefix: str) -> None:
        if config.dagster_url:
            enqueue(job_id, prefix, 0, 0.0)

    return start


def attempt(
    folders: ServiceFolders, config: ServiceConfig, job_id: str, number: int, *, now: float | None = None
) -> float | None:
    """Make one attempt to report the diagnosis of a job.

    Args:
        folders: Folders of the service.
        config: Dagster's address, and for how long the report is tried (``delivery_hours``).
        job_id: The job; one that was deleted has nothing to report.
        number: Number of attempts before.
        now: Seconds since the epoch; None for the present time.

    Returns:
        Seconds to the next attempt; None if there is none.
    """
    output, now = folders.job(job_id) / OUTPUT, time.time() if now is None else now
    ended_at = now
    try:
        ended_at = (output / MANIFEST).stat().st_mtime
        _report(config.dagster_url, output, job_id)
    except (FileNotFoundError, UnknownJobError):
        return None
    # Whatever fails: the next attempt may succeed.
    except Exception as error:
        wait_seconds = next_wait(number, now=now, since=ended_at, hours=config.delivery_hours)
        reason = (
            str(error) if isinstance(error, DagsterReportError) else f"Its report failed by {type(error).__name__}."
        )
        ends = "No further attempt is made." if wait_seconds is None else "It is tried again."
        _log.warning("Job %s: %s %s", job_id, reason, ends)
        return wait_seconds
    return None


def _report(url: str, output: Path, job_id: str) -> None:
    report_diagnosis(url, output, job_id=job_id, origin=read_arrival(output.parent).origin)
