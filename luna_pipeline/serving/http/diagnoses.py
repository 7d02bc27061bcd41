"""Diagnoses: list, state, results and removal."""

from fastapi import APIRouter, Response

from luna_pipeline.serving.http.problems import documented
from luna_pipeline.serving.http.service import Service
from luna_pipeline.serving.http.views import DiagnosisView, view_of


def router(service: Service) -> APIRouter:
    """Return the routes below ``/v1/diagnoses``."""
    routes = APIRouter(prefix="/v1/diagnoses", tags=["diagnoses"])

    @routes.get("")
    def list_diagnoses() -> list[DiagnosisView]:
        """Return the newest 100 diagnoses, the newest first."""
        return [view_of(service, job) for job in service.jobs.list()]

    @routes.get("/{job_id}", responses=documented(404))
    def get_diagnosis(job_id: str) -> DiagnosisView:
        """Return the state of a diagnosis and the addresses of its results."""
        return view_of(service, service.jobs.get(job_id))

    @routes.delete("/{job_id}", status_code=204, responses=documented(404))
    def delete_diagnosis(job_id: str) -> Response:
        """Remove a diagnosis with its CT and its results; a running one is cancelled."""
        service.jobs.delete(job_id)
        return Response(status_code=204)

    return routes
