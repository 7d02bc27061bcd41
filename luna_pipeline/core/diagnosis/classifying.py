"""Classifies findings of a CT by cutouts around their centres."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.ct.reading import Ct
from luna_pipeline.core.cutouts.chunks import CtChunks
from luna_pipeline.core.cutouts.cutting import CuttingParameters
from luna_pipeline.core.datasets.batch import CutoutBatch
from luna_pipeline.core.models.scoring import predict
from luna_pipeline.core.networks.folding import folded

# The first block of a network holds 8 channels of each cutout: 40 MB for a batch.
BATCH_SIZE = 16


class _Mirrored(nn.Module):
    """Averages the logits of mirrored copies of cutouts: copy k is flipped along the axes of the bits of k."""

    def __init__(self, network: nn.Module, num_flips: int) -> None:
        super().__init__()
        self.network = network
        # Bit 0 flips columns, bit 1 rows, bit 2 slices.
        self.flips = [[-1 - bit for bit in range(3) if copy >> bit & 1] for copy in range(num_flips)]

    def forward(self, chunks_hu: torch.Tensor) -> torch.Tensor:
        """Return logits (N, 2) of cutouts (N, 1, D, H, W)."""
        copies = (chunks_hu.flip(axes) if axes else chunks_hu for axes in self.flips)
        return torch.stack([self.network(copy) for copy in copies]).mean(dim=0)


def classify(  # noqa: PLR0913
    network: nn.Module,
    hounsfield_axial: NDArray[np.int16],
    grid_axial: VoxelGrid,
    centers_xyz: NDArray[np.float64],
    *,
    parameters: CuttingParameters,
    num_flips: int = 1,
    mirrored_from: float = 0.0,
    device: torch.device | str = "cpu",
    on_progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.float64]:
    """Score findings with a classifier; cutouts are cut in blocks.

    Args:
        network: Maps HU (N, 1, D, H, W) to logits (N, 2); never changed.
        hounsfield_axial: HU of the axial view, (I, R, C).
        grid_axial: Grid of the axial view.
        centers_xyz: World mm of the findings, (N, 3).
        parameters: How cutouts are cut.
        num_flips: Number of mirrored copies, 1 to 8, whose logits are averaged; the first one is not mirrored.
        mirrored_from: Score of the first copy from which the others are scored, too.
        device: Where the network runs.
        on_progress: Called after each batch of first copies with the numbers of finished and of all findings.

    Returns:
        Scores of class 1, not calibrated, float64 (N,), in [0, 1].

    Raises:
        ValueError: If a centre lies outside the CT, or the edge rule ``shift`` meets a CT thinner than a cutout.
        NonFiniteError: If a score is nan.
    """
    centers = np.asarray(centers_xyz, dtype=np.float64).reshape(-1, 3)
    if not len(centers):
        return np.empty(0)
    chunks = CtChunks(Ct("", hounsfield_axial, grid_axial, ()), centers, parameters)
    module = folded(network).to(device)
    scores = predict(module, _batches(chunks, np.arange(len(chunks)), on_progress))[1]
    if num_flips > 1 and len(rows := np.flatnonzero(scores >= mirrored_from)):
        scores[rows] = predict(_Mirrored(module, num_flips), _batches(chunks, rows, None))[1]
    return scores


def _batches(
    chunks: CtChunks, chosen: NDArray[np.int64], on_progress: Callable[[int, int], None] | None
) -> Iterator[CutoutBatch]:
    """Yield the chosen cutouts, a batch at a time."""
    total = len(chosen)
    for start in range(0, total, BATCH_SIZE):
        stop = min(start + BATCH_SIZE, total)
        voxels = np.stack([chunks[row] for row in chosen[start:stop].tolist()])
        ids = torch.from_numpy(chosen[start:stop])
        yield CutoutBatch(
            chunks_hu=torch.from_numpy(voxels).float().unsqueeze(1),
            labels=torch.zeros_like(ids),
            candidate_id=ids,
            groups=torch.zeros_like(ids),
            repeat=torch.zeros_like(ids),
            num_in_step=len(ids),
        )
        # The consumer requests the next batch after it has scored this one.
        if on_progress is not None:
            on_progress(stop, total)
