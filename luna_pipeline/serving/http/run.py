"""``luna serve``: the HTTP front in this process, and the workers that it supervises."""

import contextlib
import os
import socket

from luna_pipeline.serving.config import ServiceConfig
from luna_pipeline.serving.folders import ServiceFolders
from luna_pipeline.settings import Settings


def run_service(settings: Settings, config: ServiceConfig, *, host: str, port: int) -> None:
    """Serve until SIGTERM or Ctrl-C: uploads that are arriving are finished first, running diagnoses wait in the queue.

    Args:
        settings: Paths of the installation.
        config: Configuration of the service.
        host: Address or name to listen on.
        port: TCP port, 0 for a free one.

    Raises:
        ValueError: If other machines can reach it and there is no token, or the address cannot be listened on.
    """
    from luna_pipeline.serving.http.app import create_app
    from luna_pipeline.serving.http.server import server_of
    from luna_pipeline.serving.jobs import Jobs
    from luna_pipeline.serving.quiet_logs import set_up_logs
    from luna_pipeline.serving.security.access import access_of
    from luna_pipeline.serving.security.tokens import Tokens
    from luna_pipeline.serving.supervisor import Supervisor

    folders = ServiceFolders(settings.service_dir)
    folders.create()
    access = access_of(Tokens(folders.tokens), host=host, allowed_hosts=config.allowed_hosts)
    with _listener(host, port) as listener, contextlib.closing(Jobs(folders, config)) as jobs:
        set_up_logs()
        jobs.reconcile()
        app = create_app(settings, config, folders, jobs, access=access)
        server = server_of(app, max_header_seconds=config.limits.max_header_seconds)
        # uvicorn raises the signal again once it has ended.
        with Supervisor(config), contextlib.suppress(KeyboardInterrupt):
            print(f"Listening on {_address(listener)}. Research use only; not a medical device.", flush=True)
            server.run(sockets=[listener])


def _listener(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        ValueError: If the name is unknown or the port is taken.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=512)
    except OSError as error:
        # An unknown name has a number of its own, and no text in the system's table.
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        msg = f"The service must be able to listen, got: {reason} ({host}, port {port})."
        raise ValueError(f"{msg} Choose another --port or --host.") from error


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
