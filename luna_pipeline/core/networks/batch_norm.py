"""Batch norm for training on a CPU in channels-last layout, for exactness: not measurably faster (1.24 vs 1.27 s).

torch's kernel for this layout sums in float32: the variance of 2.4 million values is off by 3e-4. Here partial sums are
added in float64: 1e-7. benchmarks.bench_training requires losses within 0.0001 of the original project's.

Shapes: N cutouts, C channels, D, H, W voxels along index, row, col; K = W * C.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_VALUES_AT_ONCE = 2**20


class BatchNorm(nn.BatchNorm3d):
    """``nn.BatchNorm3d`` with the same parameters and names; only its computation in training differs."""

    def forward(self, features: Tensor) -> Tensor:
        """Return normalised features (N, C, D, H, W); training updates the running statistics."""
        if not self.training or not _is_inexact(features) or torch.compiler.is_compiling():
            return super().forward(features)
        with torch.no_grad():
            mean, variance = moments(features)
            self._update_running_stats(mean, variance, num_values=features.numel() // len(mean))
        parts = (features, self.weight, self.bias, mean, variance, self.eps)
        normalised: Tensor = _Normalise.apply(*parts)  # type: ignore[no-untyped-call]
        return normalised

    def _update_running_stats(self, mean: Tensor, variance: Tensor, *, num_values: int) -> None:
        """Update the running statistics; the running variance is the unbiased one."""
        unbiased = variance * (num_values / (num_values - 1))
        for running, new in ((self.running_mean, mean), (self.running_var, unbiased)):
            assert running is not None
            assert self.momentum is not None
            running.lerp_(new, self.momentum)
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance of each channel, float32 (C,).

    Args:
        features: float32 (N, C, D, H, W) in channels-last layout.

    Source:
        Chan, Golub, LeVeque: Updating formulae and a pairwise algorithm for computing sample variances (1979).
    """
    channels = features.shape[1]
    means, squares, counts = [], [], []
    for (part,), centred in _parts(_rows(features)):
        count = part.numel() // channels
        mean = _by_channel(part, channels) / count
        torch.sub(part, _along(mean, part), out=centred).square_()
        means.append(mean)
        squares.append(_by_channel(centred, channels))
        counts.append(count)
    of_part = torch.stack(means)
    weights = torch.tensor(counts, dtype=torch.float64)[:, None]
    mean = (of_part * weights).sum(0) / weights.sum()
    square = torch.stack(squares).sum(0) + (weights * (of_part - mean).square()).sum(0)
    return mean.float(), (square / weights.sum()).float()


class _Normalise(torch.autograd.Function):
    """Computes weight * (features - mean) / sqrt(variance + eps) + bias, and its gradients.

    Source:
        Ioffe, Szegedy: Batch Normalization (2015), section 3.
    """

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, eps: float
    ) -> Tensor:
        inverse_std = (variance + eps).rsqrt()
        factor = weight * inverse_std
        shift = bias - mean * factor
        normalised = torch.empty_like(features)
        for (part, target), _ in _parts(_rows(features), _rows(normalised)):
            torch.mul(part, _along(factor, part), out=target).add_(_along(shift, part))
        ctx.save_for_backward(features, weight, mean, inverse_std)
        return normalised

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        features, weight, mean, inverse_std = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last_3d)
        channels = len(mean)
        num_values = features.numel() // channels
        sums, products = [], []
        for (part, wanted), centred in _parts(_rows(features), _rows(gradient)):
            torch.sub(part, _along(mean, part), out=centred).mul_(wanted)
            sums.append(_by_channel(wanted, channels))
            products.append(_by_channel(centred, channels))
        of_bias = torch.stack(sums).sum(0)
        of_weight = torch.stack(products).sum(0) * inverse_std
        # The mean of the gradient and its slope along the normalised features are subtracted.
        factor = weight * inverse_std
        slope = -factor * inverse_std * of_weight / num_values
        shift = -factor * of_bias / num_values - slope * mean
        of_features = torch.empty_like(features)
        parts = _parts(_rows(features), _rows(gradient), _rows(of_features))
        for (part, wanted, target), along in parts:
            torch.mul(part, _along(slope.float(), part), out=along).add_(_along(shift.float(), part))
            torch.mul(wanted, _along(factor, part), out=target).add_(along)
        return of_features, of_weight.float(), of_bias.float(), None, None, None


def _is_inexact(features: Tensor) -> bool:
    """Return whether torch would use its channels-last kernel on a CPU; it rejects one value a channel."""
    is_plain = features.device.type == "cpu" and features.dtype == torch.float32 and features.dim() == 5
    has_values = features.shape[1] > 1 and features.numel() > features.shape[1]
    return is_plain and has_values and features.is_contiguous(memory_format=torch.channels_last_3d)


def _rows(features: Tensor) -> Tensor:
    """Return a view (N, D * H, K)."""
    num_cutouts, channels, num_slices, num_rows, num_cols = features.shape
    return features.permute(0, 2, 3, 4, 1).view(num_cutouts, num_slices * num_rows, num_cols * channels)


def _parts(*rows: Tensor) -> Iterator[tuple[tuple[Tensor, ...], Tensor]]:
    """Yield a few cutouts of each at a time, and a reused work buffer of the same shape."""
    at_once = max(1, _VALUES_AT_ONCE // rows[0][0].numel())
    memory = torch.empty_like(rows[0][:at_once])
    for parts in zip(*(torch.split(each, at_once) for each in rows), strict=True):
        yield parts, memory[: len(parts[0])]


def _by_channel(part: Tensor, channels: int) -> Tensor:
    """Sum over all but the channels, float64 (C,)."""
    return part.sum((0, 1)).view(-1, channels).sum(0, dtype=torch.float64)


def _along(of_channel: Tensor, part: Tensor) -> Tensor:
    """Repeat values (C,) for each voxel of a row, float32 (K,): broadcasting over a few channels is slow."""
    return of_channel.float().repeat(part.shape[-1] // len(of_channel))
