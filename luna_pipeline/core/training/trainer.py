"""The training loop: epochs, the best of them, a checkpoint after each, and messages to whoever listens."""

import math
from dataclasses import replace
from typing import Any, Protocol, TypeVar

import torch

from luna_pipeline.core.datasets.data_module import DataModule
from luna_pipeline.core.files import remove
from luna_pipeline.core.messages import BaseMessageHandler, LogEpoch, LogModel, LogParams, LogStart
from luna_pipeline.core.metrics import youden_threshold
from luna_pipeline.core.models.base import BaseModel, EpochResult, ModelState
from luna_pipeline.core.training.building import network_of
from luna_pipeline.core.training.cadence import is_validation_due
from luna_pipeline.core.training.checkpoints import (
    Checkpoint,
    CheckpointStore,
    load_checkpoint,
    save_checkpoint,
)
from luna_pipeline.core.training.config import TrainingConfig
from luna_pipeline.core.training.randomness import get_rng_state, own_random_numbers, set_rng_state

ModelT_contra = TypeVar("ModelT_contra", contravariant=True)

DEFAULT_THRESHOLD = 0.5
WITHOUT_VALIDATION = (
    "Trained without validation: the weights are those of the last epoch, the threshold is 0.5 by default."
)
WITHOUT_AUC = (
    "Validation held one class only: the weights are those of the last epoch, the threshold is 0.5 by default."
)


class BaseTrainer(Protocol[ModelT_contra]):
    """Trains a model on data."""

    def fit(self, model: ModelT_contra, data_module: DataModule, *, version: str) -> Checkpoint:
        """Train all epochs and return the chosen one."""

    def fit_epoch(self, epoch: int, model: ModelT_contra, data_module: DataModule) -> EpochResult:
        """Train one epoch."""


class Trainer(BaseTrainer[BaseModel[Any]]):
    """Trains a model, so that a run can be killed at any moment and lose the epoch it was in, no more.

    After each epoch ``last.pt`` is the whole run so far, and ``best_so_far.pt`` the epoch with the highest validation
    AUC. ``best.pt``, the chosen epoch, is written when all is done and the trackers have the model.
    """

    def __init__(self, config: TrainingConfig, *, handler: BaseMessageHandler, store: CheckpointStore) -> None:
        """Prepare a run.

        Args:
            config: Its complete configuration.
            handler: Takes messages; closing it is the caller's.
            store: Where its checkpoints go.
        """
        self.config = config
        self._handler = handler
        self._store = store

    def fit(
        self,
        model: BaseModel[Any],
        data_module: DataModule,
        *,
        version: str,
        resume_from: Checkpoint | None = None,
        mlflow_run_id: str | None = None,
    ) -> Checkpoint:
        """Train all epochs and return the chosen one.

        Args:
            model: A new model of the configuration.
            data_module: Training and validation data.
            version: A claimed version (``CheckpointStore.claim``), or the version of ``resume_from``.
            resume_from: Last checkpoint of a run of the same configuration and data that was ended before its time:
                what comes out is what would have come out of it.
            mlflow_run_id: The run in MLflow, noted in the checkpoints.

        Returns:
            The checkpoint with the highest validation AUC; without any, the last one, with a note that says so.

        Raises:
            ValueError: If the cutouts are not of the network's shape, or ``resume_from`` is of another run.
            FloatingPointError: If the training loss is not finite.
            BlockingIOError: If another process trains this version.
        """
        self._check_fits(data_module)
        if resume_from is not None:
            self._check_is_of_this_run(resume_from, data_module, version)
        with self._store.locked(self.config.name, version), own_random_numbers(self.config.seed):
            if resume_from is None:
                last = self._beginning(model, data_module, version=version)
            else:
                last = _resumed(model, resume_from)
            last = replace(last, mlflow_run_id=mlflow_run_id or last.mlflow_run_id)
            self._handler.handle_message(LogStart(description=repr(model)))
            self._handler.handle_message(LogParams(params=self.config.flat()))
            for epoch in range(last.epoch + 1, self.config.num_epochs + 1):
                result = self.fit_epoch(epoch, model, data_module)
                last = self._keep(last, epoch, result, model.get_state())
            return self._finish(last, model)

    def fit_epoch(self, epoch: int, model: BaseModel[Any], data_module: DataModule) -> EpochResult:
        """Train one epoch, and validate where it is due.

        Raises:
            FloatingPointError: If the training loss is not finite.
        """
        message = LogEpoch(
            epoch=epoch,
            num_epochs=self.config.num_epochs,
            batch_size=data_module.batch_size,
            num_training_samples=len(data_module.training),
            num_validation_samples=0 if data_module.validation is None else len(data_module.validation),
        )
        self._handler.handle_message(message)
        is_due = is_validation_due(epoch, num_epochs=self.config.num_epochs, cadence=self.config.validation_cadence)
        result = model.fit_epoch(
            epoch,
            training_loader=data_module.get_training_dataloader(epoch=epoch),
            validation_loader=data_module.get_validation_dataloader() if is_due else None,
        )
        if not math.isfinite(result.training.loss):
            msg = f"The training loss must be finite, got {result.training.loss} (epoch {epoch})."
            raise FloatingPointError(f"{msg} Lower optimizer.learning_rate and train again.")
        return result

    def _beginning(self, model: BaseModel[Any], data_module: DataModule, *, version: str) -> Checkpoint:
        """The run before its first epoch."""
        state, training, validation = model.get_state(), data_module.training, data_module.validation
        return Checkpoint(
            name=self.config.name,
            version=version,
            config=self.config,
            model_state=state.model_state,
            optimizer_state=state.optimizer_state,
            scheduler_state=state.scheduler_state,
            epoch=0,
            num_samples_seen=state.num_samples_seen,
            best_score=math.nan,
            threshold=DEFAULT_THRESHOLD,
            rng_state=get_rng_state(),
            training_series=training.series,
            validation_series=[] if validation is None else validation.series,
            training_candidate_ids=torch.tensor(training.candidate_id),
            data_fingerprint=data_module.fingerprint,
        )

    def _keep(self, last: Checkpoint, epoch: int, result: EpochResult, state: ModelState) -> Checkpoint:
        """Write the run as it is after an epoch: first what may become the best, then the run itself."""
        score, threshold = validation_score(result)
        is_best = is_better(score, last.best_score)
        current = replace(
            last,
            model_state=state.model_state,
            optimizer_state=state.optimizer_state,
            scheduler_state=state.scheduler_state,
            num_samples_seen=state.num_samples_seen,
            epoch=epoch,
            best_score=score if is_best else last.best_score,
            threshold=threshold,
            rng_state=get_rng_state(),
        )
        if is_best:
            save_checkpoint(self._store.path(last.name, last.version, "best_so_far"), current)
        save_checkpoint(self._store.path(last.name, last.version, "last"), current)
        return current

    def _finish(self, last: Checkpoint, model: BaseModel[Any]) -> Checkpoint:
        """Hand the chosen epoch to the trackers; only a run that they know is complete."""
        best_so_far = self._store.path(last.name, last.version, "best_so_far")
        if math.isnan(last.best_score):
            chosen = replace(last, notes=WITHOUT_AUC if last.validation_series else WITHOUT_VALIDATION)
        else:
            chosen = replace(load_checkpoint(best_so_far), mlflow_run_id=last.mlflow_run_id)
        message = LogModel(
            name=chosen.name,
            version=chosen.version,
            checkpoint=chosen,
            module=network_of(chosen),
            signature=model.get_signature(),
        )
        self._handler.handle_message(message)
        save_checkpoint(self._store.path(chosen.name, chosen.version), chosen)
        remove(best_so_far)
        return chosen

    def _check_fits(self, data_module: DataModule) -> None:
        expected, got = self.config.network.chunk_shape_irc, data_module.training.chunk_shape_irc
        if expected != got:
            msg = f"Cutouts must have the shape of the network's input {expected}, got {got}."
            raise ValueError(f"{msg} Set network.chunk_shape_irc, or cut again.")

    def _check_is_of_this_run(self, resume_from: Checkpoint, data_module: DataModule, version: str) -> None:
        wanted = (self.config.digest, data_module.fingerprint, version)
        if (resume_from.config.digest, resume_from.data_fingerprint, resume_from.version) != wanted:
            msg = "A run must be continued with its own configuration, data and version, got others"
            where = f"{resume_from.name} {resume_from.version}, epoch {resume_from.epoch}"
            raise ValueError(f"{msg} ({where}). Train a new version, from these weights if you like.")


def validation_score(result: EpochResult) -> tuple[float, float]:
    """Return the validation AUC of an epoch and the threshold of its weights; nan and 0.5 where there is none."""
    if result.validation is None:
        return math.nan, DEFAULT_THRESHOLD
    threshold = youden_threshold(result.validation.labels, result.validation.scores)
    return result.validation.metrics()["auc"], DEFAULT_THRESHOLD if math.isnan(threshold) else threshold


def is_better(score: float, best_score: float) -> bool:
    """Say whether a score beats the best one; nan never does, and everything beats nan."""
    return not math.isnan(score) and (math.isnan(best_score) or score > best_score)


def _resumed(model: BaseModel[Any], checkpoint: Checkpoint) -> Checkpoint:
    """Bring model and random numbers to where they were at the end of the checkpoint's epoch."""
    state = ModelState(
        model_state=checkpoint.model_state,
        optimizer_state=checkpoint.optimizer_state,
        scheduler_state=checkpoint.scheduler_state,
        num_samples_seen=checkpoint.num_samples_seen,
    )
    model.load_state(state)
    set_rng_state(checkpoint.rng_state)
    return checkpoint
