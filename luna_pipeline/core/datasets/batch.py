"""A batch of cutouts, as the data loader hands it to a model."""

from typing import NamedTuple

import torch

FILLER = -1
"""Stands for the repeat of a sample that only keeps a process in step with the others; it counts nowhere."""


class CutoutBatch(NamedTuple):
    """Cutouts of one training or evaluation step.

    Attributes:
        chunks_hu: Values in HU, float32 (N, 1, I, R, C).
        labels: 1 for what is looked for (nodule, malignant nodule), 0 for everything else, int64 (N,).
        candidate_id: Identity of each candidate, int64 (N,).
        groups: Place of each candidate's group in the data set's ``group_names``, int64 (N,).
        repeat: How often the candidate came before in the same epoch, int64 (N,); always 0 in evaluation, ``FILLER``
            for a sample that does not count.
        num_in_step: Samples of the whole optimizer step, of all its batches in all processes; in evaluation those of
            this batch in all processes.
    """

    chunks_hu: torch.Tensor
    labels: torch.Tensor
    candidate_id: torch.Tensor
    groups: torch.Tensor
    repeat: torch.Tensor
    num_in_step: int
