"""Protection and metrics of an HTTP application, in one call."""

from collections.abc import Callable, Mapping
from pathlib import Path

from fastapi import FastAPI, Response

from luna_pipeline.serving.job import JobState
from luna_pipeline.serving.security.access import Access
from luna_pipeline.serving.security.guard import Guard
from luna_pipeline.serving.security.metrics import MEDIA_TYPE, Measured, Metrics


def protect(app: FastAPI, access: Access, *, count_jobs: Callable[[], Mapping[JobState, int]], folder: Path) -> None:
    """Check and count each request to an application, and add the route ``/metrics``.

    Args:
        app: The application; middleware that is added later sees requests that are not checked.
        access: What is allowed.
        count_jobs: Returns the number of jobs by state.
        folder: Folder of the service.
    """
    metrics = Metrics(count_jobs, folder)

    @app.get("/metrics", tags=["state"], response_class=Response, responses={200: {"content": {MEDIA_TYPE: {}}}})
    def metrics_text() -> Response:
        """Return the metrics in Prometheus' text format; they hold nothing of a patient."""
        return Response(metrics.text(), media_type=MEDIA_TYPE)

    app.add_middleware(Guard, access=access, on_refusal=metrics.count_refusal)
    app.add_middleware(Measured, metrics=metrics)
