"""A two-class network in training: an epoch of learning, and a validation that leaves no trace in it."""

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
from luna_pipeline.core.events.messages import BaseMessageHandler, LogBatch, LogMetrics, LogResult, Mode
from luna_pipeline.core.models.base import (
    BEGINNING,
    AfterStep,
    BaseIteratorProvider,
    BaseModel,
    ClassificationTask,
    EpochProgress,
    EpochResult,
    ModelState,
    Signature,
    SplitResult,
    TensorSpec,
    _let_pass,
)
from luna_pipeline.core.models.optimizer_step import Stepper
from luna_pipeline.core.models.scoring import evaluating, logits_of, on_device
from luna_pipeline.core.networks.folding import folded
from luna_pipeline.core.networks.freezing import set_training_mode
from luna_pipeline.core.networks.luna import scores_of, unwrapped


class NoduleClassificationModel(BaseModel[CutoutBatch]):
    """Nodule or not, malignant or not: a network with all that it takes to train it.

    Attributes:
        module: Maps HU (N, 1, I, R, C) to logits (N, 2); may be in a parallel wrapper.
        num_samples_seen: Training samples seen so far, the step of everything that is logged.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        task: ClassificationTask,
        loss: nn.Module,
        stepper: Stepper,
        augment: Augmenter,
        batch_iterator: BaseIteratorProvider,
        handler: BaseMessageHandler,
        processes: DistributedContext = SINGLE_PROCESS,
    ) -> None:
        """Put the parts together.

        Args:
            module: The network, on the device where it is to be trained.
            task: What it is given and what it tells apart.
            loss: Maps logits (N, 2) and labels (N,) to the loss of each sample (N,).
            stepper: Follows the gradients.
            augment: Changes training cutouts.
            batch_iterator: Hands out batches and reports on passes.
            handler: Takes messages.
            processes: Those that train together.
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
        after_step: AfterStep = _let_pass,
    ) -> EpochResult:
        """Train on all batches of an epoch; then validate, where there is something to validate on."""
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
        after_step: AfterStep = _let_pass,
    ) -> SplitResult:
        """Take a step for each batch, or for every few; the scores are those before each step, with dropout."""
        set_training_mode(self.module)
        num_batches = progress.num_batches + len(loader)
        parts: list[SplitResult] = []
        values: dict[str, float] = {}
        batches = self._batch_iterator.enumerate_batches(
            loader, epoch=epoch, mode=Mode.TRAINING, first_batch=progress.num_batches
        )
        # Closed here, so that an interrupt in the middle of a step ends the loader's workers at once.
        with contextlib.closing(batches):
            for batch_index, batch in batches:
                is_step = self._stepper.is_step(batch_index, num_batches)
                parts.append(self._train_batch(batch, epoch, is_step=is_step))
                # Those of the last step: whoever keeps a batch now and then would else miss them.
                values = self._optimizer_step(batch) if is_step else values
                self._log_batch(epoch, Mode.TRAINING, batch_index, num_batches, parts[-1], values)
                if is_step:
                    after_step(batch_index + 1, lambda: self._of_all(parts, before=progress.result))
        return self.log_metrics(epoch, Mode.TRAINING, self._of_all(parts, before=progress.result))

    def do_validation(self, epoch: int, loader: DataLoader[CutoutBatch]) -> SplitResult:
        """Judge every sample; the network is as before afterwards."""
        parts = []
        batches = self._batch_iterator.enumerate_batches(loader, epoch=epoch, mode=Mode.VALIDATION)
        self._processes.share_buffers(self.get_module())
        with self._judging(), contextlib.closing(batches):
            for batch_index, batch in batches:
                _, part = self.compute_batch_loss(batch)
                parts.append(part)
                self._log_batch(epoch, Mode.VALIDATION, batch_index, len(loader), part, {})
        return self.log_metrics(epoch, Mode.VALIDATION, self._of_all(parts))

    def compute_batch_loss(self, batch: CutoutBatch) -> tuple[torch.Tensor, SplitResult]:
        """Judge a batch, as it comes.

        Returns:
            The batch's share in the mean loss of the training step, with its graph; and what to keep of each sample,
            without.
        """
        labels = batch.labels.to(self._device, non_blocking=True)
        logits = self.compute_logits(batch.chunks_hu)
        losses = self._loss(logits, labels)
        # Of a filler, which keeps a process in step, there is a gradient of zeros.
        is_counted = batch.repeat.to(self._device) >= 0
        # Processes average their gradients; together they shall have the mean over all their samples.
        loss = (losses * is_counted).sum() * (self._processes.world_size / batch.num_in_step)
        counted = is_counted.cpu().numpy()
        return loss, SplitResult(
            candidate_id=batch.candidate_id.numpy()[counted],
            labels=batch.labels.numpy()[counted],
            scores=scores_of(logits.detach().float()).double().cpu().numpy()[counted],
            losses=losses.detach().double().cpu().numpy()[counted],
            groups=batch.groups.numpy()[counted],
        )

    def compute_logits(self, chunks_hu: torch.Tensor) -> torch.Tensor:
        """Return logits (N, 2) of cutouts (N, 1, I, R, C): with a graph in training, fast in evaluation."""
        if not self.module.training:
            return logits_of(self._eval_network, on_device(chunks_hu, self._device))
        with self._stepper.autocast():
            logits: torch.Tensor = self.module(on_device(chunks_hu, self._device))
        return logits.float()

    def log_metrics(self, epoch: int, mode: Mode, result: SplitResult) -> SplitResult:
        """Report on all samples of a pass."""
        where: dict[str, Any] = {"epoch": epoch, "mode": mode, "num_samples_seen": self.num_samples_seen}
        self._handler.handle_message(LogMetrics(values=result.metrics(), **where))
        self._handler.handle_message(
            LogResult(labels=result.labels, scores=result.scores, label_names=self._task.label_names, **where)
        )
        return result

    def get_module(self) -> nn.Module:
        """Return the network itself, without any wrapper."""
        return unwrapped(self.module)

    def get_signature(self) -> Signature:
        """Say what a served model takes and gives; nothing is computed with the network."""
        return classification_signature(self._task)

    def get_state(self) -> ModelState:
        """Return a copy of weights, optimizer and scheduler, on the CPU."""
        weights = self.get_module().state_dict()
        optimizer_state, scheduler_state = self._stepper.get_state()
        return ModelState(
            model_state={name: value.detach().cpu().clone() for name, value in weights.items()},
            optimizer_state=copy.deepcopy(optimizer_state),
            scheduler_state=copy.deepcopy(scheduler_state),
            num_samples_seen=self.num_samples_seen,
        )

    def load_state(self, state: ModelState) -> None:
        """Go on from there; the weights must be those of such a network."""
        self.get_module().load_state_dict(state.model_state, strict=True)
        self._stepper.load_state(state.optimizer_state, state.scheduler_state)
        self.num_samples_seen = state.num_samples_seen

    def __repr__(self) -> str:
        parts = (self.get_module(), self._loss, self._stepper.optimizer)
        return f"{type(self).__name__}({', '.join(type(part).__name__ for part in parts)})"

    @contextlib.contextmanager
    def _judging(self) -> Iterator[None]:
        """Within, the network is in evaluation mode, and a copy of it judges that is faster at it."""
        with evaluating(self.module):
            self._eval_network = folded(self.get_module())
            try:
                yield
            finally:
                self._eval_network = self.get_module()

    def _train_batch(self, batch: CutoutBatch, epoch: int, *, is_step: bool) -> SplitResult:
        """Add the gradients of a batch, changed at random."""
        chunks_hu = batch.chunks_hu.to(self._device, non_blocking=True)
        changed = self._augment(chunks_hu, batch.candidate_id, batch.repeat, epoch=epoch)
        with self._stepper.gradients(is_step=is_step):
            loss, part = self.compute_batch_loss(batch._replace(chunks_hu=changed))
            self._stepper.backward(loss)
        return part

    def _optimizer_step(self, batch: CutoutBatch) -> dict[str, float]:
        self.num_samples_seen += batch.num_in_step
        return self._stepper.step()

    def _of_all(self, parts: list[SplitResult], *, before: SplitResult | None = None) -> SplitResult:
        """The samples of all processes in the order of their batches, after those of before."""
        by_process = self._processes.gather(parts)
        # Of each batch the first process has the first samples.
        together = [part for of_batch in zip(*by_process, strict=True) for part in of_batch]
        return SplitResult.joined(together if before is None else [before, *together])

    def _log_batch(
        self, epoch: int, mode: Mode, batch_index: int, num_batches: int, part: SplitResult, values: dict[str, float]
    ) -> None:
        losses = self._processes.gather(part.losses)
        message = LogBatch(
            epoch=epoch,
            mode=mode,
            batch_index=batch_index,
            num_batches=num_batches,
            num_samples_seen=self.num_samples_seen,
            values=values,
            loss=float(sum(each.sum() for each in losses) / sum(map(len, losses))),
        )
        self._handler.handle_message(message)


def classification_signature(task: ClassificationTask) -> Signature:
    """Say what a served classifier takes and gives."""
    return Signature(
        inputs=(TensorSpec("chunks_hu", "float32", (-1, 1, *task.chunk_shape_irc)),),
        outputs=(TensorSpec("probability", "float32", (-1,)),),
    )
