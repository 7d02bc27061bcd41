"""The page at ``/`` and its files; nothing of it comes from another address."""

from importlib.resources import files
from pathlib import PurePath

from fastapi import APIRouter, Response

from luna_pipeline.serving.http.problems import Problem
from luna_pipeline.serving.http.service import Service

_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}


def router(_service: Service) -> APIRouter:
    """Return the routes of the page; its files are read once."""
    routes = APIRouter(include_in_schema=False)
    folder = files("luna_pipeline.serving.page")
    contents = {it.name: it.read_bytes() for it in folder.iterdir() if PurePath(it.name).suffix in _MEDIA_TYPES}

    @routes.get("/")
    async def page() -> Response:
        return _answer(contents, "index.html")

    @routes.get("/page/{name}")
    async def file(name: str) -> Response:
        return _answer(contents, name)

    return routes


def _answer(contents: dict[str, bytes], name: str) -> Response:
    # Names of the package's files alone are looked up; no path is made of a name from outside.
    if name not in contents:
        raise Problem(404, "The address must be one of the service's, got another. See /docs.")
    # A new version of the package must be seen at the next visit.
    headers = {"Cache-Control": "no-cache"}
    return Response(contents[name], media_type=_MEDIA_TYPES[PurePath(name).suffix], headers=headers)
