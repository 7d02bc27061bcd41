"""Requests of the service's load test: uploads and classifications at once, with times and statuses by route."""

import io
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np

UPLOAD, STATE, CLASSIFY = "POST /v1/diagnoses", "GET /v1/diagnoses/{id}", "POST /v1/classify"
_ENDED = ("done", "failed")
_POLL_SECONDS = 2.0


class Load:
    """Sends requests to one service and keeps their results.

    Args:
        address: Base address.
    """

    def __init__(self, address: str) -> None:
        limits = httpx.Limits(max_connections=64)
        self.client = httpx.Client(base_url=address, timeout=600, limits=limits, trust_env=False)
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.statuses: dict[str, Counter[int]] = defaultdict(Counter)
        self.models: Counter[str] = Counter()
        self.ends: Counter[str] = Counter()
        self._lock = threading.Lock()

    def request(self, route: str, method: str, path: str, **content: Any) -> httpx.Response:
        """Send a request and keep its time and status."""
        started = time.perf_counter()
        answer = self.client.request(method, path, **content)
        with self._lock:
            self.seconds[route].append(time.perf_counter() - started)
            self.statuses[route][answer.status_code] += 1
        return answer

    def classify(self, body: bytes) -> None:
        """Classify cutouts, and count the model that the answer names."""
        answer = self.request(CLASSIFY, "POST", "/v1/classify", content=body)
        if answer.status_code == httpx.codes.OK:
            with self._lock:
                self.models[answer.json()["model"]["version"]] += 1

    def upload(self, path: Path) -> None:
        """Upload a CT, and wait for the end of its diagnosis if it was accepted."""
        with path.open("rb") as file:
            answer = self.request(UPLOAD, "POST", "/v1/diagnoses", files=[("files", (path.name, file))])
        if answer.status_code != httpx.codes.ACCEPTED:
            return
        while True:
            state = self.request(STATE, "GET", answer.headers["location"]).json()["state"]
            if state in _ENDED:
                break
            time.sleep(_POLL_SECONDS)
        with self._lock:
            self.ends[state] += 1

    def run(
        self, uploads: Sequence[Path], bodies: Sequence[bytes], *, at_once: int, on_classified: Callable[[int], None]
    ) -> float:
        """Upload all CTs at once while all cutouts are classified, and return the seconds of the classifications.

        Args:
            uploads: CTs.
            bodies: Requests to ``/v1/classify``.
            at_once: Number of concurrent classifications.
            on_classified: Called before each classification with its number.
        """

        def classify(number: int) -> None:
            on_classified(number)
            self.classify(bodies[number])

        with ThreadPoolExecutor(max(1, len(uploads))) as uploading:
            pending = [uploading.submit(self.upload, path) for path in uploads]
            started = time.perf_counter()
            with ThreadPoolExecutor(at_once) as classifying:
                list(classifying.map(classify, range(len(bodies))))
            seconds = time.perf_counter() - started
            for future in pending:
                future.result()
        return seconds

    def figures(self) -> dict[str, Any]:
        """Return percentiles in milliseconds and statuses by route, the models of the answers, and the ends of jobs."""
        routes = {
            route: {
                "requests": len(found),
                "p50_ms": round(1000 * float(np.percentile(found, 50)), 1),
                "p95_ms": round(1000 * float(np.percentile(found, 95)), 1),
                "statuses": {str(status): count for status, count in sorted(self.statuses[route].items())},
            }
            for route, found in sorted(self.seconds.items())
        }
        return {"routes": routes, "models": dict(sorted(self.models.items())), "jobs": dict(sorted(self.ends.items()))}

    @property
    def num_failed(self) -> int:
        """Number of answers that are neither a success nor 429."""
        fine = {httpx.codes.OK, httpx.codes.ACCEPTED, httpx.codes.TOO_MANY_REQUESTS}
        return sum(count for found in self.statuses.values() for status, count in found.items() if status not in fine)


def cutout_bodies(count: int, num_cutouts: int, shape: tuple[int, int, int]) -> list[bytes]:
    """Return requests to ``/v1/classify`` with random HU."""
    generator, bodies = np.random.default_rng(0), []
    for _ in range(count):
        file = io.BytesIO()
        np.savez(file, ct_chunks=generator.integers(-1000, 1001, (num_cutouts, *shape), dtype=np.int16))
        bodies.append(file.getvalue())
    return bodies
