"""Shapes with a signed distance, and the canvas that paints them into a CT with soft edges.

Each shape has ``center_xyz`` and ``reach_mm``, the centre and half the sides of its bounding box in world mm, and
``distance``: mm to the surface, negative inside, exact to first order at the surface.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from luna_pipeline.core.ct.geometry import VoxelGrid

Floats: TypeAlias = NDArray[np.float32]
Point: TypeAlias = tuple[float, float, float]

CORNERS = np.stack(np.meshgrid((-1, 1), (-1, 1), (-1, 1)), axis=-1).reshape(8, 3)
# Temporary arrays of this many voxels fit the cache and bound the memory of a whole CT.
VOXELS_PER_SLAB = 1 << 20


def as_point(values: ArrayLike) -> Point:
    """Return three numbers as a tuple of floats."""
    x, y, z = np.asarray(values, dtype=np.float64).tolist()
    return x, y, z


@dataclass(frozen=True)
class Ellipsoid:
    """An ellipsoid; its own axes are the rows of ``axes`` (orthonormal, nine numbers)."""

    center_xyz: Point
    radii_mm: Point
    axes: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)

    @property
    def reach_mm(self) -> Point:
        """Half the bounding box along x, y, z."""
        scaled = np.asarray(self.axes).reshape(3, 3) * np.asarray(self.radii_mm)[:, None]
        return as_point(np.sqrt((scaled**2).sum(axis=0)))

    def distance(self, x_mm: Floats, y_mm: Floats, z_mm: Floats) -> Floats:
        """Distance to the surface in mm, negative inside."""
        dx, dy, dz = (a - np.float32(c) for a, c in zip((x_mm, y_mm, z_mm), self.center_xyz, strict=True))
        frame = np.asarray(self.axes, np.float32).reshape(3, 3)
        u, v, w = (_dot(axis, dx, dy, dz) / np.float32(r) for axis, r in zip(frame, self.radii_mm, strict=True))
        ru, rv, rw = (np.float32(radius**-2) for radius in self.radii_mm)
        u, v, w = u * u, v * v, w * w
        first, second = u + v + w, u * ru + v * rv + w * rw
        norm = np.sqrt(first)
        return _to_surface(norm, first, second, min(self.radii_mm))


@dataclass(frozen=True)
class Barrel:
    """An upright barrel: elliptic in each slice, with a flat wall and rounded ends along z."""

    center_xyz: Point
    radii_mm: Point

    @property
    def reach_mm(self) -> Point:
        """Half the bounding box along x, y, z."""
        return self.radii_mm

    def distance(self, x_mm: Floats, y_mm: Floats, z_mm: Floats) -> Floats:
        """Distance to the surface in mm, negative inside."""
        (cx, cy, cz), (rx, ry, rz) = self.center_xyz, self.radii_mm
        u, v = (x_mm - np.float32(cx)) / np.float32(rx), (y_mm - np.float32(cy)) / np.float32(ry)
        w = (z_mm - np.float32(cz)) / np.float32(rz)
        flat, upright = u * u + v * v, w * w
        norm = np.sqrt(np.sqrt(flat * flat + upright * upright))
        slope = flat * flat * (u * u / np.float32(rx**2) + v * v / np.float32(ry**2))
        slope = slope + upright**3 / np.float32(rz**2)
        return _to_surface(norm, norm**6, slope, min(self.radii_mm))


@dataclass(frozen=True)
class Capsule:
    """A rod with round ends whose radius changes evenly from start to end."""

    start_xyz: Point
    end_xyz: Point
    start_radius_mm: float
    end_radius_mm: float

    @property
    def center_xyz(self) -> Point:
        """Middle of the bounding box, mm."""
        (ax, ay, az), (bx, by, bz) = self.start_xyz, self.end_xyz
        return (ax + bx) / 2, (ay + by) / 2, (az + bz) / 2

    @property
    def reach_mm(self) -> Point:
        """Half the bounding box along x, y, z."""
        radius = max(self.start_radius_mm, self.end_radius_mm)
        (ax, ay, az), (bx, by, bz) = self.start_xyz, self.end_xyz
        return abs(bx - ax) / 2 + radius, abs(by - ay) / 2 + radius, abs(bz - az) / 2 + radius

    def distance(self, x_mm: Floats, y_mm: Floats, z_mm: Floats) -> Floats:
        """Distance to the surface in mm, negative inside."""
        start = np.asarray(self.start_xyz, np.float32)
        rod = np.asarray(self.end_xyz, np.float32) - start
        dx, dy, dz = x_mm - start[0], y_mm - start[1], z_mm - start[2]
        part = np.clip(_dot(rod / max(float(rod @ rod), 1e-9), dx, dy, dz), 0, 1).astype(np.float32)
        dx, dy, dz = dx - part * rod[0], dy - part * rod[1], dz - part * rod[2]
        radius = self.start_radius_mm + part * np.float32(self.end_radius_mm - self.start_radius_mm)
        return np.asarray(np.sqrt(dx * dx + dy * dy + dz * dz) - radius, np.float32)


Shape: TypeAlias = Ellipsoid | Barrel | Capsule


@dataclass
class Canvas:
    """HU of a CT while it is painted.

    Attributes:
        grid: Where the voxels lie; shapes use the same world.
        edge_mm: Width over which a surface goes from outside to inside: the scanner's blur.
        hounsfield: HU, float32, shape (I, R, C); starts as air.
    """

    grid: VoxelGrid
    edge_mm: float
    hounsfield: Floats = field(init=False)
    _axes_mm: list[Floats] = field(init=False)

    def __post_init__(self) -> None:
        self.hounsfield = np.full(self.grid.size_irc, -1000, dtype=np.float32)
        self._axes_mm = _axis_contributions(self.grid)

    def coordinates(self, box: tuple[slice, slice, slice]) -> tuple[Floats, Floats, Floats]:
        """Return x, y, z in mm of a box of voxels, each broadcastable to the box's shape."""
        parts = [axis[:, cut] for axis, cut in zip(self._axes_mm, box, strict=True)]
        return _outer_sum(parts, 0), _outer_sum(parts, 1), _outer_sum(parts, 2)

    def paint(
        self, shape: Shape, hounsfield: float, *, opacity: float = 1.0, rule: Literal["over", "brightest"] = "over"
    ) -> None:
        """Blend a shape into the CT.

        Args:
            shape: What to paint.
            hounsfield: HU inside the shape.
            opacity: Part of the old value that is replaced, 0 to 1.
            rule: ``brightest`` never darkens a voxel, as where a vessel enters the heart.
        """
        for box in self._slabs(shape):
            distance = shape.distance(*self.coordinates(box))
            cover = np.clip(np.float32(0.5) - distance / np.float32(self.edge_mm), 0, 1)
            view = self.hounsfield[box]
            blended = view + np.float32(opacity) * cover * (np.float32(hounsfield) - view)
            view[...] = np.maximum(view, blended) if rule == "brightest" else blended

    def _slabs(self, shape: Shape) -> Iterator[tuple[slice, slice, slice]]:
        """Yield the shape's bounding box, cut by the CT, in slabs of bounded size."""
        center, reach = np.asarray(shape.center_xyz), np.asarray(shape.reach_mm) + self.edge_mm
        corners = center + reach * CORNERS
        voxels = self.grid.world_to_voxel(corners)
        start = np.maximum(np.floor(voxels.min(axis=0)), 0).astype(int)
        stop = np.minimum(np.ceil(voxels.max(axis=0)) + 1, self.grid.size_irc).astype(int)
        if (start >= stop).any():
            return
        rows, cols = slice(start[1], stop[1]), slice(start[2], stop[2])
        thickness = max(1, VOXELS_PER_SLAB // int((stop[1] - start[1]) * (stop[2] - start[2])))
        for first in range(start[0], stop[0], thickness):
            yield slice(first, min(first + thickness, stop[0])), rows, cols


def _to_surface(norm: Floats, numerator: Floats, denominator: Floats, radius_mm: float) -> Floats:
    """Turn a norm that is 1 on the surface into mm by its slope; in the centre, where both vanish, by the radius."""
    tiny = np.float32(1e-9)
    scale = np.sqrt((numerator + tiny * np.float32(radius_mm**2)) / (denominator + tiny))
    return np.asarray((norm - 1) * scale, np.float32)


def _dot(axis: Floats, x_mm: Floats, y_mm: Floats, z_mm: Floats) -> Floats:
    # Zero entries are left out so that an unrotated shape keeps thin, broadcastable arrays.
    terms = [part * values for part, values in zip(axis, (x_mm, y_mm, z_mm), strict=True) if part != 0]
    total = terms[0] if terms else np.zeros_like(x_mm)
    for term in terms[1:]:
        total = total + term
    return total


def _axis_contributions(grid: VoxelGrid) -> list[Floats]:
    """Return for each voxel axis what its positions add to x, y and z, shape (3, size); the first adds the origin."""
    contributions = []
    for axis, size in enumerate(grid.size_irc):
        voxels = np.zeros((size, 3))
        voxels[:, axis] = np.arange(size)
        world = grid.voxel_to_world(voxels) - (0 if axis == 0 else np.asarray(grid.origin_xyz))
        contributions.append(world.T.astype(np.float32, order="C"))
    return contributions


def _outer_sum(parts: list[Floats], coordinate: int) -> Floats:
    """Add up the three axes' parts of a coordinate; an axis whose part is constant stays of length 1."""
    total = np.zeros((1, 1, 1), np.float32)
    for axis in range(3):
        values = parts[axis][coordinate]
        # Positions on an axis rise, fall or stay.
        if values.size and values[0] == values[-1]:
            values = values[:1]
        total = total + values.reshape([-1 if other == axis else 1 for other in range(3)])
    return total
