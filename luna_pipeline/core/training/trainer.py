"""The training loop: epochs, validation, checkpoints, and messages to the trackers."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from luna_pipeline.core.datasets.data_module import DataModule
from luna_pipeline.core.distributed import SINGLE_PROCESS, DistributedContext
from luna_pipeline.core.events.messages import BaseMessageHandler, LogEpoch, LogParams, LogStart, Mode
from luna_pipeline.core.models.base import BEGINNING, AfterStep, BaseModel, EpochProgress, EpochResult, SplitResult
from luna_pipeline.core.models.finite import check_number, check_scores
from luna_pipeline.core.training.cadence import is_over, is_validation_due
from luna_pipeline.core.training.checkpoint_manager import CheckpointManager
from luna_pipeline.core.training.checkpoints import Checkpoint, CheckpointStore
from luna_pipeline.core.training.compiling import compile_errors_in_one_line
from luna_pipeline.core.training.config import TrainingConfig
from luna_pipeline.core.training.interrupts import PostponedInterrupts
from luna_pipeline.core.training.profiling import StepProfiler
from luna_pipeline.core.training.randomness import fork_rng

SECONDS_BETWEEN_CHECKPOINTS = 600.0
# How often processes that train together agree on what to do after a step. Each agreement waits for the device.
SECONDS_BETWEEN_AGREEMENTS = 0.5
_CONTINUE, _SAVE, _INTERRUPTED = 0, 1, 2


class Trainer:
    """Trains a model; an interrupted run resumes from its last checkpoint with bit-equal results.

    ``last.pt`` is the state of the run: written after each epoch, every ten minutes within one, and on an interrupt,
    which waits for the end of the training step. ``best_so_far.pt`` is the epoch with the highest validation score.
    ``best.pt``, the chosen epoch, is written when the run is complete and the trackers have the model.
    """

    def __init__(
        self,
        config: TrainingConfig,
        *,
        handler: BaseMessageHandler,
        store: CheckpointStore,
        processes: DistributedContext = SINGLE_PROCESS,
        seconds_between_checkpoints: float = SECONDS_BETWEEN_CHECKPOINTS,
        profiler: StepProfiler | None = None,
    ) -> None:
        """Prepare a run.

        Args:
            config: The complete configuration of the run.
            handler: Receives messages; the caller closes it.
            store: Store of the run's checkpoints.
            processes: The processes that train together; the first one writes.
            seconds_between_checkpoints: Longest time between two checkpoints within an epoch.
            profiler: Profiles training steps.
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
            resume_from: Last checkpoint of an unfinished run of the same configuration and data; the result is
                bit-equal to that of an uninterrupted run.
            started_from: The run whose weights the model starts with, if any; its series are recorded.
            mlflow_run_id: The run in MLflow, recorded in the checkpoints.

        Returns:
            The checkpoint with the highest validation score; without one the last, with a note.

        Raises:
            ValueError: If the cutouts do not have the network's shape, or ``resume_from`` is of another run.
            NonFiniteError: If losses, gradients, scores or weights are not finite; the last checkpoint stays.
            BlockingIOError: If another process trains this version.
        """
        self._manager.check_fits(data_module, version=version, resume_from=resume_from)
        with self._locked(version), fork_rng(self.config.seed + self._processes.rank):
            if resume_from is None:
                last = self._manager.start(model, data_module, version=version, started_from=started_from)
            else:
                last = self._manager.resume(model, resume_from)
            last = replace(last, mlflow_run_id=mlflow_run_id or last.mlflow_run_id)
            self._handler.handle_message(LogStart(description=repr(model)))
            self._handler.handle_message(LogParams(params=self.config.flat()))
            while not self._is_over(last):
                result = self.fit_epoch(last.epoch + 1, model, data_module, last=last)
                validation = data_module.validation
                index = None if validation is None else validation.index
                last = self._manager.save_epoch(last, result, model, validation_index=index)
            return self._manager.finish(last, model)

    def fit_epoch(
        self, epoch: int, model: BaseModel[Any], data_module: DataModule, *, last: Checkpoint | None = None
    ) -> EpochResult:
        """Train one epoch, and validate if it is due.

        Args:
            epoch: The epoch, from 1.
            model: The model.
            data_module: Training and validation data.
            last: The state of the run, which is saved within the epoch; the epoch may be partly done.

        Raises:
            NonFiniteError: If losses, gradients or scores are not finite.
        """
        self._handler.handle_message(self._epoch_message(epoch, data_module))
        is_due = is_validation_due(epoch, num_epochs=self.config.num_epochs, cadence=self.config.validation_cadence)
        progress = BEGINNING if last is None else last.progress
        with PostponedInterrupts() as interrupts:
            if progress.num_batches == data_module.num_training_batches:
                interrupts.release()
            with compile_errors_in_one_line():
                result = model.fit_epoch(
                    epoch,
                    training_loader=data_module.get_training_dataloader(epoch=epoch, first_batch=progress.num_batches),
                    validation_loader=data_module.get_validation_dataloader() if is_due else None,
                    progress=progress,
                    after_step=self._after_step(model, data_module.num_training_batches, last, interrupts),
                )
        # The project's model has checked each batch; another model may not.
        check_number("training loss", result.training.loss, where=f"epoch {epoch}")
        for mode, part in ((Mode.TRAINING, result.training), (Mode.VALIDATION, result.validation)):
            if part is not None:
                check_scores(part, mode, where=f"epoch {epoch}")
        return result

    def _after_step(
        self, model: BaseModel[Any], num_batches: int, last: Checkpoint | None, interrupts: PostponedInterrupts
    ) -> AfterStep:
        """Return the function that saves the run when due, and raises interrupts, after a training step."""
        saved_at = time.monotonic()
        next_action = self._next_action()

        def after_step(num_done: int, samples: Callable[[], SplitResult]) -> None:
            nonlocal saved_at
            if self._profiler is not None:
                self._profiler.step()
            is_last = num_done == num_batches
            is_due = is_last or time.monotonic() - saved_at >= self._seconds_between_checkpoints
            wanted = _INTERRUPTED if interrupts.is_pending else _SAVE if is_due else _CONTINUE
            action = next_action(wanted, is_last)
            if action != _CONTINUE and last is not None:
                self._manager.save_progress(last, EpochProgress(num_done, samples()), model)
                saved_at = time.monotonic()
            if action == _INTERRUPTED:
                interrupts.deliver()
                raise KeyboardInterrupt
            if is_last:
                # A validation changes nothing that is saved, so an interrupt need not wait for its end.
                interrupts.release()

        return after_step

    def _next_action(self) -> Callable[[int, bool], int]:
        """Return a function from this process's wanted action to the one that all processes take after a step.

        All must save or stop after the same step: a process that does so alone would leave the others waiting. They
        agree after about ``SECONDS_BETWEEN_AGREEMENTS`` of steps and after the last one; in between all continue.
        """
        agreed_at, num_steps, steps_to_agreement = time.monotonic(), 0, 1

        def next_action(wanted: int, is_last: bool) -> int:
            nonlocal agreed_at, num_steps, steps_to_agreement
            if self._processes.world_size == 1:
                return wanted
            num_steps += 1
            if num_steps < steps_to_agreement and not is_last:
                return _CONTINUE
            seconds = max(time.monotonic() - agreed_at, 1e-6)
            steps = max(1, int(num_steps * SECONDS_BETWEEN_AGREEMENTS / seconds))
            action, negative_steps = self._processes.largest(wanted, -steps)
            agreed_at, num_steps, steps_to_agreement = time.monotonic(), 0, -negative_steps
            return action

        return next_action

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
