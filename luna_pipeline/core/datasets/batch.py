"""A batch of cutouts, as the data loader hands it to a model."""

from typing import NamedTuple

import torch


class CutoutBatch(NamedTuple):
    """Cutouts of one training or evaluation step.

    Attributes:
        chunks_hu: Values in HU, float32 (N, 1, I, R, C).
        labels: 1 nodule, 0 other, int64 (N,).
        candidate_id: Identity of each candidate, int64 (N,).
    """

    chunks_hu: torch.Tensor
    labels: torch.Tensor
    candidate_id: torch.Tensor
