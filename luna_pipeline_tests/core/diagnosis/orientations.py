"""The same CT in all 24 orientations, without the code under test: axes permuted and flipped, or a turned header."""

from dataclasses import replace
from itertools import permutations, product

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.ct.geometry import VoxelGrid


def _sign_of(axes: tuple[int, ...]) -> int:
    return round(float(np.linalg.det(np.eye(3)[list(axes)])))


ORIENTATIONS = [
    (axes, flips)
    for axes in permutations(range(3))
    for flips in product((False, True), repeat=3)
    if _sign_of(axes) * (-1) ** sum(flips) == 1
]
"""Axes of the original array in their new order, and which of them run backwards: the 24 rotations."""


def reoriented(
    hounsfield: NDArray[np.int16], grid: VoxelGrid, axes: tuple[int, ...], flips: tuple[bool, ...]
) -> tuple[NDArray[np.int16], VoxelGrid]:
    """Return the CT with permuted and flipped axes; each voxel keeps its place in the patient."""
    flipped = hounsfield.transpose(axes)[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]
    first = np.zeros(3)
    for axis, flip in zip(axes, flips, strict=True):
        first[axis] = grid.size_irc[axis] - 1 if flip else 0
    origin = grid.voxel_to_world(first)
    ways = []
    for axis, flip in zip(axes, flips, strict=True):
        way = grid.voxel_to_world(np.eye(3)[axis]) - np.asarray(grid.origin_xyz)
        ways.append((-1 if flip else 1) * way)
    lengths = [float(np.linalg.norm(way)) for way in ways]
    direction = np.stack([way / mm for way, mm in zip(ways, lengths, strict=True)][::-1], axis=1)
    turned = VoxelGrid(
        size_irc=tuple(int(size) for size in flipped.shape),
        spacing_mm=tuple(lengths[::-1]),
        origin_xyz=tuple(float(value) for value in origin),
        direction=tuple(float(value) for value in direction.ravel()),
    )
    return np.ascontiguousarray(flipped), turned


def rotation(degrees: float) -> NDArray[np.float64]:
    """Return a rotation (3, 3) about an axis between all three of the patient."""
    axis = np.array([2.0, -1.0, 3.0]) / np.sqrt(14)
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    angle = np.deg2rad(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def turned_header(grid: VoxelGrid, turn: NDArray[np.float64]) -> VoxelGrid:
    """Return the grid of a patient that lies obliquely: every world position is multiplied by the rotation."""
    direction = turn @ np.asarray(grid.direction).reshape(3, 3)
    origin = turn @ np.asarray(grid.origin_xyz)
    return replace(
        grid,
        origin_xyz=tuple(float(value) for value in origin),
        direction=tuple(float(value) for value in direction.ravel()),
    )
