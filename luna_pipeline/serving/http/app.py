"""The HTTP application: one list of routers, one form of errors."""

from importlib.metadata import version

from fastapi import FastAPI

from luna_pipeline.serving.config import ServiceConfig
from luna_pipeline.serving.folders import ServiceFolders
from luna_pipeline.serving.http import api_page, classify, diagnoses, health, page, results, slices, uploads
from luna_pipeline.serving.http.problems import add_problem_handlers
from luna_pipeline.serving.http.service import Service
from luna_pipeline.serving.jobs import Jobs
from luna_pipeline.serving.security.access import Access, access_of
from luna_pipeline.serving.security.protect import protect
from luna_pipeline.serving.security.tokens import Tokens
from luna_pipeline.settings import Settings

_DESCRIPTION = "Lung nodules in chest CTs. Research use only; not a medical device."


def create_app(
    settings: Settings, config: ServiceConfig, folders: ServiceFolders, jobs: Jobs, *, access: Access | None = None
) -> FastAPI:
    """Return the application.

    Args:
        settings: Paths of the installation.
        config: Configuration of the service.
        folders: Folders of the service.
        jobs: Jobs, safe to use from several threads.
        access: From where it may be used; None for this machine alone.
    """
    service = Service(settings=settings, config=config, folders=folders, jobs=jobs)
    # FastAPI's own page of the description loads scripts from an outside address.
    app = FastAPI(
        title="luna_pipeline", version=version("luna_pipeline"), description=_DESCRIPTION, docs_url=None, redoc_url=None
    )
    add_problem_handlers(app)
    for module in (health, uploads, diagnoses, results, slices, classify, page, api_page):
        app.include_router(module.router(service))
    access = access or access_of(Tokens(folders.tokens), host="127.0.0.1")
    protect(app, access, count_jobs=jobs.counts, folder=folders.root)
    return app
