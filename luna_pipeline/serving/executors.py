"""Names of workers, each held by a lock: the workflows of a name whose lock is free have lost their worker."""

import contextlib
import itertools
from collections import defaultdict
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from luna_pipeline.core.storage.limited_disks import locked
from luna_pipeline.serving.folders import ServiceFolders

if TYPE_CHECKING:
    from dbos import DBOSClient, WorkflowStatus


@contextlib.contextmanager
def held_name(folders: ServiceFolders) -> Iterator[str]:
    """Hold the first free name of ``worker-0``, ``worker-1``, …; a killed process frees its own."""
    with contextlib.ExitStack() as lock:
        for number in itertools.count():
            name = f"worker-{number}"
            try:
                lock.enter_context(locked(_lock(folders, name), waits=False))
            except BlockingIOError:
                continue
            break
        yield name


def requeue_lost(client: "DBOSClient", folders: ServiceFolders) -> int:
    """Put the workflows of workers that are gone back into their queues; return their number."""
    num_lost = 0
    for name in sorted({str(status.executor_id) for status in _running(client)}):
        # No new worker takes the name meanwhile.
        with contextlib.suppress(BlockingIOError), locked(_lock(folders, name), waits=False):
            num_lost += requeue(client, running_of(client, name))
    return num_lost


def running_of(client: "DBOSClient", name: str, *, kind: str | None = None) -> dict[str, str | None]:
    """Return the workflows that the database calls running in a worker, all or those of a kind: queue by id."""
    return {status.workflow_id: status.queue_name for status in _running(client, name, kind)}


def requeue(client: "DBOSClient", queues: dict[str, str | None], *, among: Collection[str] | None = None) -> int:
    """Put workflows back into their queues, all or those of some ids; return their number."""
    by_queue = defaultdict(list)
    for workflow_id, queue in queues.items():
        if among is None or workflow_id in among:
            by_queue[queue].append(workflow_id)
    for queue, workflow_ids in by_queue.items():
        client.resume_workflows(workflow_ids, queue_name=queue)
    return sum(map(len, by_queue.values()))


def _running(client: "DBOSClient", name: str | None = None, kind: str | None = None) -> "list[WorkflowStatus]":
    return client.list_workflows(status="PENDING", executor_id=name, name=kind, load_input=False, load_output=False)


def _lock(folders: ServiceFolders, name: str) -> Path:
    return folders.root / "workers" / f"{name}.lock"
