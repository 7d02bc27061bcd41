"""The DICOM receiver: C-ECHO and C-STORE of CT images; series that are whole become jobs.

Source:
    DICOM PS3.4, annex B (Storage); PS3.8 (associations).
"""

import contextlib
import ipaddress
import logging
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from pynetdicom import AE, _config, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from luna_pipeline.serving.config import ServiceConfig
from luna_pipeline.serving.dicom.instance import CT_CLASSES, OUT_OF_RESOURCES, RefusedInstanceError, read_instance
from luna_pipeline.serving.dicom.series_store import SeriesLimitError, SeriesStore
from luna_pipeline.serving.dicom.transport import ANNOUNCED_PDU_BYTES, LimitedServer, request_answered, server_tls
from luna_pipeline.serving.folders import ServiceFolders
from luna_pipeline.serving.job import JobsUnavailableError, QueueFullError, UnknownJobError
from luna_pipeline.serving.jobs import Jobs

TRANSFER_SYNTAXES = tuple(
    f"1.2.840.10008.1.2{tail}" for tail in (".1", "", ".2", ".5", ".4.57", ".4.70", ".4.80", ".4.81", ".4.90", ".4.91")
)
"""Those that the reader of CTs decodes: explicit and implicit little endian, big endian, RLE, JPEG lossless, JPEG-LS,
JPEG 2000. A peer sends in one of them."""
_SUCCESS = 0x0000
_IDLE_SECONDS = 60.0
_RETRY_SECONDS = 3.0

_log = logging.getLogger(__name__)


@dataclass
class _Conversation:
    """One association: its rate, and what was logged of it."""

    begin: float = field(default_factory=time.monotonic)
    num_instances: int = 0
    logged: set[str] = field(default_factory=set)


class Receiver:
    """Receives CT series until it is closed.

    Args:
        folders: Folders of the service.
        config: Limits, titles and TLS.
        jobs: Queue of the series that are whole.
    """

    def __init__(self, folders: ServiceFolders, config: ServiceConfig, jobs: Jobs) -> None:
        self._config, self._jobs = config, jobs
        self._store = SeriesStore(folders, config, check_room=jobs.check_room)
        self._closing = threading.Event()
        self._conversations: WeakKeyDictionary[Association, _Conversation] = WeakKeyDictionary()
        self._server: LimitedServer | None = None
        self._waits_for: str | None = None
        self._retry_at = 0.0

    def start(self, host: str, port: int) -> int:
        """Listen, and return the port.

        Raises:
            ValueError: If any title may connect from beyond this machine.
            OSError: If the port is not free, or a file of the TLS configuration cannot be read.
        """
        config = self._config.receiver
        check_callers(config.calling_aets, host)
        entity = AE(ae_title=config.aet)
        entity.require_called_aet = True
        entity.require_calling_aet = list(config.calling_aets)
        entity.maximum_associations = config.max_associations
        entity.maximum_pdu_size = ANNOUNCED_PDU_BYTES
        entity.network_timeout = _IDLE_SECONDS
        entity.add_supported_context(Verification)
        for sop_class in CT_CLASSES:
            entity.add_supported_context(sop_class, list(TRANSFER_SYNTAXES))
        handlers: list[Any] = [
            (evt.EVT_C_STORE, self._on_store),
            (evt.EVT_C_ECHO, self._on_echo),
            (evt.EVT_REJECTED, self._on_rejected),
        ]
        with _without_pynetdicom_logs():
            server = LimitedServer(
                entity, (host, port), config.aet, entity.supported_contexts, server_tls(config), handlers
            )
        entity._servers.append(server)
        self._server = server
        threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
        return int(server.server_address[1])

    def submit_whole(self) -> None:
        """Submit the series that are whole; without a free place, free space or the database they wait."""
        if time.monotonic() < self._retry_at:
            return
        try:
            self._store.take_whole()
        except OSError as error:
            self._wait(_disk_reason(error))
        for folder in self._store.complete():
            try:
                self._submit(folder)
            except (QueueFullError, JobsUnavailableError) as error:
                self._wait(str(error))
                return
            except OSError as error:
                self._wait(_disk_reason(error))
            # Whatever is wrong with one series, the others are received.
            except Exception as error:
                self._wait(f"A series must become a job, got {type(error).__name__}. Look at the service's folder.")

    def _submit(self, folder: Path) -> None:
        # Before the series is flushed and its digest computed.
        self._jobs.check_room()
        self._store.prepare(folder)
        num_instances = sum(1 for _ in folder.iterdir())
        # The job may be deleted at once.
        with contextlib.suppress(UnknownJobError):
            job, is_new = self._jobs.submit(folder, origin="dicom")
            _log.info("A series of %d instances is %s job %s.", num_instances, "the new" if is_new else "the", job.id)
        self._waits_for = None

    def _wait(self, reason: str) -> None:
        self._retry_at = time.monotonic() + _RETRY_SECONDS
        if reason != self._waits_for:
            self._waits_for = reason
            _log.warning("Series that are whole wait: %s", reason)

    def close(self) -> None:
        """End all associations and stop listening; what has arrived stays."""
        self._closing.set()
        if self._server is not None:
            associations = self._server.active_associations
            self._server.shutdown()
            for association in associations:
                association.abort()

    def _on_echo(self, event: Any) -> int:
        request_answered(event.assoc)
        return _SUCCESS

    def _on_rejected(self, event: Any) -> None:
        _log.warning("An association was rejected: unknown title, or too many associations.")

    def _on_store(self, event: Any) -> int:
        conversation = self._conversations.setdefault(event.assoc, _Conversation())
        self._keep_rate(conversation)
        request = event.request
        try:
            encoded = event.encoded_dataset()
            instance = read_instance(
                encoded,
                sop_class_uid=str(request.AffectedSOPClassUID),
                sop_instance_uid=str(request.AffectedSOPInstanceUID),
            )
            self._store.add(instance, encoded, event.assoc)
        except RefusedInstanceError as error:
            return self._refused(conversation, str(error), error.status)
        except (SeriesLimitError, QueueFullError, JobsUnavailableError) as error:
            return self._refused(conversation, str(error), OUT_OF_RESOURCES)
        except OSError as error:
            message = f"An instance must be writable to the disk, got {error.strerror}. Send it again later."
            return self._refused(conversation, message, OUT_OF_RESOURCES)
        finally:
            request_answered(event.assoc)
        return _SUCCESS

    def _keep_rate(self, conversation: _Conversation) -> None:
        """Wait while the association is ahead of its rate; a burst of one second is free."""
        conversation.num_instances += 1
        due = conversation.begin + conversation.num_instances / self._config.receiver.max_instances_per_second - 1.0
        if (ahead := due - time.monotonic()) > 0:
            self._closing.wait(ahead)

    def _refused(self, conversation: _Conversation, message: str, status: int) -> int:
        if message not in conversation.logged:
            conversation.logged.add(message)
            _log.warning("Instances are refused: %s", message)
        return status


def _disk_reason(error: OSError) -> str:
    return f"The disk must take the job, got: {error.strerror}. Free some space."


def check_callers(calling_aets: tuple[str, ...], host: str) -> None:
    """Require a list of calling titles beyond loopback.

    Raises:
        ValueError: If there is none.
    """
    if not calling_aets and not _is_loopback(host):
        message = "Titles that may connect must be listed beyond loopback, got none (receiver.calling_aets)."
        raise ValueError(f"{message} List them, or listen on 127.0.0.1.")


def _is_loopback(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


@contextlib.contextmanager
def _without_pynetdicom_logs() -> Any:
    """Keep pynetdicom from describing each message, with titles and UIDs, while the server binds its handlers."""
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)
    before, _config.LOG_HANDLER_LEVEL = _config.LOG_HANDLER_LEVEL, "none"
    try:
        yield
    finally:
        _config.LOG_HANDLER_LEVEL = before
