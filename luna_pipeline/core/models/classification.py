"""A two-class network in training: an epoch of learning, and a validation that leaves no trace in it."""

import contextlib
import copy
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from luna_pipeline.core.messages import BaseMessageHandler, LogBatch, LogMetrics, LogResult, Mode
from luna_pipeline.core.models.base import (
    BaseIteratorProvider,
    BaseModel,
    EpochResult,
    ModelState,
    Signature,
    SplitResult,
    TensorSpec,
)
from luna_pipeline.core.models.networks import scores_of, unwrapped
from luna_pipeline.core.models.scoring import Batch, evaluating, logits_of, on_device


class NoduleClassificationModel(BaseModel[Batch]):
    """Nodule or not: a network with its optimizer and learning rate.

    Attributes:
        module: Maps HU (N, 1, I, R, C) to logits (N, 2); may be in a parallel wrapper.
        num_samples_seen: Training samples seen so far, the step of everything that is logged.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        chunk_shape_irc: tuple[int, int, int],
        optimizer: torch.optim.Optimizer,
        scheduler: torch.optim.lr_scheduler.LRScheduler,
        batch_iterator: BaseIteratorProvider,
        handler: BaseMessageHandler,
    ) -> None:
        """Put the parts together.

        Args:
            module: The network, on the device where it is to be trained.
            chunk_shape_irc: Voxels of a cutout.
            optimizer: Of the module's parameters.
            scheduler: Of the optimizer; steps once an epoch.
            batch_iterator: Hands out batches and reports on passes.
            handler: Takes messages.
        """
        self.module = module
        self.num_samples_seen = 0
        self._chunk_shape_irc = chunk_shape_irc
        self._optimizer = optimizer
        self._scheduler = scheduler
        self._batch_iterator = batch_iterator
        self._handler = handler
        self._device = next(module.parameters()).device

    def fit_epoch(
        self,
        epoch: int,
        *,
        training_loader: DataLoader[Batch],
        validation_loader: DataLoader[Batch] | None,
    ) -> EpochResult:
        """Train on all batches of an epoch; then validate, where there is something to validate on."""
        training = self.do_training(epoch, training_loader)
        validation = None if validation_loader is None else self.do_validation(epoch, validation_loader)
        self._scheduler.step()
        return EpochResult(training, validation)

    def do_training(self, epoch: int, loader: DataLoader[Batch]) -> SplitResult:
        """Take a step for each batch; the scores are those before each step, with dropout."""
        self.module.train()
        parts = []
        batches = self._batch_iterator.enumerate_batches(loader, epoch=epoch, mode=Mode.TRAINING)
        # Closed here, so that an interrupt in the middle of a step ends the loader's workers at once.
        with contextlib.closing(batches):
            for batch_index, batch in batches:
                self._optimizer.zero_grad(set_to_none=True)
                loss, part = self.compute_batch_loss(batch)
                loss.backward()  # type: ignore[no-untyped-call]
                self._optimizer.step()
                self.num_samples_seen += len(part.labels)
                parts.append(part)
                self._log_batch(epoch, Mode.TRAINING, batch_index, len(loader), part)
        return self.log_metrics(epoch, Mode.TRAINING, parts)

    def do_validation(self, epoch: int, loader: DataLoader[Batch]) -> SplitResult:
        """Judge every sample; the network is as before afterwards."""
        parts = []
        batches = self._batch_iterator.enumerate_batches(loader, epoch=epoch, mode=Mode.VALIDATION)
        with evaluating(self.module), contextlib.closing(batches):
            for batch_index, batch in batches:
                _, part = self.compute_batch_loss(batch)
                parts.append(part)
                self._log_batch(epoch, Mode.VALIDATION, batch_index, len(loader), part)
        return self.log_metrics(epoch, Mode.VALIDATION, parts)

    def compute_batch_loss(self, batch: Batch) -> tuple[torch.Tensor, SplitResult]:
        """Return the mean loss, with its graph, and what to keep of each sample, without."""
        chunks_hu = on_device(batch.chunks_hu, self._device)
        labels = batch.labels.to(self._device, non_blocking=True)
        logits = self.module(chunks_hu) if self.module.training else logits_of(self.module, chunks_hu)
        losses = nn.functional.cross_entropy(logits, labels, reduction="none")
        return losses.mean(), SplitResult(
            candidate_id=batch.candidate_id.numpy(),
            labels=batch.labels.numpy(),
            scores=scores_of(logits.detach()).double().cpu().numpy(),
            losses=losses.detach().double().cpu().numpy(),
        )

    def log_metrics(self, epoch: int, mode: Mode, parts: list[SplitResult]) -> SplitResult:
        """Put the batches of a pass together and report on all their samples."""
        result = SplitResult(
            *(
                np.concatenate([getattr(part, name) for part in parts])
                for name in ("candidate_id", "labels", "scores", "losses")
            )
        )
        where: dict[str, Any] = {"epoch": epoch, "mode": mode, "num_samples_seen": self.num_samples_seen}
        self._handler.handle_message(LogMetrics(values=result.metrics(), **where))
        self._handler.handle_message(LogResult(labels=result.labels, scores=result.scores, **where))
        return result

    def get_module(self) -> nn.Module:
        """Return the network itself, without any wrapper."""
        return unwrapped(self.module)

    def get_signature(self) -> Signature:
        """Say what a served model takes and gives; nothing is computed with the network."""
        return Signature(
            inputs=(TensorSpec("chunks_hu", "float32", (-1, 1, *self._chunk_shape_irc)),),
            outputs=(TensorSpec("probability", "float32", (-1,)),),
        )

    def get_state(self) -> ModelState:
        """Return a copy of weights, optimizer and scheduler, on the CPU."""
        weights = self.get_module().state_dict()
        return ModelState(
            model_state={name: value.detach().cpu().clone() for name, value in weights.items()},
            optimizer_state=copy.deepcopy(self._optimizer.state_dict()),
            scheduler_state=copy.deepcopy(self._scheduler.state_dict()),
            num_samples_seen=self.num_samples_seen,
        )

    def load_state(self, state: ModelState) -> None:
        """Go on from there; the weights must be those of such a network."""
        self.get_module().load_state_dict(state.model_state, strict=True)
        self._optimizer.load_state_dict(state.optimizer_state)
        self._scheduler.load_state_dict(state.scheduler_state)
        self.num_samples_seen = state.num_samples_seen

    def __repr__(self) -> str:
        parts = (self.get_module(), self._optimizer, self._scheduler)
        return f"{type(self).__name__}({', '.join(type(part).__name__ for part in parts)})"

    def _log_batch(self, epoch: int, mode: Mode, batch_index: int, num_batches: int, part: SplitResult) -> None:
        message = LogBatch(
            epoch=epoch, mode=mode, batch_index=batch_index, num_batches=num_batches,
            num_samples_seen=self.num_samples_seen, loss=part.loss,
        )  # fmt: skip
        self._handler.handle_message(message)
