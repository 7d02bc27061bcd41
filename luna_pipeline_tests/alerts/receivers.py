"""Real receivers of alerts on the loopback interface: an HTTP server and an SMTP server."""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from email import message_from_bytes
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from aiosmtpd.controller import Controller

from luna_pipeline_tests.processes import free_port


class Webhook:
    """An HTTP server that keeps what it took.

    ``status`` is its answer, a number or a function without arguments; other numbers than 2xx keep nothing. Below 100,
    it is the number of seconds after which the connection is closed without an answer.
    """

    def __init__(self, status: int | Callable[[], int] = 200, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.posts: list[dict] = []
        self.status = status
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["Content-Length"]))
                status = webhook.status() if callable(webhook.status) else webhook.status
                if status < 100:
                    time.sleep(status)
                    return
                if 200 <= status < 300:
                    webhook.posts.append(json.loads(content))
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("Location", "/elsewhere")
                self.end_headers()

            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer((host, port), Handler)
        self.address = f"http://{host}:{self.server.server_port}/hook"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


class Inbox:
    """An SMTP server that keeps what it took; receivers in ``refused`` are refused."""

    def __init__(self) -> None:
        self.mails: list[Message] = []
        self.refused: set[str] = set()
        self.port = free_port()
        self.controller = Controller(self, hostname="127.0.0.1", port=self.port)
        self.controller.start()

    async def handle_RCPT(self, _server, _session, envelope, address, _options) -> str:
        if address in self.refused:
            return "550 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server, _session, envelope) -> str:
        self.mails.append(message_from_bytes(envelope.content))
        return "250 OK"


@contextlib.contextmanager
def webhook_running(status: int | Callable[[], int] = 200) -> Iterator[Webhook]:
    server = Webhook(status)
    try:
        yield server
    finally:
        server.close()


@contextlib.contextmanager
def inbox_running() -> Iterator[Inbox]:
    server = Inbox()
    try:
        yield server
    finally:
        server.controller.stop()
