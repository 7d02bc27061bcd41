"""Copies of scans as files, to measure how many of them are found: formats, orientations, blocks, changed voxels."""

# SimpleITK types half of its wrappers.
# mypy: allow-untyped-calls

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom

BLOCKS = {"block 64x128x128": (64, 128, 128), "block 59x101x97": (59, 101, 97), "block 32x48x48": (32, 48, 48)}
SMALL_BLOCKS = {"block 24x32x32": (24, 32, 32), "block 16x16x16": (16, 16, 16)}
CHANGED = ("resampled", "smoothed", "noisy", "quantized")
FORMATS = {"metaimage": ".mha", "nifti": ".nii", "nrrd": ".nrrd"}
ORIENTED = {"flipped", "permuted"}


@dataclass(frozen=True)
class Copy:
    """A copy of a scan: its file's stem, its kind, and the kind by which it must be found."""

    name: str
    kind: str
    expected: str


def write_copies(
    folder: Path, scan: str, hounsfield: NDArray[np.int16], spacing_mm: tuple[float, ...], *, num_blocks: int = 4
) -> list[Copy]:
    """Write all copies of a scan into a folder.

    Args:
        folder: The folder.
        scan: Name of the scan, the stem of every file up to two underscores.
        hounsfield: HU, shape (I, R, C).
        spacing_mm: x, y, z in mm.
        num_blocks: Blocks of each size, at random places.
    """
    rng = np.random.default_rng(len(scan) + int(hounsfield[hounsfield.shape[0] // 2].sum() % 1000))
    folder.mkdir(parents=True, exist_ok=True)
    made = [_image(folder, scan, kind, suffix, hounsfield, spacing_mm) for kind, suffix in FORMATS.items()]
    made.append(_array(folder, scan, "npz", hounsfield.astype(np.float32), "equal"))
    made.append(_array(folder, scan, "npz clipped", np.clip(hounsfield, -1000, 400), "equal"))
    padded = np.where(hounsfield <= -1000, -3024, hounsfield).astype(np.int16)
    made.append(_image(folder, scan, "other padding", ".mha", padded, spacing_mm))
    made.append(_image(folder, scan, "header lost", ".mha", hounsfield, (1.0, 1.0, 1.0)))
    flipped = np.ascontiguousarray(hounsfield[:, ::-1, ::-1])
    made.append(_image(folder, scan, "flipped", ".mha", flipped, spacing_mm, (-1, 0, 0, 0, -1, 0, 0, 0, 1)))
    permuted = np.ascontiguousarray(hounsfield.transpose(2, 0, 1)[::-1])
    made.append(_image(folder, scan, "permuted", ".nrrd", permuted, (spacing_mm[1], spacing_mm[2], spacing_mm[0])))
    half = hounsfield.shape[0] // 2
    made.append(_image(folder, scan, "half", ".nii", np.ascontiguousarray(hounsfield[half:]), spacing_mm))
    for kind, size in (BLOCKS | SMALL_BLOCKS).items():
        for number in range(num_blocks):
            block = _block(hounsfield, size, rng)
            if block is not None:
                axes = rng.permutation(3)
                clipped = np.clip(block.transpose(axes)[::-1], -1000, 1000)
                made.append(_array(folder, scan, kind, clipped, "block of", number))
    return made + [
        _array(folder, scan, kind, _changed(hounsfield, kind, rng), "similar (resampled)") for kind in CHANGED
    ]


def _changed(hounsfield: NDArray[np.int16], kind: str, rng: np.random.Generator) -> NDArray[np.int16]:
    """Return a copy with other voxels: on another grid, smoothed, with noise of 15 HU, or in steps of 16 HU."""
    if kind == "resampled":
        resampled: NDArray[np.int16] = zoom(hounsfield, (1.3, 0.8, 0.8), order=1)
        return resampled
    if kind == "smoothed":
        return np.asarray(np.rint(gaussian_filter(hounsfield.astype(np.float32), 0.7)), dtype=np.int16)
    if kind == "noisy":
        noise = rng.normal(scale=15, size=hounsfield.shape).astype(np.float32)
        return np.asarray(np.rint(hounsfield + noise), dtype=np.int16)
    return np.asarray(hounsfield // 16 * 16, dtype=np.int16)


def _block(
    hounsfield: NDArray[np.int16], size: tuple[int, int, int], rng: np.random.Generator
) -> NDArray[np.int16] | None:
    """Return a block in the middle two thirds of a scan, None where the scan is not larger."""
    if any(here <= wanted for here, wanted in zip(hounsfield.shape, size, strict=True)):
        return None
    starts = []
    for here, wanted in zip(hounsfield.shape, size, strict=True):
        low, high = here // 6, max(here // 6 + 1, 5 * here // 6 - wanted)
        starts.append(min(int(rng.integers(low, high)), here - wanted))
    return hounsfield[tuple(slice(start, start + wanted) for start, wanted in zip(starts, size, strict=True))]


def _image(
    folder: Path,
    scan: str,
    kind: str,
    suffix: str,
    hounsfield: NDArray[np.int16],
    spacing_mm: tuple[float, ...],
    direction: tuple[float, ...] = (1, 0, 0, 0, 1, 0, 0, 0, 1),
) -> Copy:
    image = sitk.GetImageFromArray(hounsfield)
    image.SetSpacing([float(mm) for mm in spacing_mm])
    image.SetDirection([float(value) for value in direction])
    name = f"{scan}__{kind.replace(' ', '_')}"
    sitk.WriteImage(image, str(folder / f"{name}{suffix}"))
    expected = "other orientation" if kind in ORIENTED else "block of" if kind == "half" else "equal"
    return Copy(name, kind, expected)


def _array(
    folder: Path, scan: str, kind: str, values: NDArray[np.generic], expected: str, number: int | None = None
) -> Copy:
    name = f"{scan}__{kind.replace(' ', '_')}" + ("" if number is None else f"_{number}")
    np.savez(folder / f"{name}.npz", ct_chunk=values)
    return Copy(name, kind, expected)
