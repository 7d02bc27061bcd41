"""The service on Ray Serve: the same application in several processes, on one or more machines.

All machines share the service's folder and the jobs' database in PostgreSQL. Ray starts the processes, ends those that
are not needed, and replaces those of a lost machine. An HTTP proxy on each machine listens at the same port.
"""

import logging
import signal
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from luna_pipeline.cluster.session import ray_session
from luna_pipeline.serving.config import ServiceConfig
from luna_pipeline.serving.folders import ServiceFolders
from luna_pipeline.serving.security.access import access_of
from luna_pipeline.serving.security.tokens import Tokens
from luna_pipeline.settings import Settings

if TYPE_CHECKING:
    from fastapi import FastAPI
    from ray.serve import Application

FRONT, WORKERS = "luna", "luna-workers"
"""Names of the two applications on Ray Serve."""
# A replica takes more requests than the number that starts another one: the others would wait in the proxy.
_REQUESTS_PER_PLACE = 8
_UPSCALE_SECONDS = 5.0
_LOOK_BACK_SECONDS = 10.0
_GRACE_SECONDS = 60.0


def serve_on_ray(config: ServiceConfig, *, host: str, port: int, num_cpus: int | None = None) -> None:
    """Serve on the cluster that RAY_ADDRESS names, or on a Ray of this machine, until SIGTERM or SIGINT.

    Args:
        config: Configuration of the service.
        host: Address on which the proxy of each machine listens.
        port: TCP port of the proxies.
        num_cpus: CPUs of a Ray of this machine; None for all.

    Raises:
        ValueError: If other machines can reach it and there is no token, the port is 0, or a cluster has no database
            to share.
        ConnectionError: If there is no cluster at the address.
    """
    from luna_pipeline.serving.quiet_logs import set_up_logs

    set_up_logs()
    # Refused here, not in a process of Ray.
    _access(config, host)
    if port == 0:
        raise ValueError("The port of a service on Ray must be a number from 1, got 0. Name one with --port.")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with ray_session(num_cpus=num_cpus) as resources:
        if resources.num_nodes > 1 and not config.database:
            msg = f"The service on {resources.num_nodes} machines must share a database, got none (database)."
            raise ValueError(f"{msg} Name one in PostgreSQL; the file of SQLite is for one machine.")
        _deploy(config, host=host, port=port)
        place = f"http://{host}:{port} of {resources.num_nodes} machines"
        print(f"Listening on {place}. Research use only; not a medical device.", flush=True)
        stop.wait()
        _remove()


def _deploy(config: ServiceConfig, *, host: str, port: int) -> None:
    from ray import serve

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    quiet = {"enable_access_log": False, "log_level": "WARNING"}
    serve.start(proxy_location="EveryNode", http_options={"host": host, "port": port}, logging_config=quiet)
    # Without the workers accepted CTs wait in the database.
    serve.run(_worker_application(config), name=WORKERS, route_prefix=None, logging_config=quiet)
    serve.run(_front_application(config, host), name=FRONT, route_prefix="/", logging_config=quiet)


def _remove() -> None:
    """Remove both applications; a cluster keeps running without them."""
    from ray import serve

    serve.delete(FRONT)
    serve.delete(WORKERS)


def _front_application(config: ServiceConfig, host: str) -> "Application":
    from ray import serve

    amount = config.ray
    options: dict[str, Any] = {
        "max_ongoing_requests": max(1, round(amount.requests_per_replica * _REQUESTS_PER_PLACE)),
        "graceful_shutdown_timeout_s": _GRACE_SECONDS,
        "ray_actor_options": {"num_cpus": amount.cpus_per_replica},
        "autoscaling_config": {
            "min_replicas": amount.min_replicas,
            "max_replicas": amount.max_replicas,
            "target_ongoing_requests": amount.requests_per_replica,
            "upscale_delay_s": _UPSCALE_SECONDS,
            "look_back_period_s": _LOOK_BACK_SECONDS,
            "downscale_delay_s": amount.downscale_seconds,
        },
    }
    return serve.deployment(name="front", **options)(serve.ingress()(Front)).bind(config, host)


def _worker_application(config: ServiceConfig) -> "Application":
    from ray import serve

    options: dict[str, Any] = {
        "num_replicas": config.num_workers,
        "graceful_shutdown_timeout_s": _GRACE_SECONDS,
        "ray_actor_options": {"num_cpus": config.ray.cpus_per_worker},
    }
    return serve.deployment(name="worker", **options)(DiagnosisWorker).bind(config)


class Front:
    """One process that answers requests: the application of ``luna serve``."""

    def __init__(self, config: ServiceConfig, host: str) -> None:
        self._config, self._host = config, host

    def __serve_build_asgi_app__(self) -> "FastAPI":
        """Return the application; Ray Serve calls it in the process."""
        from luna_pipeline.extensions import load_extensions
        from luna_pipeline.serving.http.app import create_app
        from luna_pipeline.serving.jobs import Jobs
        from luna_pipeline.serving.quiet_logs import set_up_logs

        set_up_logs()
        load_extensions()
        settings = Settings.from_environment()
        folders = ServiceFolders(settings.service_dir)
        jobs = Jobs(folders, self._config)
        return create_app(settings, self._config, folders, jobs, access=_access(self._config, self._host))


class DiagnosisWorker:
    """A place of Ray's for one worker process, which is started again when it ends."""

    def __init__(self, config: ServiceConfig) -> None:
        from luna_pipeline.serving.quiet_logs import set_up_logs
        from luna_pipeline.serving.supervisor import Supervisor

        set_up_logs()
        # If this process is killed, the worker ends with it: its standard input is closed.
        self._supervisor = Supervisor(replace(config, num_workers=1))
        self._supervisor.__enter__()

    def __call__(self) -> int:
        """Return the number of worker processes that run here."""
        return self._supervisor.num_alive

    def __del__(self) -> None:
        """End the worker; its running diagnosis goes back into the queue."""
        self._supervisor.__exit__(None, None, None)


def _access(config: ServiceConfig, host: str) -> Any:
    tokens = Tokens(ServiceFolders(Settings.from_environment().service_dir).tokens)
    return access_of(tokens, host=host, allowed_hosts=config.allowed_hosts)
