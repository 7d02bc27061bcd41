"""The synthetic twin of NoduleMNIST3D: cubes of 28 mm around the phantom's nodules, in one file."""

# SimpleITK types half of its wrappers.
# mypy: allow-untyped-calls

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from luna_pipeline.core.ct.formats.nodulemnist3d import EDGE_VOXELS, SPACING_MM, WINDOW_HU, grid_of
from luna_pipeline.core.phantom.form import PhantomForm
from luna_pipeline.core.phantom.luna16 import image_of
from luna_pipeline.core.phantom.series import PhantomSeries
from luna_pipeline.core.phantom.shapes import Point

_FILE = "nodulemnist3d.npz"
# Shares 7 : 1 : 2. Splits are by nodule, as the real ones: nodules of a patient lie in several.
_SPLITS = ("train", "test", "train", "val", "train", "train", "test", "train", "train", "train")
# The real limit is 3, and nodules rated 3 are left out; in a small phantom few nodules would then be malignant.
MALIGNANT_MEAN = 2.5


@dataclass
class NoduleMnist3dForm(PhantomForm):
    """``nodulemnist3d.npz``; the number of subsets is ignored, as the splits are three.

    Attributes:
        cubes: Gray values and label of each nodule so far.
    """

    patterns = ("nodulemnist3d*.npz",)
    cubes: list[tuple[NDArray[np.uint8], int]] = field(default_factory=list)

    def write_series(self, series: PhantomSeries) -> None:
        """Keep the cubes of the series; nothing is written before all are known."""
        image = image_of(series)
        for nodule, ratings in zip(series.findings.nodules, series.findings.ratings, strict=True):
            self.cubes.append((_cube(image, nodule.center_xyz), int(np.mean(ratings) >= MALIGNANT_MEAN)))

    def tables(self) -> Mapping[str, bytes]:
        """Return the packed file."""
        edge = EDGE_VOXELS[_FILE]
        arrays: dict[str, Any] = {}
        splits = _splits([label for _, label in self.cubes])
        for split in ("train", "val", "test"):
            mine = [cube for cube, assigned in zip(self.cubes, splits, strict=True) if assigned == split]
            images = [image for image, _ in mine]
            arrays[f"{split}_images"] = np.array(images, np.uint8).reshape(-1, edge, edge, edge)
            arrays[f"{split}_labels"] = np.array([label for _, label in mine], np.uint8).reshape(-1, 1)
        content = io.BytesIO()
        np.savez_compressed(content, **arrays)
        return {_FILE: content.getvalue()}


def _splits(labels: Sequence[int]) -> list[str]:
    """Return the split of each nodule; each label is divided by itself, so that few nodules are in all splits."""
    seen: Counter[int] = Counter()
    splits = []
    for label in labels:
        splits.append(_SPLITS[seen[label] % len(_SPLITS)])
        seen[label] += 1
    return splits


def _cube(image: sitk.Image, center_xyz: Point) -> NDArray[np.uint8]:
    """Return gray values of a cube whose middle voxel lies in a nodule's centre."""
    edge, (low, high) = EDGE_VOXELS[_FILE], WINDOW_HU
    origin = [value - edge // 2 * SPACING_MM for value in center_xyz]
    direction = grid_of(edge).direction
    cube = sitk.Resample(
        image, [edge] * 3, sitk.Transform(), sitk.sitkLinear, origin, [SPACING_MM] * 3, direction, low, sitk.sitkFloat32
    )
    share = (np.clip(sitk.GetArrayFromImage(cube), low, high) - low) / (high - low)
    gray: NDArray[np.uint8] = np.rint(share * 255).astype(np.uint8)
    return gray
