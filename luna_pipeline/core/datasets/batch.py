"""A batch of cutouts."""

from typing import NamedTuple

import torch

FILLER = -1
"""``repeat`` of a sample that only keeps a process in step with the others; it is ignored."""


class CutoutBatch(NamedTuple):
    """Cutouts of one training or evaluation step.

    Attributes:
        chunks_hu: Values in HU, float32 (N, 1, I, R, C).
        labels: 1 for the positive class (nodule or malignant nodule), else 0, int64 (N,).
        candidate_id: int64 (N,).
        groups: Number of each candidate's group in the data set's ``group_names``, int64 (N,).
        repeat: Number of earlier draws of the candidate in the epoch, int64 (N,); 0 in evaluation, ``FILLER`` for a
            sample to ignore.
        num_in_step: Samples of the whole optimizer step in all processes; in evaluation of this batch.
    """

    chunks_hu: torch.Tensor
    labels: torch.Tensor
    candidate_id: torch.Tensor
    groups: torch.Tensor
    repeat: torch.Tensor
    num_in_step: int
