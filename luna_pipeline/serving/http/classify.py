"""Classification of cutouts, and the models that are loaded."""

import asyncio
import contextlib
import io
import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from luna_pipeline.core.diagnosis.diagnose import DiagnosisModels
from luna_pipeline.core.diagnosis.result import ModelVersion, Role
from luna_pipeline.serving.config import UploadLimits
from luna_pipeline.serving.cutout_classifier import CutoutClassifier
from luna_pipeline.serving.cutout_upload import CutoutsError, max_body_bytes, read_cutouts, unpacked_bytes
from luna_pipeline.serving.http.bodies import whole_body
from luna_pipeline.serving.http.problems import Problem, documented
from luna_pipeline.serving.http.service import Service
from luna_pipeline.serving.http.views import RESEARCH_USE
from luna_pipeline.serving.loaded_models import LoadedModels, shown_reason

_log = logging.getLogger(__name__)
_MAX_BYTES_AT_ONCE = 512 << 20
_MAX_SECONDS, _MIN_BYTES_PER_SECOND = 60.0, 100_000.0
_BODY = {
    "requestBody": {
        "required": True,
        "description": "An .npz with the array ct_chunks alone: HU, int16 (N, I, R, C), see /v1/models for I, R, C.",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


class ModelView(BaseModel):
    """A loaded model."""

    role: Role
    name: str
    version: str
    address: str = Field(description="Where it was found.")
    weights_sha256: str
    threshold: float | None = Field(description="Calibrated probability of a positive decision; null for a segmenter.")
    has_unknown_origin: bool = Field(description="Whether it is not known which scans it was trained on.")
    chunk_shape_irc: tuple[int, int, int] | None = Field(description="Voxels of a classifier's cutouts.")


class ClassifiedView(BaseModel):
    """Classified cutouts, in the order of the request."""

    scores: list[float] = Field(description="Scores of the network, in [0, 1].")
    probabilities: list[float] = Field(description="Calibrated probabilities of a nodule, in [0, 1].")
    model: ModelView
    notice: str = RESEARCH_USE


class BodyBudget:
    """Bytes of requests that are in memory at a time; for use in the event loop alone.

    Args:
        limit: Bytes of all requests; a single one may be larger.
    """

    def __init__(self, limit: int) -> None:
        self._limit, self._used = limit, 0

    @contextlib.contextmanager
    def reserved(self, num_bytes: int, *, own: int = 0) -> Iterator[None]:
        """Reserve bytes for a request that has ``own`` reserved bytes already.

        Raises:
            Problem: 429 if too many are reserved.
        """
        if self._used > own and self._used + num_bytes > self._limit:
            detail = f"Cutouts in work must have at most {self._limit} bytes, got more. Try again in 1 s."
            raise Problem(429, detail, {"Retry-After": "1"})
        self._used += num_bytes
        try:
            yield
        finally:
            self._used -= num_bytes


def router(service: Service) -> APIRouter:
    """Return the routes ``/v1/classify`` and ``/v1/models``."""
    routes, limits = APIRouter(prefix="/v1", tags=["models"]), _limits_of(service.config.limits)
    models = LoadedModels(service.settings, service.config)
    classifier, budget = CutoutClassifier(models, service.settings), BodyBudget(_MAX_BYTES_AT_ONCE)
    # Requests that wait for the first models leave threads to all others.
    looking = CapacityLimiter(8)

    @routes.get("/models", responses=documented(503))
    async def list_models() -> list[ModelView]:
        """Return the models that are loaded, in the order of their use."""
        found = await to_thread.run_sync(_present, models, limiter=looking)
        return [_view(each.version, each.chunk_shape_irc) for each in (found.segmenter, *found.classifiers)]

    @routes.post("/classify", responses=documented(408, 413, 422, 429, 503), openapi_extra=_BODY)
    async def classify(request: Request) -> ClassifiedView:
        """Classify cutouts by the present nodule classifier. Values are clipped to -1000 … 1000 HU."""
        shape = (await to_thread.run_sync(_present, models, limiter=looking)).classifier.chunk_shape_irc
        most = max_body_bytes(shape, limits.max_cutouts)
        num_packed = _announced_bytes(request, most)
        try:
            # Unpacked cutouts keep their place until they are scored.
            with contextlib.ExitStack() as unpacked:
                with budget.reserved(num_packed):
                    body = io.BytesIO(await whole_body(request, limits, max_bytes=most))
                    form: dict[str, Any] = {"chunk_shape_irc": shape, "max_cutouts": limits.max_cutouts}
                    num_bytes = await run_in_threadpool(unpacked_bytes, body, **form)
                    unpacked.enter_context(budget.reserved(num_bytes, own=num_packed))
                    ct_chunks = await run_in_threadpool(read_cutouts, body, **form)
                    body.close()
                found = await asyncio.wrap_future(classifier.submit(ct_chunks))
        except CutoutsError as error:
            raise Problem(422, str(error)) from error
        return ClassifiedView(
            scores=found.scores.tolist(),
            probabilities=found.probabilities.tolist(),
            model=_view(found.model, shape),
        )

    return routes


def _limits_of(limits: UploadLimits) -> UploadLimits:
    """Return the limits of a body that holds its place in memory while it arrives; a CT's is on the disk."""
    return replace(
        limits,
        max_seconds=min(limits.max_seconds, _MAX_SECONDS),
        min_bytes_per_second=max(limits.min_bytes_per_second, _MIN_BYTES_PER_SECOND),
    )


def _present(models: LoadedModels) -> DiagnosisModels:
    """Return the present models; the error's text may hold paths of this machine, and is logged alone."""
    try:
        return models.for_series("")
    # The registry's database has errors of its own.
    except Exception as error:
        _log.warning("No models: %s", shown_reason(error))
        detail = "A segmenter and a classifier must be there, got none that can be loaded. See the service's log."
        raise Problem(503, detail, {"Retry-After": "60"}) from error


def _announced_bytes(request: Request, limit: int) -> int:
    """Return the bytes to reserve for a body: the largest one's where its length is not announced."""
    announced = request.headers.get("content-length", "")[:20]
    return min(int(announced), limit) if announced.isdigit() else limit


def _view(version: ModelVersion, chunk_shape_irc: tuple[int, int, int]) -> ModelView:
    return ModelView(
        role=version.role,
        name=version.name,
        version=version.version,
        address=version.address,
        weights_sha256=version.weights_sha256,
        threshold=version.threshold,
        has_unknown_origin=version.has_unknown_origin,
        chunk_shape_irc=None if version.role == "segmenter" else chunk_shape_irc,
    )
