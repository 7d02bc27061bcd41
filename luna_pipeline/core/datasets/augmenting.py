"""Applies random changes to batches of training cutouts, on their device."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from statistics import NormalDist

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from luna_pipeline.core.datasets.augmentation import AugmentationConfig, AugmentationDraws, draw_augmentations

try:
    from luna_pipeline.core.datasets._augment import augment_chunks
except ImportError:  # No compiler when the package was installed: torch does the same, in about four times the time.
    augment_chunks = None  # type: ignore[assignment]

_NUM_LEVELS = 4096
_CPU_BATCH = 8
"""Cutouts that a CPU works on at once: about what its cache holds."""
# SplitMix64's constants, as the signed numbers that torch calculates with.
_STEP, _FIRST_FACTOR, _SECOND_FACTOR = (
    constant - 2**64 for constant in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)


class Augmenter:
    """Changes training batches at random, by (seed, epoch, candidate, repeat)."""

    def __init__(self, config: AugmentationConfig, *, seed: int) -> None:
        """Store the configuration and the seed of the run."""
        self.config = config
        self.seed = seed

    def __call__(self, chunks_hu: Tensor, candidate_id: Tensor, repeat: Tensor, *, epoch: int) -> Tensor:
        """Change each cutout of a batch by its own draw.

        Args:
            chunks_hu: Cutouts in HU, float32 (N, 1, I, R, C); not modified.
            candidate_id: Their candidates, int64 (N,).
            repeat: Number of earlier draws of each candidate in the epoch, int64 (N,).
            epoch: Epoch, from 1.

        Returns:
            New cutouts in HU on the same device; ``chunks_hu`` itself if the configuration changes nothing.

        Raises:
            TypeError: If the cutouts are not float32.
            ValueError: If shapes do not fit each other.
        """
        if self.config.changes_nothing:
            return chunks_hu
        return augmented(chunks_hu, self._draws(candidate_id, repeat, epoch))

    def with_masks(
        self, chunks_hu: Tensor, masks: Tensor, candidate_id: Tensor, repeat: Tensor, *, epoch: int
    ) -> tuple[Tensor, Tensor]:
        """Change crops and their masks alike; masks get no noise and stay 0 or 1.

        Args:
            chunks_hu: Crops in HU, float32 (N, 1, I, R, C); not modified.
            masks: 1 within a nodule, else 0, float32 (N, 1, I, R, C); not modified.
            candidate_id: See the call, also for the following.
            repeat: Number of earlier draws.
            epoch: Epoch, from 1.
        """
        if self.config.changes_nothing:
            return chunks_hu, masks
        draws = self._draws(candidate_id, repeat, epoch)
        silent = replace(draws, noise_std_hu=np.zeros_like(draws.noise_std_hu))
        return augmented(chunks_hu, draws), (augmented(masks, silent) >= 0.5).to(masks.dtype)

    def _draws(self, candidate_id: Tensor, repeat: Tensor, epoch: int) -> AugmentationDraws:
        identifiers, repeats = candidate_id.numpy(force=True), repeat.numpy(force=True)
        return draw_augmentations(self.config, identifiers, repeats, seed=self.seed, epoch=epoch)


def augmented(chunks_hu: Tensor, draws: AugmentationDraws) -> Tensor:
    """Apply draws: trilinear interpolation with border values outside, then noise.

    Mirroring alone changes no value. On a CPU the compiled helper is used if it was built, otherwise torch. Their
    values differ by rounding (less than 0.01 HU); the noise is equal to the bit.
    The compiled helper computes each cutout by itself; torch's rounding may depend on the batch (less than 0.001 HU).

    Args:
        chunks_hu: Cutouts in HU, float32 (N, 1, I, R, C); not modified.
        draws: The draws.

    Returns:
        New cutouts in HU, float32 (N, 1, I, R, C), on the same device.

    Raises:
        TypeError: If the cutouts are not float32.
        ValueError: If their shape is wrong or there is not one draw for each.
    """
    _check_chunks(chunks_hu, num_draws=len(draws.angle_rad))
    if draws.only_flips:
        return _flipped(chunks_hu, draws.is_flipped_irc)
    if augment_chunks is not None and chunks_hu.device.type == "cpu":
        return _augmented_by_c(chunks_hu, draws)
    return _augmented_by_torch(chunks_hu, draws)


def _check_chunks(chunks_hu: Tensor, *, num_draws: int) -> None:
    if chunks_hu.dtype != torch.float32:
        msg = f"Cutouts must be float32, got {chunks_hu.dtype}. Convert them to HU in float32 first."
        raise TypeError(msg)
    if chunks_hu.ndim != 5 or chunks_hu.shape[1] != 1 or 0 in chunks_hu.shape[2:]:
        msg = f"Cutouts must be (N, 1, I, R, C), got {tuple(chunks_hu.shape)}. Hand over a batch with voxels."
        raise ValueError(msg)
    if len(chunks_hu) != num_draws:
        msg = f"Each cutout must have its draw, got {len(chunks_hu)} cutouts and {num_draws} draws."
        raise ValueError(f"{msg} Draw for the same batch.")


def _flipped(chunks_hu: Tensor, is_flipped_irc: NDArray[np.bool_]) -> Tensor:
    out = torch.empty_like(chunks_hu)
    codes = is_flipped_irc @ np.array([1, 2, 4])
    for code in np.unique(codes).tolist():
        rows = torch.from_numpy(np.flatnonzero(codes == code)).to(chunks_hu.device, non_blocking=True)
        axes = [axis + 2 for axis in range(3) if code >> axis & 1]
        out[rows] = chunks_hu[rows].flip(axes)
    return out


def _augmented_by_c(chunks_hu: Tensor, draws: AugmentationDraws) -> Tensor:
    """Apply draws by the compiled helper, in as many threads as torch uses."""
    shape_irc = tuple(chunks_hu.shape[2:])
    out = torch.empty(chunks_hu.shape)
    arrays = (chunks_hu.contiguous().numpy(), draws.input_maps(shape_irc), draws.noise_std_hu, draws.noise_key)
    num_threads = min(torch.get_num_threads(), len(out))

    def work(thread: int) -> None:
        part = slice(thread * len(out) // num_threads, (thread + 1) * len(out) // num_threads)
        chunks, maps, noise_std_hu, noise_key = (array[part] for array in arrays)
        augment_chunks(chunks, shape_irc, maps, noise_std_hu, noise_key, normal_levels(), out.numpy()[part])

    with ThreadPoolExecutor(num_threads) as pool:
        list(pool.map(work, range(num_threads)))
    return out


def _augmented_by_torch(chunks_hu: Tensor, draws: AugmentationDraws) -> Tensor:
    """Apply draws by torch, in parts that fit a CPU's cache; on a GPU at once."""
    shape_irc, device = chunks_hu.shape[2:], chunks_hu.device
    out = torch.empty(chunks_hu.shape, device=device)
    maps = torch.from_numpy(draws.input_maps(shape_irc)).to(device, non_blocking=True)
    std_hu = torch.from_numpy(draws.noise_std_hu).to(device, non_blocking=True)
    keys = torch.from_numpy(draws.noise_key.view(np.int64)).to(device, non_blocking=True)
    num_at_once = _CPU_BATCH if device.type == "cpu" else len(out)
    for begin in range(0, len(out), num_at_once):
        part = slice(begin, begin + num_at_once)
        out[part, 0] = _moved(chunks_hu[part, 0], maps[part])
        if draws.noise_std_hu[part].any():
            noise = standard_noise(keys[part], shape_irc.numel()).view(-1, *shape_irc)
            out[part, 0] += std_hu[part, None, None, None] * noise
    return out


def _moved(chunks_hu: Tensor, maps: Tensor) -> Tensor:
    """Interpolate cutouts (n, I, R, C): slices are blended first, then the voxels within a slice.

    The maps rotate within slices only, so this equals trilinear interpolation at a tenth of its cost.
    """
    num, num_slices, num_rows, num_cols = chunks_hu.shape
    num_voxels = num_rows * num_cols
    blended = _blended_slices(chunks_hu.reshape(-1, num_voxels), maps, num_slices)
    # With the slices last, one look-up fetches a voxel of all slices. contiguous(): embedding_bag rounds differently
    # for a view, which a batch of one gives.
    columns = blended.view(num, num_slices, num_voxels).transpose(1, 2).reshape(-1, num_slices).contiguous()
    places, shares = _sources(maps, num_rows, num_cols)
    moved = functional.embedding_bag(places.view(-1, 4), columns, per_sample_weights=shares.view(-1, 4), mode="sum")
    return moved.view(num, num_voxels, num_slices).transpose(1, 2).reshape(chunks_hu.shape)


def _sources(maps: Tensor, num_rows: int, num_cols: int) -> tuple[Tensor, Tensor]:
    """Return the four source rows in the look-up of each voxel of a slice and their weights (n, R, C, 4)."""
    rows, cols = (torch.arange(size, device=maps.device, dtype=maps.dtype) for size in (num_rows, num_cols))
    to_row, to_col = (maps[:, axis, :, None, None] for axis in (1, 2))
    row = to_row[:, 1] * rows[:, None] + to_row[:, 2] * cols + to_row[:, 3]
    col = to_col[:, 1] * rows[:, None] + to_col[:, 2] * cols + to_col[:, 3]
    low_row, high_row, row_share = _neighbours(row, num_rows)
    low_col, high_col, col_share = _neighbours(col, num_cols)
    places = torch.stack([r * num_cols + c for r in (low_row, high_row) for c in (low_col, high_col)], dim=-1)
    shares = torch.stack([r * c for r in (1 - row_share, row_share) for c in (1 - col_share, col_share)], dim=-1)
    first = torch.arange(len(maps), device=maps.device) * (num_rows * num_cols)
    return places + first[:, None, None, None], shares.float()


def _blended_slices(slices: Tensor, maps: Tensor, num_slices: int) -> Tensor:
    """Blend neighbouring slices (n * I, R * C) along the index axis."""
    slice_ = torch.arange(num_slices, device=maps.device, dtype=maps.dtype)
    low, high, share = _neighbours(maps[:, 0, :1] * slice_ + maps[:, 0, 3:], num_slices)
    first = torch.arange(len(maps), device=maps.device)[:, None] * num_slices
    lower, upper = (slices.index_select(0, (first + place).flatten()) for place in (low, high))
    return lower + share.float().view(-1, 1) * (upper - lower)


def _neighbours(place: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the voxels before and after a place, clamped to the axis, and the weight of the later one."""
    inside = place.clamp(0, size - 1)
    low = inside.long()
    return low, (low + 1).clamp(max=size - 1), inside - low


@cache
def normal_levels() -> NDArray[np.float32]:
    """Return the midpoint quantiles of a standard Gaussian in 4,096 equal parts (4096,), from -3.67 to 3.67.

    A table gives the same noise on every processor and is faster than a formula.
    """
    gaussian = NormalDist()
    levels = np.array([gaussian.inv_cdf((level + 0.5) / _NUM_LEVELS) for level in range(_NUM_LEVELS)])
    standardised: NDArray[np.float64] = levels / levels.std()
    return standardised.astype(np.float32)


@cache
def _levels_on(device: torch.device) -> Tensor:
    return torch.from_numpy(normal_levels()).to(device)


def standard_noise(keys: Tensor, num_voxels: int) -> Tensor:
    """Return standard Gaussian noise, float32 (n, num_voxels), equal on every device and in the compiled helper.

    Args:
        keys: Seed of each row, int64 (n,).
        num_voxels: Values per row.

    Source:
        SplitMix64: Steele, Lea, Flood, Fast splittable pseudorandom number generators (OOPSLA 2014); 12 bits of each
        16-bit part of a number choose one of ``normal_levels``.
    """
    num_words = -(-num_voxels // 4)
    words = keys[:, None] + _STEP * torch.arange(1, num_words + 1, device=keys.device)
    words = (words ^ _shifted_right(words, 30)) * _FIRST_FACTOR
    words = (words ^ _shifted_right(words, 27)) * _SECOND_FACTOR
    words ^= _shifted_right(words, 31)
    choices = (words.view(torch.int16) >> 4) & (_NUM_LEVELS - 1)
    return _levels_on(keys.device).index_select(0, choices.int().flatten()).view(len(keys), -1)[:, :num_voxels]


def _shifted_right(words: Tensor, num_bits: int) -> Tensor:
    """Shift as if the words had no sign."""
    return (words >> num_bits) & ((1 << (64 - num_bits)) - 1)
