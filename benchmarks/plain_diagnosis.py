"""The procedure of chapter 14 of 'Deep Learning with PyTorch' written plainly: one slice, one candidate at a time.

Re-implemented from the book's description: whole CT as float32, each slice with three neighbours on each side through
the U-Net, one erosion, components, centres of mass by density, and for each centre a cutout through the classifier.
"""

import time
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import nn

CONTEXT_SLICES = 3
CUTOUT_IRC = (32, 48, 48)


@dataclass(frozen=True, eq=False)
class PlainResult:
    """Findings by falling probability, and the seconds of each stage.

    Attributes:
        centers_irc: Centres of mass, voxels with fractions (N, 3).
        probabilities: Of a nodule, (N,).
        seconds: By stage.
    """

    centers_irc: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    seconds: dict[str, float]


def diagnose_plainly(
    hounsfield: NDArray[np.int16],
    segmenter: nn.Module,
    classifier: nn.Module,
    *,
    cutout_irc: tuple[int, int, int] = CUTOUT_IRC,
) -> PlainResult:
    """Find nodules in HU (I, R, C) as the book does; both networks are in evaluation mode."""
    seconds: dict[str, float] = {}
    # As a plain program has them: the layout of torch's default.
    segmenter, classifier = (
        network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        for network in (segmenter, classifier)
    )
    ct = np.clip(hounsfield.astype(np.float32), -1000, 1000)
    started = time.perf_counter()
    with torch.no_grad():
        scores = np.stack([_slice_scores(segmenter, ct, number) for number in range(len(ct))])
        seconds["segmentation"], started = time.perf_counter() - started, time.perf_counter()
        mask = ndimage.binary_erosion(scores > 0.5, iterations=1)
        labels, count = ndimage.label(mask)
        centers = np.asarray(ndimage.center_of_mass(ct + 1001, labels, np.arange(1, count + 1))).reshape(-1, 3)
        seconds["grouping"], started = time.perf_counter() - started, time.perf_counter()
        probabilities = np.asarray([_probability(classifier, ct, center, cutout_irc) for center in centers])
        seconds["classification"] = time.perf_counter() - started
    order = np.argsort(-probabilities, kind="stable")
    return PlainResult(centers[order], probabilities[order], seconds)


def _slice_scores(segmenter: nn.Module, ct: NDArray[np.float32], number: int) -> NDArray[np.float32]:
    around = np.clip(np.arange(number - CONTEXT_SLICES, number + CONTEXT_SLICES + 1), 0, len(ct) - 1)
    return np.asarray(torch.sigmoid(segmenter(torch.from_numpy(ct[around])[None]))[0, 0].numpy())


def _probability(
    classifier: nn.Module, ct: NDArray[np.float32], center_irc: NDArray[np.float64], cutout_irc: tuple[int, int, int]
) -> float:
    starts = [
        min(max(round(center) - length // 2, 0), size - length)
        for center, length, size in zip(center_irc, cutout_irc, ct.shape, strict=True)
    ]
    chunk = ct[tuple(slice(start, start + length) for start, length in zip(starts, cutout_irc, strict=True))]
    logits = classifier(torch.from_numpy(chunk.copy())[None, None])
    return float(torch.softmax(logits, dim=1)[0, 1])
