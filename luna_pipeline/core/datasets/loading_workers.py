"""Processes that load: their batches need shared memory, and an error of one must end the run."""

import logging
import multiprocessing.queues
import os
import signal
import sys
from pathlib import Path
from typing import Any

_log = logging.getLogger(__name__)

SHARED_MEMORY = Path("/dev/shm")
# PyTorch's default.
PREFETCHED_BATCHES = 2


def fitting_workers(num_workers: int, *, batch_bytes: int, num_processes: int = 1) -> int:
    """Return ``num_workers``, or 0 if shared memory cannot hold their batches.

    Args:
        num_workers: Number of loading processes of each training process.
        batch_bytes: Bytes of a batch of one training process.
        num_processes: Training processes of this machine.
    """
    if not num_workers or not SHARED_MEMORY.is_dir():
        return num_workers
    status = os.statvfs(SHARED_MEMORY)
    free = status.f_bavail * status.f_frsize
    # One more batch is in use.
    needed = (num_workers * PREFETCHED_BATCHES + 1) * batch_bytes * num_processes
    if needed <= free:
        return num_workers
    _log.warning(
        "Shared memory must hold %d batches of %.1f MB, %.1f MB in all, got %.1f MB free (%s): loading without "
        "workers. Give the container more (--shm-size), or choose fewer --workers or a smaller batch.",
        (num_workers * PREFETCHED_BATCHES + 1) * num_processes,
        batch_bytes / 1e6,
        needed / 1e6,
        free / 1e6,
        SHARED_MEMORY,
    )
    return 0


def prepare_worker(_worker: int) -> None:
    """Ignore SIGTERM in a worker: the training process finishes its step first and then ends the worker.

    A batch that cannot be sent, for example because shared memory is full, ends the worker, and so the run: otherwise
    the training process would wait for it forever.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    multiprocessing.queues.Queue._on_queue_feeder_error = staticmethod(_end_process)  # type: ignore[attr-defined]


def _end_process(error: Exception, _batch: Any) -> None:
    sys.stderr.write(f"A batch must be sent by its loading process, got {error}. Use fewer --workers, or --shm-size.\n")
    sys.stderr.flush()
    os._exit(1)
