"""The model that trains and validates a network which segments nodules."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from luna_pipeline.core.datasets.mask_places import PLACE_GROUPS
from luna_pipeline.core.datasets.masks import MaskBatch
from luna_pipeline.core.events.messages import LogPicture, Mode
from luna_pipeline.core.models.base import ClassificationTask, Signature, SplitResult, TensorSpec
from luna_pipeline.core.models.mask_picture import MAX_SLICES, MaskSlice, mask_picture
from luna_pipeline.core.models.segmentation_result import (
    NOT_LOOKED_FOR,
    THRESHOLD,
    MaskBatchResult,
    count_false,
    is_middle_found,
)
from luna_pipeline.core.models.training_loop import TrainedNetwork
from luna_pipeline.core.networks.luna import channels_last_of, context_slices_of
from luna_pipeline.core.networks.segmenters import network_input, target_of

_NODULE = PLACE_GROUPS.index("nodule")
PICTURE = "slices"
"""Name of the message with validated slices, their true and their predicted outlines."""


class SegmentationModel(TrainedNetwork[MaskBatch]):
    """Trains a network that gives each voxel a logit of nodule: a volume network, or one of slices.

    Attributes:
        module: Maps HU (N, 1, D, H, W), or slices (N, 2c + 1, H, W), to logits; may be wrapped by DDP.
        num_samples_seen: Training samples seen so far, the step of all logged values.
    """

    def compute_batch_loss(self, batch: MaskBatch) -> tuple[torch.Tensor, MaskBatchResult]:
        """Score a batch; in training without waiting for the device.

        Returns:
            The batch's share of the mean loss of the training step, with its graph; and the results of its samples,
            without.
        """
        masks = target_of(batch.masks, self._context_slices).to(self._device, non_blocking=True)
        logits = self.compute_logits(batch.chunks_hu)
        losses = self._loss(logits, masks)
        loss = self._share_of_step(losses, batch.repeat, batch.num_in_step)
        return loss, self._result(batch, logits.detach(), masks, losses.detach())

    def compute_logits(self, chunks_hu: torch.Tensor) -> torch.Tensor:
        """Return the logits of crops (N, 1, D, H, W): with a graph in training, without in evaluation.

        Returns:
            (N, 1, D, H, W), of a slice network (N, 1, H, W) for the middle slices.
        """
        moved = network_input(chunks_hu.to(self._device, non_blocking=True), self._context_slices)
        moved = moved.contiguous(memory_format=channels_last_of(self.module))
        if not self.module.training:
            return self._eval_network(moved).float()  # type: ignore[no-any-return]
        with self._stepper.autocast():
            logits: torch.Tensor = self.module(moved)
        return logits.float()

    def do_validation(self, epoch: int, loader: DataLoader[MaskBatch]) -> SplitResult:
        """Score every crop, and report a picture of the first nodules."""
        self._slices: list[MaskSlice] = []
        result = super().do_validation(epoch, loader)
        if self._slices and self._processes.is_first:
            pixels = mask_picture(self._slices)
            where = self._where(epoch, Mode.VALIDATION)
            self._handler.handle_message(LogPicture(name=PICTURE, pixels=pixels, **where))
        self._slices = []
        return result

    def augmented(self, batch: MaskBatch, epoch: int) -> MaskBatch:
        """Return a batch with crops and masks on the device, both changed alike."""
        chunks_hu, masks = (values.to(self._device, non_blocking=True) for values in (batch.chunks_hu, batch.masks))
        chunks_hu, masks = self._augment.with_masks(chunks_hu, masks, batch.candidate_id, batch.repeat, epoch=epoch)
        return batch._replace(chunks_hu=chunks_hu, masks=masks)

    def get_signature(self) -> Signature:
        """Return inputs and outputs of the served model without running the network."""
        return segmentation_signature(self._task, self._context_slices)

    @property
    def _context_slices(self) -> int:
        return context_slices_of(self.module)

    def _result(
        self, batch: MaskBatch, logits: torch.Tensor, masks: torch.Tensor, losses: torch.Tensor
    ) -> MaskBatchResult:
        scores, is_true = logits.sigmoid(), masks > 0
        is_predicted = scores >= THRESHOLD
        numbers = (is_predicted & is_true, is_predicted, is_true)
        counts = tuple(values.flatten(1).sum(1).float() for values in numbers)
        is_found = np.full(len(losses), NOT_LOOKED_FOR)
        num_false = np.zeros(len(losses), dtype=np.int64)
        if not self.module.training:
            on_host = (is_predicted[:, 0].cpu().numpy(), is_true[:, 0].cpu().numpy())
            is_found, num_false = _lesions(batch, *on_host)
            self._keep_slices(batch, *on_host)
        return MaskBatchResult(
            candidate_id=batch.candidate_id,
            labels=batch.labels,
            groups=batch.groups,
            is_counted=batch.repeat >= 0,
            scan_share=batch.scan_share,
            is_found=is_found,
            num_false=num_false,
            on_device=(scores.flatten(1).amax(1), losses, *counts),
        )

    def _keep_slices(self, batch: MaskBatch, predicted: NDArray[np.bool_], true: NDArray[np.bool_]) -> None:
        """Keep the middle slices of the first crops of nodules for the picture."""
        for place in np.flatnonzero(batch.groups.numpy() == _NODULE)[: MAX_SLICES - len(self._slices)].tolist():
            middle = batch.chunks_hu.shape[2] // 2
            at = place if self._context_slices else (place, middle)
            self._slices.append(MaskSlice(batch.chunks_hu[place, 0, middle].numpy(force=True), true[at], predicted[at]))


def segmentation_signature(task: ClassificationTask, context_slices: int) -> Signature:
    """Return inputs and outputs of a served segmenter: HU in, the score of each voxel out."""
    num_slices, *size = task.chunk_shape_irc
    if context_slices:
        spec = TensorSpec("slices_hu", "float32", (-1, 2 * context_slices + 1, *size))
        return Signature((spec,), (TensorSpec("probability", "float32", (-1, 1, *size)),))
    shape = (-1, 1, num_slices, *size)
    return Signature((TensorSpec("volumes_hu", "float32", shape),), (TensorSpec("probability", "float32", shape),))


def _lesions(
    batch: MaskBatch, predicted: NDArray[np.bool_], true: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return whether the middle nodule of each crop of one was found, and the false components of each tile, (N,)."""
    is_found = np.full(len(true), NOT_LOOKED_FOR)
    num_false = np.zeros(len(true), dtype=np.int64)
    for place, (group, share) in enumerate(zip(batch.groups.tolist(), batch.scan_share.tolist(), strict=True)):
        if group == _NODULE:
            is_found[place] = is_middle_found(predicted[place], true[place])
        elif share:
            num_false[place] = count_false(predicted[place], true[place])
    return is_found, num_false
