"""The training loop: epochs, the best of them, checkpoints on the way, and messages to whoever listens."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from luna_pipeline.core.datasets.data_module import DataModule
from luna_pipeline.core.distributed import SINGLE_PROCESS, DistributedContext
from luna_pipeline.core.events.messages import BaseMessageHandler, LogEpoch, LogParams, LogStart
from luna_pipeline.core.models.base import BEGINNING, BaseModel, EpochProgress, EpochResult, SplitResult
from luna_pipeline.core.training.cadence import is_checkpoint_due, is_over, is_validation_due
from luna_pipeline.core.training.checkpoint_manager import CheckpointManager
from luna_pipeline.core.training.checkpoints import Checkpoint, CheckpointStore
from luna_pipeline.core.training.config import TrainingConfig
from luna_pipeline.core.training.interrupts import PostponedInterrupts
from luna_pipeline.core.training.randomness import fork_rng

ModelT_contra = TypeVar("ModelT_contra", contravariant=True)
SECONDS_BETWEEN_CHECKPOINTS = 600.0
_GO_ON, _KEEP, _INTERRUPTED = 0, 1, 2


class BaseProfiler(Protocol):
    """Watches some training steps."""

    def step(self) -> None:
        """Take note of a training step."""


class BaseTrainer(Protocol[ModelT_contra]):
    """Trains a model on data."""

    def fit(self, model: ModelT_contra, data_module: DataModule, *, version: str) -> Checkpoint:
        """Train all epochs and return the chosen one."""

    def fit_epoch(self, epoch: int, model: ModelT_contra, data_module: DataModule) -> EpochResult:
        """Train one epoch."""


class Trainer(BaseTrainer[BaseModel[Any]]):
    """Trains a model, so that a run can be ended at any moment and goes on from its last checkpoint to the same bits.

    ``last.pt`` is the whole run so far: after each epoch, every ten minutes within one, and when an interrupt ends it,
    which waits for the end of the training step. ``best_so_far.pt`` is the epoch with the highest validation AUC.
    ``best.pt``, the chosen epoch, is written when all is done and the trackers have the model.

    Attributes:
        config: The complete configuration of the run.
    """

    def __init__(
        self,
        config: TrainingConfig,
        *,
        handler: BaseMessageHandler,
        store: CheckpointStore,
        processes: DistributedContext = SINGLE_PROCESS,
        seconds_between_checkpoints: float = SECONDS_BETWEEN_CHECKPOINTS,
        profiler: BaseProfiler | None = None,
    ) -> None:
        """Prepare a run.

        Args:
            config: Its complete configuration.
            handler: Takes messages; closing it is the caller's.
            store: Where its checkpoints go.
            processes: Those that train together; the first one writes.
            seconds_between_checkpoints: How much of an epoch may be lost when a machine dies.
            profiler: Watches training steps.
        """
        self.config = config
        self._handler = handler
        self._store = store
        self._processes = processes
        self._manager = CheckpointManager(config, handler=handler, store=store, processes=processes)
        self._seconds_between_checkpoints = seconds_between_checkpoints
        self._profiler = profiler

    def fit(
        self,
        model: BaseModel[Any],
        data_module: DataModule,
        *,
        version: str,
        resume_from: Checkpoint | None = None,
        started_from: Checkpoint | None = None,
        mlflow_run_id: str | None = None,
    ) -> Checkpoint:
        """Train all epochs and return the chosen one.

        Args:
            model: A new model of the configuration.
            data_module: Training and validation data.
            version: A claimed version (``CheckpointStore.claim``), or the version of ``resume_from``.
            resume_from: Last checkpoint of a run of the same configuration and data that was ended before its time:
                what comes out is what would have come out of it.
            started_from: The run whose weights the model begins with, if any; what they have seen is noted.
            mlflow_run_id: The run in MLflow, noted in the checkpoints.

        Returns:
            The checkpoint with the highest validation AUC; without any, the last one, with a note that says so.

        Raises:
            ValueError: If the cutouts are not of the network's shape, or ``resume_from`` is of another run.
            FloatingPointError: If the training loss is not finite.
            BlockingIOError: If another process trains this version.
        """
        self._manager.check_fits(data_module, version=version, resume_from=resume_from)
        with self._locked(version), fork_rng(self.config.seed + self._processes.rank):
            if resume_from is None:
                last = self._manager.beginning(model, data_module, version=version, started_from=started_from)
            else:
                last = self._manager.resumed(model, resume_from)
            last = replace(last, mlflow_run_id=mlflow_run_id or last.mlflow_run_id)
            self._handler.handle_message(LogStart(description=repr(model)))
            self._handler.handle_message(LogParams(params=self.config.flat()))
            while not self._is_over(last):
                result = self.fit_epoch(last.epoch + 1, model, data_module, last=last)
                last = self._manager.keep_epoch(last, result, model)
            return self._manager.finish(last, model)

    def fit_epoch(
        self, epoch: int, model: BaseModel[Any], data_module: DataModule, *, last: Checkpoint | None = None
    ) -> EpochResult:
        """Train one epoch, and validate where it is due.

        Args:
            epoch: The epoch, from 1.
            model: The model.
            data_module: Training and validation data.
            last: The run so far, whose checkpoint is kept up to date on the way, and whose epoch may be half done.

        Raises:
            FloatingPointError: If the training loss is not finite.
        """
        self._handler.handle_message(self._epoch_message(epoch, data_module))
        is_due = is_validation_due(epoch, num_epochs=self.config.num_epochs, cadence=self.config.validation_cadence)
        progress = BEGINNING if last is None else last.progress
        with PostponedInterrupts() as interrupts:
            if progress.num_batches == data_module.num_training_batches:
                interrupts.release()
            result = model.fit_epoch(
                epoch,
                training_loader=data_module.get_training_dataloader(epoch=epoch, first_batch=progress.num_batches),
                validation_loader=data_module.get_validation_dataloader() if is_due else None,
                progress=progress,
                after_step=self._after_step(model, data_module.num_training_batches, last, interrupts),
            )
        if not math.isfinite(result.training.loss):
            msg = f"The training loss must be finite, got {result.training.loss} (epoch {epoch})."
            raise FloatingPointError(f"{msg} Lower optimizer.learning_rate, or clip gradients, and train again.")
        return result

    def _after_step(
        self, model: BaseModel[Any], num_batches: int, last: Checkpoint | None, interrupts: PostponedInterrupts
    ) -> Callable[[int, Callable[[], SplitResult]], None]:
        """Make what is done after each training step: keep the run where that is due, and let interrupts through."""
        kept_at = time.monotonic()

        def after_step(num_done: int, samples: Callable[[], SplitResult]) -> None:
            nonlocal kept_at
            if self._profiler is not None:
                self._profiler.step()
            is_last = num_done == num_batches
            is_due = is_last or is_checkpoint_due(
                time.monotonic() - kept_at, every_seconds=self._seconds_between_checkpoints
            )
            # All processes do the same: one that keeps or ends alone would leave the others waiting for ever.
            todo = self._processes.largest(_INTERRUPTED if interrupts.is_pending else _KEEP if is_due else _GO_ON)
            if todo != _GO_ON and last is not None:
                self._manager.keep_progress(last, EpochProgress(num_done, samples()), model)
                kept_at = time.monotonic()
            if todo == _INTERRUPTED:
                interrupts.deliver()
                raise KeyboardInterrupt
            if is_last:
                # A validation may take long and leaves no trace: from here on nobody has to wait for its end.
                interrupts.release()

        return after_step

    def _epoch_message(self, epoch: int, data_module: DataModule) -> LogEpoch:
        return LogEpoch(
            epoch=epoch,
            num_epochs=self.config.num_epochs,
            batch_size=data_module.batch_size,
            num_training_samples=len(data_module.training),
            num_validation_samples=0 if data_module.validation is None else len(data_module.validation),
        )

    def _is_over(self, last: Checkpoint) -> bool:
        return is_over(
            last.epoch,
            num_epochs=self.config.num_epochs,
            num_without_rise=last.epochs_without_rise,
            patience=self.config.early_stopping.patience,
        )

    @contextlib.contextmanager
    def _locked(self, version: str) -> Iterator[None]:
        if not self._processes.is_first:
            yield
            return
        with self._store.locked(self.config.name, version):
            yield
