"""Branching trees of vessels and airways that fill the phantom's lungs."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.phantom.shapes import Canvas, Capsule, Point, as_point
from luna_pipeline.core.phantom.thorax import Thorax

# Flow is divided between branches: radius ** FLOW_EXPONENT adds up at a branching (3 in Murray's law).
FLOW_EXPONENT = 2.5
# How much a long way from the root costs against a short new branch; from bushy (0) to star-like (1).
DETOUR_WEIGHT = 0.45


@dataclass(frozen=True, eq=False)
class Tree:
    """A tree of straight segments.

    Attributes:
        points_xyz: Ends of the segments, mm, shape (N, 3); row 0 is the root.
        parents: Row of the segment's start, shape (N,); -1 for the root.
        radii_mm: Radius at each point, shape (N,).
    """

    points_xyz: NDArray[np.float64]
    parents: NDArray[np.int64]
    radii_mm: NDArray[np.float64]

    def branchings(self) -> NDArray[np.int64]:
        """Return the rows at which the tree branches, without the root."""
        children = np.bincount(self.parents[1:], minlength=len(self.parents))
        rows = np.flatnonzero(children >= 2)
        return rows[rows > 0]

    def pieces(self) -> list[Capsule]:
        """Return the segments as tapered rods."""
        points, radii = [as_point(point) for point in self.points_xyz], self.radii_mm.tolist()
        ends = [(row, parent) for row, parent in enumerate(self.parents) if parent >= 0]
        return [Capsule(points[parent], points[row], radii[row] * 1.05, radii[row]) for row, parent in ends]


def draw_trees(rng: np.random.Generator, thorax: Thorax) -> tuple[list[Tree], list[Tree]]:
    """Draw the vessels (artery and vein of each lung) and the airways (one tree a lung)."""
    vessels, airways = [], []
    field_mm = float(np.prod(np.asarray(thorax.half_mm) * 2) ** (1 / 3))
    ends = int(np.clip(18 * (field_mm / 80) ** 1.6, 12, 240))
    for side in (-1, 1):
        root = thorax.hilum_xyz(side)
        for shift in (-0.12, 0.12):
            start = (root[0], root[1] + shift * thorax.cavity_mm[1], root[2] - 0.5 * shift * thorax.cavity_mm[2])
            vessels.append(_grow(rng, thorax, start, ends=ends, end_radius_mm=rng.uniform(0.3, 0.5)))
        airways.append(_grow(rng, thorax, root, ends=max(3, ends // 10), end_radius_mm=0.5))
    return vessels, airways


def paint_trees(canvas: Canvas, thorax: Thorax, *, vessels: list[Tree], airways: list[Tree]) -> None:
    """Paint vessels as blood, airways as a wall around air."""
    for tree in vessels:
        for piece in tree.pieces():
            canvas.paint(piece, thorax.blood_hu, rule="brightest")
    for tree in airways:
        pieces = tree.pieces()
        for piece in pieces:
            wall_mm = 0.5 + 0.15 * piece.start_radius_mm
            grown = (piece.start_radius_mm + wall_mm, piece.end_radius_mm + wall_mm)
            canvas.paint(Capsule(piece.start_xyz, piece.end_xyz, *grown), -150.0, rule="brightest")
        for piece in pieces:
            canvas.paint(piece, -980.0)


def draw_lung_points(
    rng: np.random.Generator, thorax: Thorax, num_points: int, *, depth_mm: float = 2.0, side: int = 0
) -> NDArray[np.float64]:
    """Return points, mm, at least ``depth_mm`` below the surface of a lung: -1 right, 1 left, 0 both.

    Shape (N, 3), N <= ``num_points``: fewer where the lungs are too small.
    """
    low, high = -np.asarray(thorax.cavity_mm), np.asarray(thorax.cavity_mm)
    limit, middle = np.asarray(thorax.half_mm), np.array([0.0, thorax.cavity_y_mm, 0.0])
    found = np.empty((0, 3))
    for _ in range(20):
        tries = rng.uniform(low, high, size=(20 * num_points + 50, 3)) + middle
        is_inside = (thorax.lung_distance(tries) < -depth_mm) & (np.abs(tries) < limit - 1).all(axis=1)
        if side:
            is_inside &= np.sign(tries[:, 0]) == side
        found = np.concatenate([found, tries[is_inside]])
        if len(found) >= num_points:
            break
    return found[:num_points]


def _grow(rng: np.random.Generator, thorax: Thorax, root_xyz: Point, *, ends: int, end_radius_mm: float) -> Tree:
    """Connect random points to a tree, nearest to the root first, each by the cheapest segment.

    Source:
        Minimum spanning trees with a balancing factor: Cuntz et al., PLoS Computational Biology 2010.
    """
    side = 1 if root_xyz[0] > 0 else -1
    targets = draw_lung_points(rng, thorax, 2 * ends, depth_mm=1.5, side=side)
    targets = targets[np.argsort(np.linalg.norm(targets - root_xyz, axis=1), kind="stable")]
    points = np.concatenate([[root_xyz], targets])
    parents, way_mm = np.full(len(points), -1), np.zeros(len(points))
    for row in range(1, len(points)):
        step_mm = np.linalg.norm(points[:row] - points[row], axis=1)
        parents[row] = int(np.argmin(step_mm + DETOUR_WEIGHT * way_mm[:row]))
        way_mm[row] = way_mm[parents[row]] + step_mm[parents[row]]
    return Tree(points, parents, _radii(parents, end_radius_mm))


def _radii(parents: NDArray[np.int64], end_radius_mm: float) -> NDArray[np.float64]:
    flow = np.zeros(len(parents))
    for row in range(len(parents) - 1, 0, -1):
        flow[row] = max(flow[row], end_radius_mm**FLOW_EXPONENT)
        flow[parents[row]] += flow[row]
    return np.asarray(np.maximum(flow, end_radius_mm**FLOW_EXPONENT) ** (1 / FLOW_EXPONENT))
