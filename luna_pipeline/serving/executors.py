"""Names of workers, each held by a lock: the workflows of a name whose lock is free have lost their worker."""

import contextlib
import itertools
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from luna_pipeline.core.storage.limited_disks import locked
from luna_pipeline.serving.folders import ServiceFolders

if TYPE_CHECKING:
    from dbos import DBOSClient


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
    running = client.list_workflows(status="PENDING", load_input=False, load_output=False)
    num_lost = 0
    for name in sorted({str(status.executor_id) for status in running}):
        # No new worker takes the name meanwhile.
        with contextlib.suppress(BlockingIOError), locked(_lock(folders, name), waits=False):
            num_lost += requeue(client, name)
    return num_lost


def requeue(client: "DBOSClient", name: str) -> int:
    """Put the running workflows of a worker back into their queues; return their number."""
    by_queue = defaultdict(list)
    for status in client.list_workflows(status="PENDING", executor_id=name, load_input=False, load_output=False):
        by_queue[status.queue_name].append(status.workflow_id)
    for queue, workflow_ids in by_queue.items():
        client.resume_workflows(workflow_ids, queue_name=queue)
    return sum(map(len, by_queue.values()))


def _lock(folders: ServiceFolders, name: str) -> Path:
    return folders.root / "workers" / f"{name}.lock"
