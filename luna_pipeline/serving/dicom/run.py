"""The process of ``luna receive``: receives series and submits them until it is stopped."""

import contextlib
import logging
import signal
import threading

from luna_pipeline.core.storage.limited_disks import locked
from luna_pipeline.serving.config import ServiceConfig
from luna_pipeline.serving.dicom.receiver import Receiver
from luna_pipeline.serving.folders import ServiceFolders
from luna_pipeline.serving.jobs import Jobs
from luna_pipeline.serving.quiet_logs import set_up_logs

_LOOK_SECONDS = 0.25

_log = logging.getLogger(__name__)


def run_receiver(folders: ServiceFolders, config: ServiceConfig, *, host: str, port: int) -> None:
    """Receive until SIGTERM or SIGINT.

    Raises:
        BlockingIOError: If another receiver uses the folders.
        ValueError: If any title may connect from beyond this machine.
        OSError: If the port is not free, or a file of the TLS configuration cannot be read.
    """
    set_up_logs()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    folders.create()
    with locked(folders.receiving / ".lock", waits=False), contextlib.closing(Jobs(folders, config)) as jobs:
        receiver = Receiver(folders, config, jobs)
        with contextlib.closing(receiver):
            bound = receiver.start(host, port)
            _log.info("Receiving as %s on %s:%d. Research use only.", config.receiver.aet, host, bound)
            while not stop.wait(_LOOK_SECONDS):
                receiver.submit_whole()
