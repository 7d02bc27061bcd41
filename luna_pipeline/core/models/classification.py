"""The model that trains and validates a two-class network."""

import torch

from luna_pipeline.core.datasets.batch import CutoutBatch
from luna_pipeline.core.events.messages import LogResult, Mode
from luna_pipeline.core.models.base import ClassificationTask, Signature, SplitResult, TensorSpec
from luna_pipeline.core.models.pass_results import BatchResult
from luna_pipeline.core.models.scoring import logits_of, on_device
from luna_pipeline.core.models.training_loop import TrainedNetwork
from luna_pipeline.core.networks.luna import scores_of


class NoduleClassificationModel(TrainedNetwork[CutoutBatch]):
    """Trains a two-class network: nodule or not, malignant or not.

    Attributes:
        module: Maps HU (N, 1, D, H, W) to logits (N, 2); may be wrapped by DDP.
        num_samples_seen: Training samples seen so far, the step of all logged values.
    """

    def compute_batch_loss(self, batch: CutoutBatch) -> tuple[torch.Tensor, BatchResult]:
        """Score a batch without waiting for the device.

        Returns:
            The batch's share of the mean loss of the training step, with its graph; and the results of its samples,
            without.
        """
        labels = batch.labels.to(self._device, non_blocking=True)
        logits = self.compute_logits(batch.chunks_hu)
        losses = self._loss(logits, labels)
        return self._share_of_step(losses, batch.repeat, batch.num_in_step), BatchResult(
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

    def augmented(self, batch: CutoutBatch, epoch: int) -> CutoutBatch:
        """Return a batch with its cutouts on the device, augmented."""
        chunks_hu = batch.chunks_hu.to(self._device, non_blocking=True)
        return batch._replace(chunks_hu=self._augment(chunks_hu, batch.candidate_id, batch.repeat, epoch=epoch))

    def log_metrics(self, epoch: int, mode: Mode, result: SplitResult) -> SplitResult:
        """Report metrics and scores of all samples of a pass."""
        super().log_metrics(epoch, mode, result)
        names = self._task.label_names
        where = self._where(epoch, mode)
        self._handler.handle_message(LogResult(labels=result.labels, scores=result.scores, label_names=names, **where))
        return result

    def get_signature(self) -> Signature:
        """Return inputs and outputs of the served model without running the network."""
        return classification_signature(self._task)


def classification_signature(task: ClassificationTask) -> Signature:
    """Return inputs and outputs of a served classifier."""
    return Signature(
        inputs=(TensorSpec("chunks_hu", "float32", (-1, 1, *task.chunk_shape_irc)),),
        outputs=(TensorSpec("probability", "float32", (-1,)),),
    )
