"""Upload of a CT: ``POST /v1/diagnoses`` with its files as multipart/form-data."""

from collections.abc import Callable
from typing import Any

import multipart  # type: ignore[import-untyped]
from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from luna_pipeline.serving.config import UploadLimits
from luna_pipeline.serving.http.bodies import limited_body
from luna_pipeline.serving.http.problems import Problem, documented
from luna_pipeline.serving.http.service import Service
from luna_pipeline.serving.http.settling import settle
from luna_pipeline.serving.http.staging import Staging
from luna_pipeline.serving.http.views import DiagnosisView, address_of, view_of
from luna_pipeline.serving.job import Job

FIELD = "files"
_BLOCK_BYTES = 1 << 20
_RETRY_SECONDS = 30
_MAX_PART_HEADER_BYTES, _MAX_PART_HEADERS = 4096, 8
_SCHEMA = {
    "type": "object",
    "required": [FIELD],
    "properties": {
        FIELD: {
            "type": "array",
            "minItems": 1,
            "items": {"type": "string", "contentMediaType": "application/octet-stream"},
            "description": "One CT: a zip file with a DICOM series, or its DICOM files, a .mha, .nrrd or .nii.gz file, "
            "or a .mhd and its .raw file. The suffix of the file name says which; the name is not kept.",
        }
    },
}
_BODY = {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _SCHEMA}}}}
_LOCATION = {"Location": {"description": "Address of the diagnosis.", "schema": {"type": "string"}}}


def router(service: Service) -> APIRouter:
    """Return the route ``POST /v1/diagnoses``."""
    routes = APIRouter(tags=["diagnoses"])
    slots = _Slots(max(1, service.config.max_queued))
    responses: dict[int | str, dict[str, Any]] = {
        202: {"description": "Accepted, or accepted before.", "headers": _LOCATION},
        **documented(400, 408, 413, 415, 422, 429, 503, 507),
    }

    @routes.post("/v1/diagnoses", status_code=202, responses=responses, openapi_extra=_BODY)
    async def create_diagnosis(request: Request, response: Response) -> DiagnosisView:
        """Accept a CT for diagnosis. The same files again give the same diagnosis."""
        with slots.taken():
            job = await _receive(service, request)
        response.headers["Location"] = address_of(job.id)
        return await run_in_threadpool(view_of, service, job)

    return routes


class _Slots:
    """Limits the uploads that arrive at a time: each takes space on the disk before it is in the queue."""

    def __init__(self, number: int) -> None:
        self._number, self._num_taken = number, 0

    def taken(self) -> "_Slots":
        if self._num_taken >= self._number:
            detail = (
                f"At most {self._number} uploads may arrive at a time, got another. Try again in {_RETRY_SECONDS} s."
            )
            raise Problem(429, detail, {"Retry-After": str(_RETRY_SECONDS)})
        return self

    def __enter__(self) -> None:
        self._num_taken += 1

    def __exit__(self, *_: object) -> None:
        self._num_taken -= 1


async def _receive(service: Service, request: Request) -> Job:
    """Write an upload to a folder of its own and submit that; the folder is gone in the end in any case."""
    limits = service.config.limits
    parser = _parser_of(request, limits)
    await run_in_threadpool(service.jobs.check_room)
    await run_in_threadpool(service.folders.check_free, limits.min_free_bytes)
    staging = await run_in_threadpool(Staging, service.folders, limits)
    try:
        await _read_parts(request, parser, staging, limits)
        return await run_in_threadpool(_submit, service, staging)
    finally:
        await run_in_threadpool(staging.remove)


def _submit(service: Service, staging: Staging) -> Job:
    settle(staging.unpack_zip(), staging.folder, service.config.limits)
    job, _ = service.jobs.submit(staging.folder, origin="http")
    return job


def _parser_of(request: Request, limits: UploadLimits) -> multipart.PushMultipartParser:
    """Return a parser for the request's body.

    Raises:
        Problem: If its content type is another.
    """
    kind, options = multipart.parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get("boundary", "")
    if kind != "multipart/form-data" or not boundary or not boundary.isascii():
        detail = f"The content type must be multipart/form-data with a boundary, got another. Send parts named {FIELD}."
        raise Problem(415, detail)
    return multipart.PushMultipartParser(
        boundary,
        max_header_size=_MAX_PART_HEADER_BYTES,
        max_header_count=_MAX_PART_HEADERS,
        # One more, so that this limit's sentence is the staging folder's.
        max_segment_count=limits.max_files + 1,
        strict=True,
    )


async def _read_parts(
    request: Request, parser: multipart.PushMultipartParser, staging: Staging, limits: UploadLimits
) -> None:
    """Write the parts of a body as they arrive, in blocks, so that threads are changed rarely."""
    take = _taker(parser, staging)
    pending = bytearray()
    async for block in limited_body(request, limits, max_bytes=limits.max_bytes):
        pending += block
        if len(pending) >= _BLOCK_BYTES:
            await run_in_threadpool(take, bytes(pending))
            pending.clear()
    await run_in_threadpool(take, bytes(pending))
    # An empty block is the end.
    await run_in_threadpool(take, b"")


def _taker(parser: multipart.PushMultipartParser, staging: Staging) -> Callable[[bytes], None]:
    def take(data: bytes) -> None:
        try:
            for event in parser.parse(data) if not parser.closed else ():
                if isinstance(event, multipart.MultipartSegment):
                    staging.begin(_name_of(event))
                elif event is None:
                    staging.end()
                else:
                    staging.write(bytes(event))
        except multipart.MultipartError:
            detail = "The body must be multipart/form-data from beginning to end, got another. Send it again."
            raise Problem(400, detail) from None

    return take


def _name_of(part: multipart.MultipartSegment) -> str:
    if part.name != FIELD or not part.filename:
        raise Problem(400, f"Each part must be a file named {FIELD!r}, got another. Send files alone.")
    return str(part.filename)
