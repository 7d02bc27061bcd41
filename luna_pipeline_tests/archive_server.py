"""A web server with Zenodo's interface in a thread, whose answers can be faulty; and tiny archives like LUNA16's."""

import contextlib
import hashlib
import json
import re
import socket
import threading
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from luna_pipeline.core.sources.luna16_archives import PublishedFile

RECORD = re.compile(r"/api/records/(\d+)")
FILE = re.compile(r"/api/records/(\d+)/files/([^/]+)/content")
BLOCK_BYTES = 4096


class ArchiveServer(ThreadingHTTPServer):
    """Serves files by name; ``fault`` chooses the answer to a request, None for the right one."""

    daemon_threads = True
    allow_reuse_address = False

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = files
        self.fault: Callable[[str, int, int, int], Answer | None] = lambda name, start, stop, number: None
        self.requests: list[tuple[str, int, int]] = []
        self.sent: Counter[str] = Counter()
        self.on_sent: Callable[[str], object] = lambda name: None
        self.lock = threading.Lock()

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/api"

    def handle_error(self, request, client_address) -> None:
        """Say nothing of a client that went away."""


class Handler(BaseHTTPRequestHandler):
    """Answers for records and files."""

    protocol_version = "HTTP/1.1"
    server: ArchiveServer

    def setup(self) -> None:
        # Small buffers: what was sent is nearly what the client has read.
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        super().setup()

    def do_GET(self) -> None:
        if RECORD.fullmatch(self.path):
            self.reply(200, json.dumps(self.record()).encode())
            return
        found = FILE.fullmatch(self.path)
        content = self.server.files.get(found[2]) if found else None
        if found is None or content is None:
            self.reply(404, b"not found")
            return
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        start, stop = (int(asked[1]), int(asked[2]) + 1) if asked else (0, len(content))
        with self.server.lock:
            self.server.requests.append((found[2], start, stop))
            number = len(self.server.requests)
        answer = self.server.fault(found[2], start, stop, number) or (right if asked else whole)
        answer(self, found[2], content, start, stop)

    def record(self) -> dict:
        files = self.server.files.items()
        return {
            "files": [
                {"key": name, "size": len(it), "checksum": f"md5:{hashlib.md5(it).hexdigest()}"} for name, it in files
            ]
        }

    def reply(self, status: int, body: bytes, **headers: str) -> None:
        self.begin(status, len(body), **headers)
        self.wfile.write(body)

    def begin(self, status: int, length: int, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def send(self, name: str, body: bytes) -> None:
        for place in range(0, len(body), BLOCK_BYTES):
            block = body[place : place + BLOCK_BYTES]
            # Counted first: what a client has read is always counted.
            with self.server.lock:
                self.server.sent[name] += len(block)
            self.wfile.write(block)
            self.server.on_sent(name)

    def break_off(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *arguments) -> None:
        """Print nothing."""


Answer = Callable[[Handler, str, bytes, int, int], None]


def right(handler: Handler, name: str, content: bytes, start: int, stop: int) -> None:
    handler.begin(206, stop - start, Content_Range=f"bytes {start}-{stop - 1}/{len(content)}")
    handler.send(name, content[start:stop])


def whole(handler: Handler, name: str, content: bytes, start: int, stop: int) -> None:
    """Ignore the range."""
    handler.begin(200, len(content))
    handler.send(name, content)


def breaks_after(num_bytes: int, answer: Answer = right) -> Answer:
    """Break the connection within the body."""

    def broken(handler: Handler, name: str, content: bytes, start: int, stop: int) -> None:
        if answer is whole:
            handler.begin(200, len(content))
            start = 0
        else:
            handler.begin(206, stop - start, Content_Range=f"bytes {start}-{stop - 1}/{len(content)}")
        handler.send(name, content[start : start + num_bytes])
        handler.break_off()

    return broken


def shifted(handler: Handler, name: str, content: bytes, start: int, stop: int) -> None:
    """Send another range, and say so."""
    low = max(0, start - 7)
    high = low + stop - start
    handler.begin(206, stop - start, Content_Range=f"bytes {low}-{high - 1}/{len(content)}")
    handler.send(name, content[low:high])


def unnamed(handler: Handler, name: str, content: bytes, start: int, stop: int) -> None:
    """Send a part without saying which."""
    handler.begin(206, stop - start)
    handler.send(name, content[start:stop])


def truncated(handler: Handler, name: str, content: bytes, start: int, stop: int) -> None:
    """Send the first half, and announce no more."""
    half = (stop - start) // 2
    handler.begin(206, half, Content_Range=f"bytes {start}-{stop - 1}/{len(content)}")
    handler.send(name, content[start : start + half])


def other_size(handler: Handler, name: str, content: bytes, start: int, stop: int) -> None:
    """Be another edition of the file."""
    handler.begin(206, stop - start, Content_Range=f"bytes {start}-{stop - 1}/{len(content) + 1}")
    handler.send(name, content[start:stop])


def wrong_bytes(handler: Handler, name: str, content: bytes, start: int, stop: int) -> None:
    """Send the range with its middle byte inverted."""
    changed = bytearray(content)
    changed[(start + stop) // 2] ^= 0xFF
    right(handler, name, bytes(changed), start, stop)


def packed(handler: Handler, name: str, content: bytes, start: int, stop: int) -> None:
    """Announce a content encoding that was not asked for."""
    handler.begin(206, stop - start, Content_Encoding="gzip", Content_Range=f"bytes {start}-{stop - 1}/{len(content)}")
    handler.send(name, content[start:stop])


def refuses(status: int, **headers: str) -> Answer:
    def refuse(handler: Handler, name: str, content: bytes, start: int, stop: int) -> None:
        handler.reply(status, b"no", **headers)

    return refuse


@contextlib.contextmanager
def serving(files: dict[str, bytes]) -> Iterator[ArchiveServer]:
    with ArchiveServer(files) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def zipped(root: Path, subset: int, *, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return the archive of a subset folder, as LUNA16 has it."""
    import io

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method, compresslevel=1) as archive:
        archive.mkdir(f"subset{subset}")
        for path in sorted((root / f"subset{subset}").iterdir()):
            archive.write(path, f"subset{subset}/{path.name}")
    return buffer.getvalue()


def editions(files: dict[str, bytes]) -> dict[str, PublishedFile]:
    """Return what is published of the archives among the files."""
    return {
        name: PublishedFile(name, len(it), hashlib.md5(it).hexdigest(), 3723295)
        for name, it in files.items()
        if name.startswith("subset")
    }


def checksums(files: dict[str, bytes], path: Path) -> Path:
    path.write_text("".join(f"{it.md5} {it.num_bytes} {it.name}\n" for it in editions(files).values()))
    return path
