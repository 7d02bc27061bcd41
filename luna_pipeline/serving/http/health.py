"""Whether the service is alive, and whether it can take a CT."""

import os

from fastapi import APIRouter
from pydantic import BaseModel

from luna_pipeline.serving.http.problems import Problem, documented
from luna_pipeline.serving.http.service import Service


class Health(BaseModel):
    """Answer of ``/health``."""

    status: str = "alive"


class Readiness(BaseModel):
    """Answer of ``/ready``."""

    status: str = "ready"


def router(service: Service) -> APIRouter:
    """Return the routes ``/health`` and ``/ready``."""
    routes = APIRouter(tags=["state"])

    @routes.get("/health")
    async def health() -> Health:
        """Report that the process answers; nothing else is looked at."""
        return Health()

    @routes.get("/ready", responses=documented(503))
    def ready() -> Readiness:
        """Report that jobs can be stored: the database answers and the folder can be written to."""
        if not os.access(service.folders.root, os.W_OK):
            raise Problem(503, "The service's folder must be writable, got one that is not. See the service's log.")
        service.jobs.check_database()
        return Readiness()

    return routes
