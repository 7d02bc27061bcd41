"""Files of a diagnosis that is done."""

from typing import Any

from fastapi import APIRouter
from fastapi.responses import FileResponse

from luna_pipeline.serving.folders import OUTPUT
from luna_pipeline.serving.http.problems import Problem, documented
from luna_pipeline.serving.http.service import Service
from luna_pipeline.serving.http.views import MEDIA_TYPES

# The report has its style and pictures inside, and runs no script.
_REPORT_POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def router(service: Service) -> APIRouter:
    """Return a route for each file below ``/v1/diagnoses/{job_id}``."""
    routes = APIRouter(prefix="/v1/diagnoses/{job_id}", tags=["results"])
    for name in MEDIA_TYPES:
        _add_route(routes, service, name)
    return routes


def _add_route(routes: APIRouter, service: Service, name: str) -> None:
    media_type = MEDIA_TYPES[name]
    content = {media_type.partition(";")[0]: {"schema": {"type": "string", "format": "binary"}}}
    if name.endswith(".json"):
        content = {media_type: {"schema": {"type": "object"}}}
    described: dict[int | str, dict[str, Any]] = {
        200: {"description": "The file.", "content": content},
        **documented(404, 409, 503),
    }

    @routes.get(f"/{name}", name=f"get_{name}", response_class=FileResponse, responses=described)
    def get_result(job_id: str) -> FileResponse:
        """Return a file of a diagnosis that is done."""
        return _file(service, job_id, name)


def _file(service: Service, job_id: str, name: str) -> FileResponse:
    job = service.jobs.get(job_id)
    if job.state != "done":
        detail = f"A diagnosis must be done to have results, got one that is {job.state}. Look at its state."
        raise Problem(409, detail)
    path = service.folders.job(job_id) / OUTPUT / name
    if not path.is_file():
        detail = f"The result must be one that this diagnosis has, got none ({name}). Look at its list of results."
        raise Problem(404, detail)
    is_shown = name.endswith((".html", ".png"))
    return FileResponse(
        path,
        media_type=MEDIA_TYPES[name],
        filename=f"{job_id}-{name}",
        content_disposition_type="inline" if is_shown else "attachment",
        headers={"Content-Security-Policy": _REPORT_POLICY} if name == "report.html" else None,
    )
