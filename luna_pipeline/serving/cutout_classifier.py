"""Classifies the cutouts of concurrent requests together, by the present champion."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from luna_pipeline.core.cutouts.cutting import CuttingParameters
from luna_pipeline.core.datasets.batch import CutoutBatch
from luna_pipeline.core.diagnosis.diagnose import DiagnosisModel
from luna_pipeline.core.diagnosis.result import ModelVersion
from luna_pipeline.core.export.formats import run_onnx
from luna_pipeline.core.models.scoring import predict
from luna_pipeline.core.networks.folding import folded
from luna_pipeline.launchers.export import fastest_form
from luna_pipeline.serving.cutout_upload import CutoutsError
from luna_pipeline.serving.loaded_models import LoadedModels
from luna_pipeline.settings import Settings

BATCH_SIZE = 32
MAX_AT_ONCE = 256
"""Cutouts of several requests that are copied together for one pass; a single request may have more."""
_Scorer = Callable[[NDArray[np.int16]], NDArray[np.float64]]
_LOWEST_HU, _HIGHEST_HU = CuttingParameters().hu_window


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Classified:
    """Result of a request.

    Attributes:
        scores: Scores of the network, float64 (N,), in [0, 1].
        probabilities: Calibrated probabilities of a nodule, float64 (N,), in [0, 1].
        model: The classifier of all of them.
    """

    scores: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    model: ModelVersion


@dataclass(frozen=True, eq=False, slots=True)
class _Request:
    ct_chunks: NDArray[np.int16]
    future: "Future[Classified]" = field(default_factory=Future)


class CutoutClassifier:
    """Scores cutouts in one thread; requests that arrive while the network runs are scored together.

    Args:
        models: The loaded models, of which the classifier is used; other ones are looked for by the caller alone.
        settings: Paths of the installation: an ONNX form that `luna export` has measured as faster is used.
    """

    def __init__(self, models: LoadedModels, settings: Settings) -> None:
        self._models, self._settings = models, settings
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="classify")
        self._waiting: deque[_Request] = deque()
        self._scorer: tuple[nn.Module, _Scorer] | None = None

    def submit(self, ct_chunks: NDArray[np.int16]) -> "Future[Classified]":
        """Enqueue the cutouts of a request.

        Args:
            ct_chunks: HU, int16 (N, I, R, C); clipped to -1000 … 1000 as cutouts are.

        Returns:
            The result; or CutoutsError if the classifier takes another shape, see also ``LoadedModels.for_series``.
        """
        request = _Request(ct_chunks)
        self._waiting.append(request)
        self._pool.submit(self._score_waiting)
        return request.future

    def _score_waiting(self) -> None:
        """Score what is waiting, up to ``MAX_AT_ONCE``; there is a call for each request, so none is left."""
        requests = list(self._taken())
        if not requests:
            return
        try:
            # A look would make all requests wait; it is made for each by `submit`'s callers.
            model = self._models.for_series("", may_look=False).classifier
            fitting = [request for request in requests if _fits(request, model)]
            scores = self._scores(model, [request.ct_chunks for request in fitting])
            for request, own in zip(fitting, scores, strict=True):
                probabilities = model.probabilities(own)
                request.future.set_result(Classified(scores=own, probabilities=probabilities, model=model.version))
        # Every request must get an answer; the route raises it.
        except BaseException as error:
            for request in requests:
                if not request.future.done():
                    request.future.set_exception(error)
            if not isinstance(error, Exception):
                raise

    def _taken(self) -> Iterator[_Request]:
        num_taken = 0
        while self._waiting and (not num_taken or num_taken + len(self._waiting[0].ct_chunks) <= MAX_AT_ONCE):
            request = self._waiting.popleft()
            if request.future.set_running_or_notify_cancel():
                num_taken += len(request.ct_chunks)
                yield request

    def _scores(self, model: DiagnosisModel, parts: list[NDArray[np.int16]]) -> list[NDArray[np.float64]]:
        """Return the scores of each part."""
        if not parts:
            return []
        if self._scorer is None or self._scorer[0] is not model.network:
            self._scorer = (model.network, _scorer_of(model, self._settings))
        scores = self._scorer[1](parts[0] if len(parts) == 1 else np.concatenate(parts))
        return np.split(scores, np.cumsum([len(part) for part in parts])[:-1])


def _fits(request: _Request, model: DiagnosisModel) -> bool:
    """Return whether a request's cutouts have the model's shape; refuse it if not: the model may be a newer one."""
    shape = request.ct_chunks.shape[1:]
    if shape == model.chunk_shape_irc:
        return True
    msg = f"Cutouts must have {model.chunk_shape_irc} voxels, got {shape}. Cut them as this classifier was trained."
    request.future.set_exception(CutoutsError(msg))
    return False


def _scorer_of(model: DiagnosisModel, settings: Settings) -> _Scorer:
    """Return a function from cutouts (N, I, R, C) to scores (N,)."""
    form = fastest_form(settings, model.version.weights_sha256)
    if form.is_file():
        run = run_onnx(form.read_bytes())
        return lambda chunks: np.concatenate([run(it.chunks_hu.numpy()) for it in _batches(chunks)]).astype(np.float64)
    network = folded(model.network)
    return lambda chunks: predict(network, _batches(chunks))[1]


def _batches(ct_chunks: NDArray[np.int16]) -> Iterator[CutoutBatch]:
    for start in range(0, len(ct_chunks), BATCH_SIZE):
        clipped = ct_chunks[start : start + BATCH_SIZE].clip(_LOWEST_HU, _HIGHEST_HU)
        ids = torch.arange(start, start + len(clipped))
        yield CutoutBatch(
            chunks_hu=torch.from_numpy(clipped).float().unsqueeze(1),
            labels=torch.zeros_like(ids),
            candidate_id=ids,
            groups=torch.zeros_like(ids),
            repeat=torch.zeros_like(ids),
            num_in_step=len(ids),
        )
