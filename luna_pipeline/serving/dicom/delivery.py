"""Delivery of a job's DICOM results to the configured peers, with attempts that survive restarts.

Each attempt is a workflow of its own; the next one waits in the database until it is due, so that peers that are away
keep no thread and no place in the queue of diagnoses.
"""

import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from luna_pipeline.serving.config import ServiceConfig
from luna_pipeline.serving.delivery_files import peer_key, read_delivery, write_delivery
from luna_pipeline.serving.dicom.peers import DeliveryError, send
from luna_pipeline.serving.folders import OUTPUT, ServiceFolders
from luna_pipeline.serving.job import Delivery, DeliveryState
from luna_pipeline.serving.retries import next_wait

DELIVER, DELIVERIES = "deliver", "deliveries"
"""Name of the workflow, and of its queue."""
RESULTS = ("seg.dcm", "sr.dcm")


def register_delivery(folders: ServiceFolders, config: ServiceConfig) -> Callable[[str, str], None]:
    """Register the workflow of a delivery, before the launch of DBOS.

    Returns:
        Function that starts the deliveries of a job, given its id and the id of its workflow; it is called in that
        workflow, after the diagnosis.
    """
    from dbos import DBOS, SetEnqueueOptions, SetWorkflowID

    @DBOS.step(name="attempt_delivery")
    def attempt_delivery(job_id: str, peer_name: str) -> float | None:
        return attempt(folders, config, job_id, peer_name)

    def enqueue(job_id: str, peer_name: str, prefix: str, number: int, wait_seconds: float) -> None:
        workflow_id = f"{prefix}-{peer_key(peer_name)}-{number}"
        with SetWorkflowID(workflow_id), SetEnqueueOptions(delay_seconds=wait_seconds):
            DBOS.enqueue_workflow(DELIVERIES, deliver, job_id, peer_name, prefix, number)

    @DBOS.workflow(name=DELIVER, max_recovery_attempts=None)
    def deliver(job_id: str, peer_name: str, prefix: str, number: int) -> None:
        wait_seconds = attempt_delivery(job_id, peer_name)
        if wait_seconds is not None:
            enqueue(job_id, peer_name, prefix, number + 1, wait_seconds)

    def start(job_id: str, prefix: str) -> None:
        for peer in config.peers:
            enqueue(job_id, peer.name, prefix, 0, 0.0)

    return start


def attempt(
    folders: ServiceFolders, config: ServiceConfig, job_id: str, peer_name: str, *, now: float | None = None
) -> float | None:
    """Make one attempt to send the results of a job to a peer, and record how it ended.

    Args:
        folders: Folders of the service.
        config: Peers, and for how long deliveries are tried.
        job_id: The job; one without DICOM results, or that was deleted, has nothing to deliver.
        peer_name: Name of the peer.
        now: Seconds since the epoch; None for the present time.

    Returns:
        Seconds to the next attempt; None if there is none.
    """
    folder, now = folders.job(job_id), time.time() if now is None else now
    files = [folder / OUTPUT / name for name in RESULTS if (folder / OUTPUT / name).is_file()]
    peer = next((peer for peer in config.peers if peer.name == peer_name), None)
    if not files or peer is None:
        return None
    before, since = read_delivery(folder, peer_name, now=now)
    delivery = replace(before, attempts=before.attempts + 1)
    _note(folder, delivery, since=since)
    try:
        send(peer, files, config.receiver)
    # Whatever fails, such as a peer that aborts between two objects: the next attempt may succeed.
    except Exception as error:
        wait_seconds = next_wait(before.attempts, now=now, since=since, hours=config.delivery_hours)
        state: DeliveryState = "failed" if wait_seconds is None else "waiting"
        _note(folder, replace(delivery, state=state, reason=_reason(error, peer_name)), since=since)
        return wait_seconds
    _note(folder, replace(delivery, state="sent", reason=None), since=since)
    return None


def _reason(error: Exception, peer_name: str) -> str:
    if isinstance(error, DeliveryError):
        return str(error)
    # The texts of other errors may hold addresses and values of headers.
    return f"The peer must store all objects, got {type(error).__name__} ({peer_name}). See its log and configuration."


def _note(folder: Path, delivery: Delivery, *, since: float) -> None:
    """Write the state of a delivery; on a full disk it is sent without."""
    with contextlib.suppress(OSError):
        write_delivery(folder, delivery, since=since)
