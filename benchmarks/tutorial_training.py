"""The baseline: a re-implementation of the tutorial's loading, augmenting, training and evaluating.

Each sample is a file, converted to float32, interpolated separately in 3-D, and gets its noise. The network uses
torch's default layout, pools last, and evaluates whole batches.

Source:
    Same behaviour, other code: https://github.com/tomas-janicek/luna16, ``datasets``, ``augmentations``,
    ``modules``, ``models``.
"""

import itertools
import math
import random
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import Dataset

OFFSET, SCALE, NOISE_HU = 0.1, 0.2, 25.0


class TutorialSample(NamedTuple):
    """A cutout, float32 (1, I, R, C) in HU, its label as (other, nodule), its series and its voxel."""

    candidate: torch.Tensor
    labels: torch.Tensor
    series_uid: str
    center_irc: torch.Tensor


class TutorialCutouts(Dataset[TutorialSample]):
    """A data set with one file per candidate, named by its row in the table.

    Args:
        table: ``seriesuid``, ``class``, ``file_path``.
        is_augmented: Whether each sample is augmented.
    """

    def __init__(self, table: pd.DataFrame, *, is_augmented: bool) -> None:
        self._table = table
        self._is_augmented = is_augmented

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, position: int) -> TutorialSample:
        row = self._table.iloc[position]
        members = np.load(row["file_path"])
        chunk = torch.from_numpy(members["ct_chunk"]).to(torch.float32).unsqueeze(0)
        if self._is_augmented:
            chunk = with_noise(moved(chunk, random_matrix()))
        labels = torch.tensor([0, 1] if row["class"] == 1 else [1, 0])
        return TutorialSample(chunk, labels, row["seriesuid"], torch.tensor(members["center_irc"]))


def random_matrix() -> torch.Tensor:
    """Draw an affine matrix (4, 4): flips along all axes, shift, scale, rotation within the slices."""
    matrix = torch.eye(4)
    for axis in range(3):
        matrix[axis, axis] *= -1
    for axis in range(3):
        matrix[axis, 3] = OFFSET * random.uniform(-1, 1)
    for axis in range(3):
        matrix[axis, axis] *= 1 + SCALE * random.uniform(-1, 1)
    angle = random.uniform(0, 2 * math.pi)
    turn = torch.eye(4)
    turn[0, 0] = turn[1, 1] = math.cos(angle)
    turn[1, 0] = math.sin(angle)
    turn[0, 1] = -turn[1, 0]
    return matrix @ turn


def moved(chunk: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """Interpolate a cutout (1, I, R, C) by a matrix (4, 4) in torch's coordinates."""
    batch = chunk.unsqueeze(0)
    grid = functional.affine_grid(matrix[:3].unsqueeze(0), list(batch.shape), align_corners=False)
    return functional.grid_sample(batch, grid, padding_mode="border", align_corners=False)[0]


def with_noise(chunk: torch.Tensor) -> torch.Tensor:
    """Add noise to each voxel, as the tutorial does: the square of a uniform number, times 25 HU."""
    noise = torch.rand_like(chunk)
    noise *= NOISE_HU * noise
    chunk += noise
    return chunk


class TutorialBlock(nn.Module):
    """Twice convolution, norm, ReLU and dropout of channels, then pooling."""

    def __init__(self, in_channels: int, out_channels: int, dropout_rate: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(in_channels, out_channels, kernel_size=3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm3d(out_channels)
        self.conv2 = nn.Conv3d(out_channels, out_channels, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm3d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout3d(dropout_rate)
        self.maxpool = nn.MaxPool3d(kernel_size=2, stride=2)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return features (N, C_out, I / 2, R / 2, C / 2)."""
        features = self.dropout(self.relu(self.bn1(self.conv1(features))))
        features = self.dropout(self.relu(self.bn2(self.conv2(features))))
        pooled: torch.Tensor = self.maxpool(features)
        return pooled


class TutorialHead(nn.Module):
    """Features to logits and probabilities."""

    def __init__(self, in_features: int) -> None:
        super().__init__()
        self.head_linear = nn.Linear(in_features, 2)

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return both, (N, 2)."""
        logits = self.head_linear(torch.flatten(features, start_dim=1))
        return logits, logits.softmax(dim=1)


class TutorialNetwork(nn.Module):
    """The network of blocks; its weights have the names of the project's."""

    def __init__(
        self, chunk_shape_irc: tuple[int, int, int], *, conv_channels: int, n_blocks: int, dropout_rate: float
    ) -> None:
        super().__init__()
        self.tail_batchnorm = nn.BatchNorm3d(1)
        channels = [1, *(conv_channels * 2**level for level in range(n_blocks))]
        self.luna_blocks = nn.ModuleList(
            TutorialBlock(incoming, outgoing, dropout_rate) for incoming, outgoing in itertools.pairwise(channels)
        )
        self.luna_head = TutorialHead(channels[-1] * math.prod(size // 2**n_blocks for size in chunk_shape_irc))

    def forward(self, chunks_hu: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits and probabilities, (N, 2)."""
        features = self.tail_batchnorm(chunks_hu)
        for block in self.luna_blocks:
            features = block(features)
        logits, probabilities = self.luna_head(features)
        return logits, probabilities


class TutorialClassifier:
    """The tutorial's steps.

    Args:
        network: The network.
        learning_rate: Of AdamW.
        weight_decay: Of AdamW.
    """

    def __init__(self, network: TutorialNetwork, *, learning_rate: float, weight_decay: float) -> None:
        self.network = network
        self._optimizer = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=weight_decay)

    def train_step(self, chunks_hu: torch.Tensor, labels: torch.Tensor) -> float:
        """Learn from a batch (N, 1, I, R, C), labels (N,); return its loss."""
        self.network.train()
        self._optimizer.zero_grad()
        loss = self._losses(chunks_hu, labels).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        return float(loss.detach())

    def evaluate(self, batches: list[tuple[torch.Tensor, torch.Tensor]]) -> list[float]:
        """Return the loss of each sample of these batches (voxels and labels)."""
        self.network.eval()
        losses: list[float] = []
        with torch.no_grad():
            for batch in batches:
                losses += self._losses(*batch).tolist()
        return losses

    def _losses(self, chunks_hu: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        logits, _ = self.network(chunks_hu)
        return functional.cross_entropy(logits, labels, reduction="none")
