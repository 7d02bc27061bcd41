"""Peers that results are sent to: an archive by C-STORE, and one by STOW-RS, both in the test's process."""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from pydicom import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import Comprehensive3DSRStorage, SegmentationStorage
from pynetdicom.transport import ThreadedAssociationServer

RESULT_CLASSES = (SegmentationStorage, Comprehensive3DSRStorage)


@dataclass
class Archive:
    """An archive by C-STORE.

    Attributes:
        port: Where it listens.
        stored: What it has accepted.
        status: Its answer to each object.
        server: Its server.
    """

    port: int = 0
    stored: list[Dataset] = field(default_factory=list)
    status: int = 0x0000
    server: ThreadedAssociationServer | None = None

    def abort(self) -> None:
        """Abort all associations."""
        assert self.server is not None
        for association in self.server.active_associations:
            association.abort()

    def store(self, event: evt.Event) -> int:
        """Answer a C-STORE request."""
        if self.status == 0x0000:
            self.stored.append(event.dataset)
        return self.status


@contextlib.contextmanager
def archive(*, port: int = 0, classes=RESULT_CLASSES, tls=None, aet="ARCHIVE", calling=()) -> Iterator[Archive]:
    """Start an archive that accepts some classes, from some calling titles or from any."""
    found, entity = Archive(), AE(ae_title=aet)
    entity.require_called_aet, entity.require_calling_aet = True, list(calling)
    for sop_class in classes:
        entity.add_supported_context(sop_class)
    server = entity.start_server(
        ("127.0.0.1", port), block=False, ssl_context=tls, evt_handlers=[(evt.EVT_C_STORE, found.store)]
    )
    try:
        found.server, found.port = server, server.server_address[1]
        yield found
    finally:
        server.shutdown()


@dataclass
class WebArchive:
    """Answers every request alike, and keeps what it got.

    Attributes:
        status: Of the answers.
        headers: Of the answers.
        body: Of the answers.
        got: Method, path, headers and body of each request.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    got: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    url: str = ""


@contextlib.contextmanager
def web_archive(**values) -> Iterator[WebArchive]:
    """Start a server that answers POST and GET."""
    found = WebArchive(**values)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            found.got.append((self.command, self.path, dict(self.headers), body))
            self.send_response(found.status)
            for name, value in ({"Content-Length": str(len(found.body))} | found.headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(found.body)

        do_GET = do_POST

        def log_message(self, *_arguments) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_address[1]}/dicom-web"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
