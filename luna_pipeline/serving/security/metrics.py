"""Metrics of the service for Prometheus. Labels are fixed words: no path, id, address or name from outside."""

import logging
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from luna_pipeline.serving.job import JobState
from luna_pipeline.serving.security.guard import App, Message, Receive, Send

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
UNMATCHED = "unmatched"
"""Route of a request whose path is none of the service's."""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# Seconds: a state takes milliseconds, the upload of a CT over a slow line minutes.
_BUCKETS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 180, 600)
_log = logging.getLogger(__name__)


class Metrics:
    """Counters of one process, and the state of the jobs at the time of reading."""

    def __init__(self, count_jobs: Callable[[], Mapping[JobState, int]], folder: Path) -> None:
        """Create the metrics.

        Args:
            count_jobs: Returns the number of jobs by state.
            folder: Folder of the service, whose disk's free space is shown.
        """
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._registry.register(_State(count_jobs, folder))
        self._requests = Counter(
            "luna_http_requests", "Requests.", ("route", "method", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "luna_http_request_seconds", "Duration of requests.", ("route",), buckets=_BUCKETS, registry=self._registry
        )
        self._refused = Counter(
            "luna_http_refused", "Requests refused before their body.", ("reason",), registry=self._registry
        )

    def count_refusal(self, reason: str) -> None:
        """Count a request that was refused by ``guard``."""
        self._refused.labels(reason).inc()

    def count_request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count an answered request; ``status`` 0 is a client that went away."""
        self._requests.labels(route, method if method in _METHODS else "other", str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)


class Measured:
    """ASGI application that counts the requests to another one and logs a line for each."""

    def __init__(self, app: App, metrics: Metrics) -> None:
        """Wrap an application."""
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass a request on and count it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, begun = 0, time.perf_counter()

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            seconds, route, method = time.perf_counter() - begun, _route_of(scope), scope["method"]
            self._metrics.count_request(route, method, status, seconds)
            shown = method if method in _METHODS else "other"
            _log.info("%s %s %d %.0f ms", shown, route, status, 1000 * seconds)


def _route_of(scope: Message) -> str:
    """Return the template of the route, such as ``/v1/diagnoses/{job_id}``; the path itself is the client's text."""
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) else UNMATCHED


class _State(Collector):
    """Values that are looked up when they are read."""

    def __init__(self, count_jobs: Callable[[], Mapping[JobState, int]], folder: Path) -> None:
        self._count_jobs, self._folder = count_jobs, folder

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Return nothing: the database is not read at registration."""
        return ()

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Yield the number of jobs by state, whether the database answered, and the disk's free bytes."""
        jobs = GaugeMetricFamily("luna_jobs", "Jobs by state.", labels=("state",))
        answers = 1
        try:
            for state, number in self._count_jobs().items():
                jobs.add_metric((state,), number)
        # Drivers raise many kinds of errors for a database that does not answer.
        except Exception as error:
            _log.warning("The jobs cannot be counted: %s.", type(error).__name__)
            answers = 0
        yield jobs
        yield GaugeMetricFamily("luna_jobs_database_up", "Whether the jobs' database answers.", value=answers)
        free = shutil.disk_usage(self._folder).free
        yield GaugeMetricFamily("luna_service_disk_free_bytes", "Free bytes on the service's disk.", value=free)
