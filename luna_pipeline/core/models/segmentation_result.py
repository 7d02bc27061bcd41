"""Results of segmentation by crop, from which Dice, lesion recall and false candidates a scan are computed."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from luna_pipeline.core.metrics.decision import UNDECIDED, Decision
from luna_pipeline.core.models.base import SplitResult

THRESHOLD = 0.5
"""Voxels with at least this score count as nodule."""
NOT_LOOKED_FOR = -1
# A component includes voxels that touch by an edge or a corner.
_NEIGHBOURS = {dimensions: np.ones((3,) * dimensions) for dimensions in (2, 3)}


@dataclass(frozen=True, eq=False, slots=True)
class SegmentationResult(SplitResult):
    """Results of all crops of a pass, see ``SplitResult``.

    ``labels`` tell whether a crop holds nodule voxels, ``scores`` are its highest voxel score, ``groups`` are those of
    ``PLACE_GROUPS``.

    Attributes:
        num_common: Voxels of nodule that were found, int64 (N,).
        num_predicted: Voxels that were called nodule, int64 (N,).
        num_true: Voxels of nodule, int64 (N,).
        is_found: Whether the nodule in the middle was touched, int64 (N,); ``NOT_LOOKED_FOR`` for other crops.
        num_false: Found components that touch no nodule, int64 (N,); 0 where it was not counted.
        scan_share: Share of ``num_false`` in the number a scan, float64 (N,).
    """

    num_common: NDArray[np.int64]
    num_predicted: NDArray[np.int64]
    num_true: NDArray[np.int64]
    is_found: NDArray[np.int64]
    num_false: NDArray[np.int64]
    scan_share: NDArray[np.float64]

    def metrics(self) -> dict[str, float]:
        """Return loss and Dice, and for validation ``lesion_recall``, ``false_candidates_per_scan`` and ``crop_dice``.

        ``dice`` is that of all voxels of all crops. ``crop_dice`` is the mean over the crops of nodules, and over the
        tiles, averaged: a false candidate costs a whole tile, however small it is. Dice is 1 where there is nothing to
        find and nothing was found. A scan's number of false candidates is that of its tiles: components that a border
        of tiles cuts count twice.
        """
        num_both = int(self.num_predicted.sum() + self.num_true.sum())
        values = {"loss": self.loss, "dice": 2 * float(self.num_common.sum()) / num_both if num_both else 1.0}
        is_looked_for = self.is_found != NOT_LOOKED_FOR
        if is_looked_for.any():
            values["lesion_recall"] = float(self.is_found[is_looked_for].mean())
        is_tile = self.scan_share > 0
        if is_tile.any():
            values["false_candidates_per_scan"] = float((self.num_false * self.scan_share).sum())
        of_crops = self._dice_of_crops()
        if means := [float(of_crops[chosen].mean()) for chosen in (is_looked_for, is_tile) if chosen.any()]:
            values["crop_dice"] = sum(means) / len(means)
        return values

    def _dice_of_crops(self) -> NDArray[np.float64]:
        num_both = self.num_predicted + self.num_true
        dice: NDArray[np.float64] = np.where(num_both > 0, 2 * self.num_common / np.maximum(num_both, 1), 1.0)
        return dice

    def selection_score(self) -> float:
        """Return ``crop_dice``, which chooses the epoch; ``dice`` without nodules and tiles."""
        values = self.metrics()
        return values.get("crop_dice", values["dice"])

    def decision(self, _series: NDArray[Any] | None = None) -> Decision:
        """Return the default: voxels are called nodule from a score of 0.5, uncalibrated."""
        return UNDECIDED


@dataclass(frozen=True, eq=False, slots=True)
class MaskBatchResult:
    """Results of a batch, see ``BatchResult``.

    Attributes:
        candidate_id: int64 (N,), on the CPU.
        labels: int64 (N,), on the CPU.
        groups: int64 (N,), on the CPU.
        is_counted: bool (N,), on the CPU.
        scan_share: float32 (N,), on the CPU.
        is_found: int64 (N,).
        num_false: int64 (N,).
        on_device: Scores, losses, and numbers of common, predicted and true voxels, float32 (N,) each, on the device.
    """

    candidate_id: torch.Tensor
    labels: torch.Tensor
    groups: torch.Tensor
    is_counted: torch.Tensor
    scan_share: torch.Tensor
    is_found: NDArray[np.int64]
    num_false: NDArray[np.int64]
    on_device: tuple[torch.Tensor, ...]

    @property
    def losses(self) -> torch.Tensor:
        """Loss of each sample, float32 (N,), on the device."""
        return self.on_device[1]

    def on_host(self, transferred: torch.Tensor) -> SegmentationResult:
        """Return the counted samples; float64 (5N,) holds the transferred values of ``on_device``."""
        counted = self.is_counted.numpy()
        scores, losses, *numbers = (values.numpy()[counted] for values in transferred.chunk(5))
        common, predicted, true = (np.rint(values).astype(np.int64) for values in numbers)
        return SegmentationResult(
            candidate_id=self.candidate_id.numpy()[counted],
            labels=self.labels.numpy()[counted],
            scores=scores,
            losses=losses,
            groups=self.groups.numpy()[counted],
            num_common=common,
            num_predicted=predicted,
            num_true=true,
            is_found=self.is_found[counted],
            num_false=self.num_false[counted],
            scan_share=self.scan_share.double().numpy()[counted],
        )


def is_middle_found(predicted: NDArray[np.bool_], true: NDArray[np.bool_]) -> bool:
    """Return whether a prediction touches the nodule at the middle voxel of a crop, both bool of one shape."""
    labels, _ = ndimage.label(true, _NEIGHBOURS[true.ndim])
    middle = labels[tuple(size // 2 for size in true.shape)]
    return bool(middle) and bool(predicted[labels == middle].any())


def count_false(predicted: NDArray[np.bool_], true: NDArray[np.bool_]) -> int:
    """Return the number of components of a prediction that touch no nodule, both bool of one shape."""
    labels, count = ndimage.label(predicted, _NEIGHBOURS[predicted.ndim])
    return int(count) - len(np.setdiff1d(labels[true], [0]))
