"""The page ``/docs``: the OpenAPI description as plain HTML, since the usual viewers load scripts from elsewhere."""

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from luna_pipeline.serving.http.service import Service

_HEAD = (
    '<!doctype html><html lang="en"><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width"><title>luna_pipeline: HTTP API</title>'
    '<link rel="stylesheet" href="/page/page.css">'
)


def router(_service: Service) -> APIRouter:
    """Return the route ``/docs``."""
    routes = APIRouter(include_in_schema=False)

    @routes.get("/docs", response_class=HTMLResponse)
    def docs(request: Request) -> str:
        """Return the description of all routes as a page."""
        return "\n".join(_page(request.app.openapi()))

    return routes


def _page(description: Mapping[str, Any]) -> Iterator[str]:
    info = description["info"]
    yield _HEAD
    yield f"<main><h1>{escape(info['title'])} {escape(info['version'])}: HTTP API</h1>"
    yield f"<p>{escape(info['description'])}</p>"
    yield '<p>Machines read <a href="/openapi.json">openapi.json</a>. '
    yield "Every error is JSON with one sentence: <code>{&quot;detail&quot;: …}</code>.</p>"
    for place, methods in description["paths"].items():
        for method, route in methods.items():
            yield from _route(place, method, route)
    yield "</main></html>"


def _route(place: str, method: str, route: Mapping[str, Any]) -> Iterator[str]:
    yield f"<h2><code>{method.upper()} {escape(place)}</code></h2>"
    yield f"<p>{escape(route.get('description', route.get('summary', '')))}</p>"
    if body := route.get("requestBody"):
        yield "<p>Body: " + "; ".join(_body(kind, it) for kind, it in body["content"].items()) + "</p>"
    if parameters := route.get("parameters"):
        names = (f"<code>{escape(it['name'])}</code> ({escape(it['in'])})" for it in parameters)
        yield f"<p>Parameters: {', '.join(names)}</p>"
    yield "<ul>"
    for status, answer in route["responses"].items():
        kinds = ", ".join(f"<code>{escape(kind)}</code>" for kind in answer.get("content", {}))
        yield f"<li><code>{escape(status)}</code> {escape(answer['description'])} {kinds}</li>"
    yield "</ul>"


def _body(kind: str, content: Mapping[str, Any]) -> str:
    properties = content.get("schema", {}).get("properties", {})
    fields = (f"<code>{escape(name)}</code>: {escape(it.get('description', ''))}" for name, it in properties.items())
    return f"<code>{escape(kind)}</code> {' '.join(fields)}"
