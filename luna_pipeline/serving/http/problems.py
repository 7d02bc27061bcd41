"""Errors as answers: one JSON form for all, ``{"detail": "<sentence>"}``."""

import errno
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import BaseRoute, Match

from luna_pipeline.serving.job import JobsUnavailableError, QueueFullError, UnknownJobError

_FULL_DISK = (errno.ENOSPC, errno.EDQUOT)


class ProblemBody(BaseModel):
    """JSON of every 4xx and 5xx answer."""

    detail: str = Field(description="What is wrong and what to do, one sentence or two; nothing of a patient.")


class Problem(Exception):
    """A request that is answered with an error.

    Attributes:
        status: HTTP status, 4xx or 5xx.
        detail: ``<rule>, got <value>. <what to do>``, without anything of a patient or a name from outside.
        headers: Further headers of the answer.
    """

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})


def problem_response(status: int, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Return the answer for an error."""
    return JSONResponse({"detail": detail}, status_code=status, headers=dict(headers or {}))


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the entry ``responses`` of a route for the OpenAPI description."""
    return {it: {"model": ProblemBody, "description": HTTPStatus(it).phrase} for it in statuses}


def add_problem_handlers(app: FastAPI) -> None:
    """Answer every error in the one form."""

    @app.exception_handler(Problem)
    def _problem(_request: Request, error: Problem) -> JSONResponse:
        return problem_response(error.status, error.detail, error.headers)

    @app.exception_handler(QueueFullError)
    def _full(_request: Request, error: QueueFullError) -> JSONResponse:
        return problem_response(429, str(error), {"Retry-After": str(error.retry_after_seconds)})

    @app.exception_handler(UnknownJobError)
    def _unknown(_request: Request, error: UnknownJobError) -> JSONResponse:
        return problem_response(404, str(error))

    @app.exception_handler(JobsUnavailableError)
    def _unavailable(_request: Request, error: JobsUnavailableError) -> JSONResponse:
        return problem_response(503, str(error), {"Retry-After": "60"})

    @app.exception_handler(ClientDisconnect)
    def _gone(_request: Request, _error: ClientDisconnect) -> JSONResponse:
        # It reaches the client only if that has closed one direction alone.
        return problem_response(400, "The body must arrive in full, got a part. Send it again.")

    @app.exception_handler(RequestValidationError)
    def _invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        return problem_response(422, _sentence(error))

    @app.exception_handler(HTTPException)
    def _http(request: Request, error: HTTPException) -> JSONResponse:
        headers = dict(error.headers or {})
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            headers["Allow"] = _methods_of(app, request)
        return problem_response(error.status_code, _http_sentence(error), headers)

    @app.exception_handler(OSError)
    def _disk(_request: Request, error: OSError) -> JSONResponse:
        if error.errno not in _FULL_DISK:
            raise error
        detail = "The service's disk must have free space, got a full one. Try again later, or free some."
        return problem_response(507, detail)


def _sentence(error: RequestValidationError) -> str:
    """Return the first fault without the value: it may be anything."""
    first = error.errors()[0]
    kind, *names = (str(part) for part in first["loc"])
    message = str(first["msg"]).removeprefix("Value error, ").rstrip(".")
    place = f"{kind} {'.'.join(names)}".strip()
    return f"The request's parameters must be as described, got another value ({place:.80}): {message:.200}. See /docs."


def _methods_of(app: FastAPI, request: Request) -> str:
    """Return the methods of all routes of a path; the error names those of the first route alone."""
    matching = (route for route in _flat(app.routes) if route.matches(request.scope)[0] is not Match.NONE)
    return ", ".join(sorted({method for route in matching for method in getattr(route, "methods", None) or ()}))


def _flat(routes: Iterable[BaseRoute]) -> Iterator[BaseRoute]:
    """Yield routes, with those of each router in the router's place."""
    for route in routes:
        router = getattr(route, "original_router", None)
        yield from [route] if router is None else _flat(router.routes)


def _http_sentence(error: HTTPException) -> str:
    if error.status_code == HTTPStatus.NOT_FOUND:
        return "The address must be one of the service's, got another. See /docs."
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return "The method must be one of the address's, got another. See /docs."
    return str(error.detail)
