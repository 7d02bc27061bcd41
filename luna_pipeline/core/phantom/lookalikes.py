"""Look-alikes of nodules in the phantom: branching and crossing vessels, scars, bulging rib ends."""

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np

from luna_pipeline.core.phantom.nodules import random_axes
from luna_pipeline.core.phantom.shapes import Canvas, Capsule, Ellipsoid, Point, Shape, as_point
from luna_pipeline.core.phantom.thorax import Thorax
from luna_pipeline.core.phantom.vessels import Tree

Kind: TypeAlias = Literal["branching", "crossing", "scar", "rib end"]
KINDS: tuple[Kind, ...] = get_args(Kind)
KIND_SHARES = (0.4, 0.3, 0.2, 0.1)


@dataclass(frozen=True)
class LookAlike:
    """A finding that is no nodule.

    Attributes:
        kind: One of ``KINDS``.
        center_xyz: Where a detector would point, mm.
        radius_mm: Radius of its central part.
        parts: Shapes with their HU, painted over the chest where they are brighter.
    """

    kind: Kind
    center_xyz: Point
    radius_mm: float
    parts: tuple[tuple[Shape, float], ...]


def draw_lookalike(rng: np.random.Generator, thorax: Thorax, *, vessels: list[Tree], lung_xyz: Point) -> LookAlike:
    """Draw one look-alike: a scar at ``lung_xyz`` (mm), a rib end on the lung's surface near it, or one on a vessel."""
    kind = KINDS[int(rng.choice(len(KINDS), p=KIND_SHARES))]
    if kind == "scar":
        return _draw_scar(rng, lung_xyz)
    if kind == "rib end":
        return _draw_rib_end(rng, thorax, lung_xyz)
    return _draw_on_vessel(rng, thorax, kind, vessels)


def paint_lookalike(canvas: Canvas, lookalike: LookAlike) -> None:
    """Paint a look-alike; no voxel becomes darker."""
    for shape, hounsfield in lookalike.parts:
        canvas.paint(shape, hounsfield, rule="brightest")


def _draw_on_vessel(rng: np.random.Generator, thorax: Thorax, kind: Kind, vessels: list[Tree]) -> LookAlike:
    """A thicker branching, or a second vessel that crosses the first."""
    tree = vessels[int(rng.integers(len(vessels)))]
    rows = tree.branchings() if kind == "branching" else np.arange(1, len(tree.parents))
    row = int(rng.choice(rows)) if len(rows) else len(tree.parents) - 1
    center = tree.points_xyz[row]
    radius = float(np.clip(tree.radii_mm[row] * rng.uniform(1.0, 1.4), 1.3, 2.1))
    num_rods = int(rng.integers(2, 4)) if kind == "branching" else int(rng.integers(1, 3))
    rods = []
    for _ in range(num_rods):
        # Half of the vessels run across the slices, where they look round.
        direction = rng.normal(size=3) * (1, 1, 4 if rng.random() < 0.5 else 1)
        direction *= rng.uniform(5, 9) / np.linalg.norm(direction)
        back = 0.0 if kind == "branching" else -rng.uniform(0.6, 1.0)
        bend = center + rng.normal(0, 0.4 * radius, size=3)
        rods.append(Capsule(as_point(bend + back * direction), as_point(bend), radius * 0.4, radius))
        rods.append(Capsule(as_point(bend), as_point(bend + direction), radius, radius * 0.4))
    hounsfield = min(thorax.blood_hu, 220.0) - rng.uniform(0, 60)
    return LookAlike(kind, as_point(center), max(1.5, 1.2 * radius), tuple((rod, hounsfield) for rod in rods))


def _draw_scar(rng: np.random.Generator, center_xyz: Point) -> LookAlike:
    """A thin plate with strands that run out of it."""
    radius = float(rng.uniform(2.5, 6.0))
    plate = Ellipsoid(center_xyz, (radius, radius * rng.uniform(0.5, 0.9), max(0.5, radius * 0.2)), random_axes(rng))
    hounsfield = float(rng.uniform(-350, 40))
    parts: list[tuple[Shape, float]] = [(plate, hounsfield)]
    long_axis = np.asarray(plate.axes[:3])
    for side in (-1, 1):
        end = np.asarray(center_xyz) + side * long_axis * radius * rng.uniform(1.3, 2.2)
        parts.append((Capsule(center_xyz, as_point(end), 0.8, 0.4), hounsfield - 80))
    return LookAlike("scar", center_xyz, max(1.5, 0.6 * radius), tuple(parts))


def _draw_rib_end(rng: np.random.Generator, thorax: Thorax, lung_xyz: Point) -> LookAlike:
    """A broad bump of the chest wall into the lung."""
    surface = np.asarray(lung_xyz, dtype=np.float64)
    for _ in range(4):
        surface = surface - thorax.lung_normal(surface) * float(thorax.lung_distance(surface))
    inward = -thorax.lung_normal(surface)
    height = float(rng.uniform(1.2, 2.8))
    width = height * rng.uniform(1.8, 3.0)
    across = np.linalg.svd(inward[None])[2][1:]
    axes = tuple(float(value) for value in np.concatenate([inward[None], across]).ravel())
    bump = Ellipsoid(as_point(surface), (height, width, width), axes)
    center = surface + inward * 0.4 * height
    hounsfield = float(rng.uniform(20, 220))
    return LookAlike("rib end", as_point(center), max(1.5, height), ((bump, hounsfield),))
