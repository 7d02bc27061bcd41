"""The model that trains and validates a two-class network."""

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from luna_pipeline.core.datasets.augmenting import Augmenter
from luna_pipeline.core.datasets.batch import CutoutBatch
from luna_pipeline.core.distributed import SINGLE_PROCESS, DistributedContext
from luna_pipeline.core.events.messages import BaseMessageHandler, LogMetrics, LogResult, Mode
from luna_pipeline.core.models.base import (
    BEGINNING,
    AfterStep,
    BaseModel,
    ClassificationTask,
    EpochProgress,
    EpochResult,
    ModelState,
    Signature,
    SplitResult,
    TensorSpec,
    do_nothing,
)
from luna_pipeline.core.models.batch_iterator import BatchIteratorProvider
from luna_pipeline.core.models.optimizer_step import Stepper
from luna_pipeline.core.models.pass_results import BatchResult, PassResults, StepValues
from luna_pipeline.core.models.scoring import evaluating, logits_of, on_device
from luna_pipeline.core.networks.folding import folded
from luna_pipeline.core.networks.freezing import set_training_mode
from luna_pipeline.core.networks.luna import scores_of, unwrapped


class NoduleClassificationModel(BaseModel[CutoutBatch]):
    """Trains a two-class network: nodule or not, malignant or not.

    Attributes:
        module: Maps HU (N, 1, D, H, W) to logits (N, 2); may be wrapped by DDP.
        num_samples_seen: Training samples seen so far, the step of all logged values.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        task: ClassificationTask,
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
            loss: Maps logits (N, 2) and labels (N,) to the loss of each sample (N,).
            stepper: Updates the weights.
            augment: Augments training cutouts.
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
        training_loader: DataLoader[CutoutBatch],
        validation_loader: DataLoader[CutoutBatch] | None,
        progress: EpochProgress = BEGINNING,
        after_step: AfterStep = do_nothing,
    ) -> EpochResult:
        """Train on all batches of an epoch, then validate if there is a validation part."""
        training = self.do_training(epoch, training_loader, progress=progress, after_step=after_step)
        validation = None if validation_loader is None else self.do_validation(epoch, validation_loader)
        self._stepper.schedule.after_epoch(float("nan") if validation is None else validation.metrics()["auc"])
        return EpochResult(training, validation)

    def do_training(
        self,
        epoch: int,
        loader: DataLoader[CutoutBatch],
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

    def do_validation(self, epoch: int, loader: DataLoader[CutoutBatch]) -> SplitResult:
        """Score every sample; weights, running statistics and modes of the network stay as they are."""
        results = self._pass_results(epoch, Mode.VALIDATION, len(loader))
        batches = self._batch_iterator.enumerate_batches(loader, epoch=epoch, mode=Mode.VALIDATION)
        self._processes.share_buffers(self.get_module())
        with self._evaluating(), contextlib.closing(batches):
            for batch_index, batch in batches:
                _, result = self.compute_batch_loss(batch)
                results.add(batch_index, result, values={}, num_samples_seen=self.num_samples_seen)
        return self.log_metrics(epoch, Mode.VALIDATION, self._all_samples(results))

    def compute_batch_loss(self, batch: CutoutBatch) -> tuple[torch.Tensor, BatchResult]:
        """Score a batch without waiting for the device.

        Returns:
            The batch's share of the mean loss of the training step, with its graph; and the results of its samples,
            without.
        """
        labels = batch.labels.to(self._device, non_blocking=True)
        logits = self.compute_logits(batch.chunks_hu)
        losses = self._loss(logits, labels)
        # A filler sample contributes a gradient of zeros.
        is_counted = batch.repeat.to(self._device, non_blocking=True) >= 0
        # DDP averages the gradients of the processes; the result must be the mean over all their samples.
        loss = (losses * is_counted).sum() * (self._processes.world_size / batch.num_in_step)
        return loss, BatchResult(
            candidate_id=batch.candidate_id,
            labels=batch.labels,
            scores=scores_of(logits.detach().float()),
            losses=losses.detach(),
            groups=batch.groups,
            is_counted=batch.repeat >= 0,
        )

    def compute_logits(self, chunks_hu: torch.Tensor) -> torch.Tensor:
        """Return logits (N, 2) of cutouts (N, 1, D, H, W): with a graph in training, without in evaluation."""
        if not self.module.training:
            return logits_of(self._eval_network, on_device(chunks_hu, self._device))
        with self._stepper.autocast():
            logits: torch.Tensor = self.module(on_device(chunks_hu, self._device))
        return logits.float()

    def log_metrics(self, epoch: int, mode: Mode, result: SplitResult) -> SplitResult:
        """Report metrics and scores of all samples of a pass."""
        where: dict[str, Any] = {"epoch": epoch, "mode": mode, "num_samples_seen": self.num_samples_seen}
        self._handler.handle_message(LogMetrics(values=result.metrics(), **where))
        self._handler.handle_message(
            LogResult(labels=result.labels, scores=result.scores, label_names=self._task.label_names, **where)
        )
        return result

    def get_module(self) -> nn.Module:
        """Return the network without any wrapper."""
        return unwrapped(self.module)

    def get_signature(self) -> Signature:
        """Return inputs and outputs of the served model without running the network."""
        return classification_signature(self._task)

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

    @contextlib.contextmanager
    def _evaluating(self) -> Iterator[None]:
        """Within, the network is in evaluation mode, and a faster copy of it computes the logits."""
        with evaluating(self.module):
            self._eval_network = folded(self.get_module())
            try:
                yield
            finally:
                self._eval_network = self.get_module()

    def _train_batch(self, batch: CutoutBatch, epoch: int, *, is_step: bool) -> BatchResult:
        """Add the gradients of an augmented batch."""
        chunks_hu = batch.chunks_hu.to(self._device, non_blocking=True)
        changed = self._augment(chunks_hu, batch.candidate_id, batch.repeat, epoch=epoch)
        with self._stepper.gradients(is_step=is_step):
            loss, result = self.compute_batch_loss(batch._replace(chunks_hu=changed))
            self._stepper.backward(loss)
        return result

    def _optimizer_step(self, batch: CutoutBatch) -> StepValues:
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
        return SplitResult.joined(parts if before is None else [before, *parts])


def classification_signature(task: ClassificationTask) -> Signature:
    """Return inputs and outputs of a served classifier."""
    return Signature(
        inputs=(TensorSpec("chunks_hu", "float32", (-1, 1, *task.chunk_shape_irc)),),
        outputs=(TensorSpec("probability", "float32", (-1,)),),
    )


def _copy_on_cpu(value: Any) -> Any:
    """Return a deep copy of nested plain values with all tensors on the CPU."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, dict):
        return {key: _copy_on_cpu(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_copy_on_cpu(entry) for entry in value]
    return copy.deepcopy(value)
