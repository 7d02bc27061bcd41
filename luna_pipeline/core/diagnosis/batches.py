"""Size of the batches of a segmentation, and their scores."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from luna_pipeline.core.models.finite import NonFiniteError

# Input, output and skipped features of a layer are in memory at a time.
_MAPS_AT_ONCE = 4
# Measured: more than one slice or window at a time is slower on a CPU, because feature maps leave its cache.
_ONE_AT_A_TIME = ("cpu",)


def batch_size(module: nn.Module, sample: torch.Tensor, memory_bytes: int) -> int:
    """Return the number of slices or windows of a batch, at least 1.

    Args:
        module: The network, in evaluation mode.
        sample: One slice or window on the network's device, (1, C, ...).
        memory_bytes: Budget for the feature maps of a batch.
    """
    if sample.device.type in _ONE_AT_A_TIME:
        return 1
    largest = [sample.nbytes]

    def measure(_layer: nn.Module, _inputs: object, output: object) -> None:
        if isinstance(output, torch.Tensor):
            largest.append(output.nbytes)

    hooks = [layer.register_forward_hook(measure) for layer in module.modules()]
    try:
        module(sample)
    finally:
        for hook in hooks:
            hook.remove()
    return max(1, memory_bytes // (_MAPS_AT_ONCE * max(largest)))


def scores_of_logits(logits: torch.Tensor) -> NDArray[np.float32]:
    """Return the scores of logits (N, 1, ...) as an array on the CPU, without the channel axis.

    Raises:
        NonFiniteError: If a score is nan.
    """
    scores = logits.sigmoid_()[:, 0].float().cpu()
    # One nan makes the sum nan; counting them would take another pass over all scores.
    if torch.isnan(scores.sum()):
        msg = f"Scores must be finite, got nan for {int(scores.isnan().sum())} of {scores.numel()} voxels of a batch."
        raise NonFiniteError(f"{msg} Use another checkpoint, or train again.")
    return scores.numpy()
