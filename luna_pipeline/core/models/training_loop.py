"""The training and validation of an epoch that all models share."""

import contextlib
import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import nn
from torch.utils.data import DataLoader

from luna_pipeline.core.datasets.augmenting import Augmenter
from luna_pipeline.core.distributed import SINGLE_PROCESS, DistributedContext
from luna_pipeline.core.events.messages import BaseMessageHandler, LogMetrics, Mode
from luna_pipeline.core.models.base import (
    BEGINNING,
    AfterStep,
    BaseModel,
    EpochProgress,
    EpochResult,
    ModelState,
    SplitResult,
    do_nothing,
)
from luna_pipeline.core.models.batch_iterator import BatchIteratorProvider
from luna_pipeline.core.models.optimizer_step import Stepper
from luna_pipeline.core.models.pass_results import PassResults, SampleResult, StepValues
from luna_pipeline.core.models.scoring import evaluating
from luna_pipeline.core.networks.folding import folded
from luna_pipeline.core.networks.freezing import set_training_mode
from luna_pipeline.core.networks.luna import unwrapped


class Batch(Protocol):
    """What the loop needs of a batch, such as ``CutoutBatch``."""

    @property
    def num_in_step(self) -> int:
        """Samples of the whole optimizer step in all processes."""


BatchT = TypeVar("BatchT", bound=Batch)


class TrainedNetwork(BaseModel[BatchT], ABC, Generic[BatchT]):
    """Trains and validates a network; subclasses know its batches, losses and results.

    Attributes:
        module: The network; may be wrapped by DDP.
        num_samples_seen: Training samples seen so far, the step of all logged values.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        task: Any,
        loss: nn.Module,
        stepper: Stepper,
        augment: Augmenter,
        batch_iterator: BatchIteratorProvider,
        handler: BaseMessageHandler,
        processes: DistributedContext = SINGLE_PROCESS,
    ) -> None:
        """Put the parts together.

        Args:
            module: The network, on the device where it is trained.
            task: Input shape and classes.
            loss: Maps logits and labels (or masks) to the loss of each sample (N,).
            stepper: Updates the weights.
            augment: Augments training samples.
            batch_iterator: Iterates over loaders and reports passes.
            handler: Receives messages.
            processes: The processes that train together.
        """
        self.module = module
        self.num_samples_seen = 0
        self._task = task
        self._loss = loss
        self._stepper = stepper
        self._augment = augment
        self._batch_iterator = batch_iterator
        self._handler = handler
        self._processes = processes
        self._device = next(module.parameters()).device
        self._eval_network = self.get_module()

    def fit_epoch(
        self,
        epoch: int,
        *,
        training_loader: DataLoader[BatchT],
        validation_loader: DataLoader[BatchT] | None,
        progress: EpochProgress = BEGINNING,
        after_step: AfterStep = do_nothing,
    ) -> EpochResult:
        """Train on all batches of an epoch, then validate if there is a validation part."""
        training = self.do_training(epoch, training_loader, progress=progress, after_step=after_step)
        validation = None if validation_loader is None else self.do_validation(epoch, validation_loader)
        self._stepper.schedule.after_epoch(float("nan") if validation is None else validation.selection_score())
        return EpochResult(training, validation)

    def do_training(
        self,
        epoch: int,
        loader: DataLoader[BatchT],
        *,
        progress: EpochProgress = BEGINNING,
        after_step: AfterStep = do_nothing,
    ) -> SplitResult:
        """Train on the batches of an epoch; the scores are those before each step, with dropout."""
        set_training_mode(self.module)
        num_batches = progress.num_batches + len(loader)
        results = self._pass_results(epoch, Mode.TRAINING, num_batches)
        values: StepValues = {}
        batches = self._batch_iterator.enumerate_batches(
            loader, epoch=epoch, mode=Mode.TRAINING, first_batch=progress.num_batches
        )
        # An interrupt in the middle of a step closes the generator, which stops the loader's workers.
        with contextlib.closing(batches):
            for batch_index, batch in batches:
                is_step = self._stepper.is_step(batch_index, num_batches)
                result = self._train_batch(batch, epoch, is_step=is_step)
                # Batches between two steps report the values of the last step: handlers keep every nth batch only.
                values = self._optimizer_step(batch) if is_step else values
                results.add(batch_index, result, values=values, num_samples_seen=self.num_samples_seen)
                if is_step:
                    after_step(batch_index + 1, lambda: self._all_samples(results, before=progress.result))
        return self.log_metrics(epoch, Mode.TRAINING, self._all_samples(results, before=progress.result))

    def do_validation(self, epoch: int, loader: DataLoader[BatchT]) -> SplitResult:
        """Score every sample; weights, running statistics and modes of the network stay as they are."""
        results = self._pass_results(epoch, Mode.VALIDATION, len(loader))
        batches = self._batch_iterator.enumerate_batches(loader, epoch=epoch, mode=Mode.VALIDATION)
        self._processes.share_buffers(self.get_module())
        with self._evaluating(), contextlib.closing(batches):
            for batch_index, batch in batches:
                _, result = self.compute_batch_loss(batch)
                results.add(batch_index, result, values={}, num_samples_seen=self.num_samples_seen)
        return self.log_metrics(epoch, Mode.VALIDATION, self._all_samples(results))

    @abstractmethod
    def compute_batch_loss(self, batch: BatchT) -> tuple[torch.Tensor, SampleResult]:
        """Score a batch.

        Returns:
            The batch's share of the mean loss of the training step, with its graph; and the results of its samples,
            without.
        """

    @abstractmethod
    def augmented(self, batch: BatchT, epoch: int) -> BatchT:
        """Return a batch on the device of the network, augmented."""

    def log_metrics(self, epoch: int, mode: Mode, result: SplitResult) -> SplitResult:
        """Report the metrics of all samples of a pass."""
        self._handler.handle_message(LogMetrics(values=result.metrics(), **self._where(epoch, mode)))
        return result

    def get_module(self) -> nn.Module:
        """Return the network without any wrapper."""
        return unwrapped(self.module)

    def get_state(self) -> ModelState:
        """Return a copy of weights, optimizer and scheduler, on the CPU."""
        weights = self.get_module().state_dict()
        optimizer_state, scheduler_state = self._stepper.get_state()
        return ModelState(
            model_state=_copy_on_cpu(dict(weights)),
            optimizer_state=_copy_on_cpu(optimizer_state),
            scheduler_state=_copy_on_cpu(scheduler_state),
            num_samples_seen=self.num_samples_seen,
        )

    def load_state(self, state: ModelState) -> None:
        """Resume from a state; its weights must fit the network."""
        self.get_module().load_state_dict(state.model_state, strict=True)
        self._stepper.load_state(state.optimizer_state, state.scheduler_state)
        self.num_samples_seen = state.num_samples_seen

    def __repr__(self) -> str:
        parts = (self.get_module(), self._loss, self._stepper.optimizer)
        return f"{type(self).__name__}({', '.join(type(part).__name__ for part in parts)})"

    def _where(self, epoch: int, mode: Mode) -> dict[str, Any]:
        """Return the place in the run that a message is about."""
        return {"epoch": epoch, "mode": mode, "num_samples_seen": self.num_samples_seen}

    def _share_of_step(self, losses: torch.Tensor, repeat: torch.Tensor, num_in_step: int) -> torch.Tensor:
        """Return a batch's share of the mean loss of the training step.

        Args:
            losses: Loss of each sample (N,).
            repeat: ``FILLER`` for samples to ignore (N,).
            num_in_step: Samples of the whole step.
        """
        # A filler sample contributes a gradient of zeros.
        is_counted = repeat.to(self._device, non_blocking=True) >= 0
        # DDP averages the gradients of the processes; the result must be the mean over all their samples.
        return (losses * is_counted).sum() * (self._processes.world_size / num_in_step)

    @contextlib.contextmanager
    def _evaluating(self) -> Iterator[None]:
        """Within, the network is in evaluation mode, and a faster copy of it computes the logits."""
        with evaluating(self.module):
            self._eval_network = folded(self.get_module())
            try:
                yield
            finally:
                self._eval_network = self.get_module()

    def _train_batch(self, batch: BatchT, epoch: int, *, is_step: bool) -> SampleResult:
        """Add the gradients of an augmented batch."""
        changed = self.augmented(batch, epoch)
        with self._stepper.gradients(is_step=is_step):
            loss, result = self.compute_batch_loss(changed)
            self._stepper.backward(loss)
        return result

    def _optimizer_step(self, batch: BatchT) -> StepValues:
        self.num_samples_seen += batch.num_in_step
        return self._stepper.step()

    def _pass_results(self, epoch: int, mode: Mode, num_batches: int) -> PassResults:
        results = PassResults(epoch, mode, num_batches, self._processes, self._handler.handle_message)
        results.may_overflow = self._stepper.may_overflow
        return results

    def _all_samples(self, results: PassResults, *, before: SplitResult | None = None) -> SplitResult:
        """Return the samples of all processes in the order of their batches, after those of ``before``."""
        results.transfer()
        by_process = self._processes.gather(results.parts)
        # The first process has the first samples of each batch.
        parts = [part for of_batch in zip(*by_process, strict=True) for part in of_batch]
        parts = parts if before is None else [before, *parts]
        joined: SplitResult = type(parts[0]).joined(parts)
        return joined


def _copy_on_cpu(value: Any) -> Any:
    """Return a deep copy of nested plain values with all tensors on the CPU."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, dict):
        return {key: _copy_on_cpu(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_copy_on_cpu(entry) for entry in value]
    return copy.deepcopy(value)
