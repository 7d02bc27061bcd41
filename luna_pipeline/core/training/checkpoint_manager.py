"""Checkpoints of a run: creates, saves and resumes its state, and publishes the chosen epoch."""

import math
import time
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from luna_pipeline.core.datasets.data_module import DataModule
from luna_pipeline.core.distributed import DistributedContext
from luna_pipeline.core.events.messages import BaseMessageHandler, LogCheckpoint, LogModel
from luna_pipeline.core.metrics.decision import UNDECIDED, Decision
from luna_pipeline.core.models.base import BEGINNING, BaseModel, EpochProgress, EpochResult, ModelState
from luna_pipeline.core.models.finite import check_state
from luna_pipeline.core.storage.files import remove
from luna_pipeline.core.training.building import network_of
from luna_pipeline.core.training.cadence import epochs_without_rise, is_better
from luna_pipeline.core.training.checkpoints import Checkpoint, CheckpointStore, load_checkpoint, save_checkpoint
from luna_pipeline.core.training.config import TrainingConfig
from luna_pipeline.core.training.randomness import get_rng_state, set_rng_state

_LAST_EPOCH = "the weights are those of the last epoch, the threshold is 0.5 by default."
WITHOUT_VALIDATION = f"Trained without validation: {_LAST_EPOCH}"
WITHOUT_AUC = f"Validation held one class only: {_LAST_EPOCH}"


class CheckpointManager:
    """Saves and resumes the state of a run; the first of several processes writes."""

    def __init__(
        self,
        config: TrainingConfig,
        *,
        handler: BaseMessageHandler,
        store: CheckpointStore,
        processes: DistributedContext,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._handler = handler
        self._store = store
        self._processes = processes
        self._clock = clock
        self._epoch_started = clock()

    def check_fits(self, data_module: DataModule, *, version: str, resume_from: Checkpoint | None) -> None:
        """Check the shape of the cutouts, and that ``resume_from`` is of this run; a mismatch is a ValueError."""
        expected, got = self._config.network.chunk_shape_irc, data_module.training.chunk_shape_irc
        if expected != got:
            msg = f"Cutouts must have the shape of the network's input {expected}, got {got}."
            raise ValueError(f"{msg} Set network.chunk_shape_irc, or cut again.")
        if resume_from is None:
            return
        wanted = (self._config.digest, data_module.fingerprint, version)
        if (resume_from.config.digest, resume_from.data_fingerprint, resume_from.version) != wanted:
            msg = "A run must be continued with its own configuration, data and version, got others"
            where = f"{resume_from.name} {resume_from.version}, epoch {resume_from.epoch}"
            raise ValueError(f"{msg} ({where}). Train a new version, from these weights if you like.")

    def start(
        self, model: BaseModel[Any], data_module: DataModule, *, version: str, started_from: Checkpoint | None
    ) -> Checkpoint:
        """Return the state of the run before its first epoch."""
        self._epoch_started = self._clock()
        state, training, validation = _state(model, epoch=0), data_module.training, data_module.validation
        return Checkpoint(
            name=self._config.name,
            version=version,
            config=self._config,
            **_entries(state),
            epoch=0,
            best_score=math.nan,
            training_seconds=0.0,
            rng_state=get_rng_state(self._processes),
            training_series=training.series,
            validation_series=[] if validation is None else validation.series,
            training_candidate_ids=torch.tensor(training.candidate_id),
            data_fingerprint=data_module.fingerprint,
            **_inherited(started_from),
        )

    def resume(self, model: BaseModel[Any], checkpoint: Checkpoint) -> Checkpoint:
        """Restore model and random number generators from a checkpoint, and return it."""
        self._epoch_started = self._clock()
        model.load_state(ModelState(**_entries(checkpoint)))
        _state(model, epoch=checkpoint.epoch)
        set_rng_state(checkpoint.rng_state, self._processes)
        return checkpoint

    def save_progress(self, last: Checkpoint, progress: EpochProgress, model: BaseModel[Any]) -> None:
        """Save the run after a training step, as ``last.pt``."""
        rng_state = get_rng_state(self._processes)
        if self._processes.is_first:
            new: dict[str, Any] = {
                "progress": progress,
                "rng_state": rng_state,
                "training_seconds": self._seconds(last),
            }
            current = replace(last, **_entries(_state(model, epoch=last.epoch + 1)), **new)
            save_checkpoint(self._store.path(last.name, last.version, "last"), current)

    def save_epoch(
        self,
        last: Checkpoint,
        result: EpochResult,
        model: BaseModel[Any],
        *,
        validation_index: pd.DataFrame | None = None,
    ) -> Checkpoint:
        """Save the run after an epoch: first ``best_so_far.pt`` if its score is the best, then ``last.pt``.

        ``validation_index`` holds the rows of the validation data, see ``validation_score``.
        """
        score, decision = validation_score(result, validation_index)
        is_best = is_better(score, last.best_score)
        min_delta = self._config.early_stopping.min_delta
        num_without_rise = epochs_without_rise(
            last.epochs_without_rise, score=score, best_score=last.best_score, min_delta=min_delta
        )
        current = replace(
            last,
            **_entries(_state(model, epoch=last.epoch + 1)),
            epoch=last.epoch + 1,
            progress=BEGINNING,
            best_score=score if is_best else last.best_score,
            epochs_without_rise=num_without_rise,
            decision=decision,
            training_seconds=self._seconds(last),
            rng_state=get_rng_state(self._processes),
        )
        self._epoch_started = self._clock()
        if self._processes.is_first:
            if is_best:
                save_checkpoint(self._store.path(last.name, last.version, "best_so_far"), current)
            path = self._store.path(last.name, last.version, "last")
            save_checkpoint(path, current)
            saved = LogCheckpoint(epoch=current.epoch, num_samples_seen=current.num_samples_seen, path=str(path))
            self._handler.handle_message(saved)
        return current

    def finish(self, last: Checkpoint, model: BaseModel[Any]) -> Checkpoint:
        """Report the chosen epoch to the trackers, then save it as ``best.pt``, which completes the run."""
        chosen = self._publish(last, model) if self._processes.is_first else last
        return self._processes.broadcast(chosen)

    def _seconds(self, last: Checkpoint) -> float:
        """Return the wall seconds of the run so far, including the current epoch."""
        return last.training_seconds + self._clock() - self._epoch_started

    def _publish(self, last: Checkpoint, model: BaseModel[Any]) -> Checkpoint:
        best_so_far = self._store.path(last.name, last.version, "best_so_far")
        if math.isnan(last.best_score):
            note = WITHOUT_AUC if last.validation_series else WITHOUT_VALIDATION
            chosen = replace(last, notes=f"{last.notes} {note}".strip())
        else:
            chosen = load_checkpoint(best_so_far)
            chosen = replace(chosen, mlflow_run_id=last.mlflow_run_id, training_seconds=last.training_seconds)
        names: dict[str, Any] = {"name": chosen.name, "version": chosen.version}
        message = LogModel(**names, checkpoint=chosen, module=network_of(chosen), signature=model.get_signature())
        self._handler.handle_message(message)
        save_checkpoint(self._store.path(chosen.name, chosen.version), chosen)
        remove(best_so_far)
        return chosen


def validation_score(result: EpochResult, index: pd.DataFrame | None = None) -> tuple[float, Decision]:
    """Return validation score and decision of an epoch; nan and ``UNDECIDED`` where it was not validated.

    ``index`` holds ``candidate_id`` and ``series_instance_uid`` of the validation data. With it, the choice of the
    calibration keeps the candidates of a series together.
    """
    samples = result.validation
    if samples is None:
        return math.nan, UNDECIDED
    series = None
    if index is not None and np.isin(samples.candidate_id, index["candidate_id"]).all():
        series = index.set_index("candidate_id").loc[samples.candidate_id, "series_instance_uid"].to_numpy()
    return samples.selection_score(), samples.decision(series)


def _state(model: BaseModel[Any], *, epoch: int) -> ModelState:
    """Return the state of a model; weights that are not finite are a NonFiniteError."""
    state, module = model.get_state(), model.get_module()
    names = {name for name, _ in module.named_parameters()}
    # Other buffers may be infinite, such as masks.
    names |= {name for name, _ in module.named_buffers() if name.endswith(("running_mean", "running_var"))}
    check_state(state.model_state, state.optimizer_state, where=f"epoch {epoch}", parameters=names)
    return state


def _entries(state: ModelState | Checkpoint) -> dict[str, Any]:
    """Return the entries of a model's state by name."""
    return {entry.name: getattr(state, entry.name) for entry in fields(ModelState)}


def _inherited(source: Checkpoint | None) -> dict[str, Any]:
    """Return the series that the initial weights have seen; the run counts as having seen them as well."""
    if source is None:
        return {}
    return {
        "inherited_training_series": sorted({*source.training_series, *source.inherited_training_series}),
        "inherited_validation_series": sorted({*source.validation_series, *source.inherited_validation_series}),
        "has_unknown_origin": source.has_unknown_origin,
        "notes": f"Began with the weights of {source.name} {source.version}. {source.notes}".strip(),
    }
