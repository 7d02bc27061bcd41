"""A network as it is published: HU in, probability out."""

import copy

from torch import Tensor, contiguous_format, nn

from luna_pipeline.core.models.base import Signature
from luna_pipeline.core.models.classification import classification_signature
from luna_pipeline.core.models.segmentation import segmentation_signature
from luna_pipeline.core.networks.luna import context_slices_of, is_segmenter
from luna_pipeline.core.training.building import network_of, task_of
from luna_pipeline.core.training.checkpoints import Checkpoint


class _Probability(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.is_segmenter = is_segmenter(network)

    def forward(self, chunks_hu: Tensor) -> Tensor:
        logits: Tensor = self.network(chunks_hu)
        return logits.sigmoid() if self.is_segmenter else logits.softmax(dim=1)[:, 1]


def probability_module(module: nn.Module) -> nn.Module:
    """Return a copy of ``module`` in evaluation mode that returns probabilities.

    The softmax of a classifier's logits (N, 2) gives (N,); a segmenter's logits keep their shape.
    """
    # torch.export stores weights completely in the contiguous format only, not in channels last.
    return _Probability(copy.deepcopy(module)).eval().to(memory_format=contiguous_format)  # type: ignore[call-overload,no-any-return]


def published(checkpoint: Checkpoint) -> tuple[nn.Module, Signature]:
    """Return the network of a checkpoint, HU to probability, with the names, dtypes and shapes of input and output."""
    network, task = network_of(checkpoint), task_of(checkpoint.config)
    if is_segmenter(network):
        return probability_module(network), segmentation_signature(task, context_slices_of(network))
    return probability_module(network), classification_signature(task)
