"""Positions of nodules and look-alikes in a phantom, and the output of a synthetic detector and readers."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.phantom.lookalikes import LookAlike, draw_lookalike
from luna_pipeline.core.phantom.nodules import Nodule, draw_nodule, draw_ratings
from luna_pipeline.core.phantom.shapes import Point, as_point
from luna_pipeline.core.phantom.thorax import Thorax
from luna_pipeline.core.phantom.vessels import Tree, draw_lung_points

SMALL_FIELD_MM = 80.0
TRIES = 40
WIDE_GAP_MM = 24.0


@dataclass(frozen=True)
class Candidate:
    """A position that the detector proposes; class 1 inside an annotated nodule."""

    center_xyz: Point
    is_nodule: bool


@dataclass(frozen=True)
class ExcludedFinding:
    """A finding that counts neither as nodule nor as error; diameter -1 where readers measured none."""

    center_xyz: Point
    diameter_mm: float


@dataclass(frozen=True)
class Findings:
    """All findings of a series.

    Attributes:
        nodules: Annotated nodules, 3 mm and more.
        ratings: Malignancy ratings of each nodule.
        minor_nodules: Painted nodules that too few readers marked, or below 3 mm.
        lookalikes: Findings that are no nodules.
        candidates: Positions that the detector proposes.
        excluded: Rows of the table of irrelevant findings.
    """

    nodules: tuple[Nodule, ...]
    ratings: tuple[tuple[int, ...], ...]
    minor_nodules: tuple[Nodule, ...]
    lookalikes: tuple[LookAlike, ...]
    candidates: tuple[Candidate, ...]
    excluded: tuple[ExcludedFinding, ...]

    @property
    def all_nodules(self) -> tuple[Nodule, ...]:
        """Everything that is painted as a nodule."""
        return self.nodules + self.minor_nodules

    def moved_by(self, shift_xyz: Point) -> "Findings":
        """Return the same findings in a world whose origin lies elsewhere."""

        def move(point: Point) -> Point:
            return as_point(np.add(point, shift_xyz))

        return replace(
            self,
            nodules=tuple(nodule.moved_to(move(nodule.center_xyz)) for nodule in self.nodules),
            minor_nodules=tuple(nodule.moved_to(move(nodule.center_xyz)) for nodule in self.minor_nodules),
            lookalikes=tuple(replace(item, center_xyz=move(item.center_xyz)) for item in self.lookalikes),
            candidates=tuple(replace(item, center_xyz=move(item.center_xyz)) for item in self.candidates),
            excluded=tuple(replace(item, center_xyz=move(item.center_xyz)) for item in self.excluded),
        )


def draw_findings(
    rng: np.random.Generator, thorax: Thorax, *, vessels: list[Tree], grid: VoxelGrid, has_nodules: bool
) -> Findings:
    """Draw all findings of a series; ``grid`` has its origin in the middle of the field of view, as the thorax has."""
    floor = _Floor(grid)
    num_nodules = 1 + int(rng.poisson(2.8)) if has_nodules else 0
    nodules = _place_nodules(rng, thorax, vessels, floor, num_nodules)
    minor = _place_minor_nodules(rng, thorax, floor)
    lookalikes = _place_lookalikes(rng, thorax, vessels, floor, nodules)
    candidates = _detect(rng, nodules, lookalikes, grid)
    return Findings(
        nodules=tuple(nodules),
        ratings=tuple(tuple(draw_ratings(rng, nodule)) for nodule in nodules),
        minor_nodules=tuple(minor),
        lookalikes=tuple(lookalikes),
        candidates=tuple(candidates),
        excluded=tuple(_draw_excluded(rng, minor, lookalikes)),
    )


def draw_jitter(rng: np.random.Generator, radius_mm: float) -> NDArray[np.float64]:
    """Draw a detector's offset, mm, shape (3,), from a finding's centre; the same for nodules and look-alikes."""
    direction = rng.normal(size=3)
    return np.asarray(direction / np.linalg.norm(direction) * radius_mm * 0.95 * rng.beta(2, 3))


class _Floor:
    """Keeps findings apart and inside the CT."""

    def __init__(self, grid: VoxelGrid) -> None:
        self._grid = grid
        self._centers = np.empty((0, 3))
        self._radii = np.empty(0)

    def is_free(self, center_xyz: Point, radius_mm: float, gap_mm: float = 2.0) -> bool:
        voxels = self._grid.nearest_voxel(np.asarray(center_xyz) + 3.0 * np.array([[1.0], [-1.0]]) * np.ones(3))
        if not self._grid.contains(voxels).all():
            return False
        apart = np.linalg.norm(self._centers - np.asarray(center_xyz), axis=1)
        return bool((apart > self._radii + radius_mm + gap_mm).all())

    def take(self, center_xyz: Point, radius_mm: float) -> None:
        self._centers = np.concatenate([self._centers, [center_xyz]])
        self._radii = np.append(self._radii, radius_mm)


def _place_nodules(
    rng: np.random.Generator, thorax: Thorax, vessels: list[Tree], floor: _Floor, num_nodules: int
) -> list[Nodule]:
    largest_mm = float(np.clip(0.55 * min(thorax.cavity_mm), 5.0, 30.0))
    placed = []
    for _ in range(num_nodules):
        nodule = draw_nodule(rng, largest_mm=largest_mm)
        for _ in range(TRIES):
            center = _draw_place(rng, thorax, vessels, nodule.radius_mm)
            if center is not None and floor.is_free(center, nodule.radius_mm):
                floor.take(center, nodule.radius_mm)
                placed.append(nodule.moved_to(center))
                break
    return placed


def _draw_place(rng: np.random.Generator, thorax: Thorax, vessels: list[Tree], radius_mm: float) -> Point | None:
    """Draw a nodule's centre: free in the lung, at the pleura, or on a vessel."""
    where = rng.random()
    if where < 0.25:
        tree = vessels[int(rng.integers(len(vessels)))]
        row = int(rng.integers(1, len(tree.parents)))
        point = tree.points_xyz[row] + rng.normal(0, 0.3 * radius_mm, size=3)
        return as_point(point) if thorax.lung_distance(point) < -min(radius_mm, 4.0) else None
    points = draw_lung_points(rng, thorax, 1, depth_mm=1.0)
    if not len(points):
        return None
    depth_mm = -float(thorax.lung_distance(points[0]))
    if where < 0.4:
        wanted_mm = radius_mm * rng.uniform(0.35, 0.9)
        point = points[0] + thorax.lung_normal(points[0]) * (depth_mm - wanted_mm)
        return as_point(point) if -thorax.lung_distance(point) > 0.25 * radius_mm else None
    return as_point(points[0]) if depth_mm > radius_mm + 1 else None


def _place_minor_nodules(rng: np.random.Generator, thorax: Thorax, floor: _Floor) -> list[Nodule]:
    placed = []
    for _ in range(int(rng.poisson(0.6))):
        size_mm = float(rng.uniform(1.6, 2.9) if rng.random() < 0.7 else rng.uniform(3.5, 7.0))
        nodule = draw_nodule(rng, diameter_mm=size_mm)
        points = draw_lung_points(rng, thorax, 1, depth_mm=3.0)
        if len(points) and floor.is_free(as_point(points[0]), nodule.radius_mm, gap_mm=6.0):
            floor.take(as_point(points[0]), nodule.radius_mm)
            placed.append(nodule.moved_to(as_point(points[0])))
    return placed


def _place_lookalikes(
    rng: np.random.Generator, thorax: Thorax, vessels: list[Tree], floor: _Floor, nodules: list[Nodule]
) -> list[LookAlike]:
    # A larger field holds more vessels that a detector takes for nodules.
    field_mm = float(np.prod(np.asarray(thorax.half_mm) * 2) ** (1 / 3))
    placed = []
    for _ in range(int(rng.poisson(9 * max(1.0, field_mm / SMALL_FIELD_MM)))):
        # In a small chest a cutout shows half a lung: it should rarely show a nodule next to a look-alike.
        for gap_mm in np.linspace(WIDE_GAP_MM, 2.0, TRIES):
            points = draw_lung_points(rng, thorax, 1, depth_mm=1.0)
            if not len(points):
                break
            item = draw_lookalike(rng, thorax, vessels=vessels, lung_xyz=as_point(points[0]))
            is_in_lung = thorax.lung_distance(item.center_xyz) < -1.0
            is_apart = floor.is_free(item.center_xyz, item.radius_mm)
            if is_in_lung and is_apart and _gap_mm(item.center_xyz, nodules) > gap_mm:
                floor.take(item.center_xyz, item.radius_mm)
                placed.append(item)
                break
    return placed


def _gap_mm(center_xyz: Point, nodules: list[Nodule]) -> float:
    """Distance to the nearest nodule's surface."""
    gaps = [float(np.linalg.norm(np.subtract(center_xyz, n.center_xyz))) - n.radius_mm for n in nodules]
    return min(gaps, default=np.inf)


def _detect(
    rng: np.random.Generator, nodules: list[Nodule], lookalikes: list[LookAlike], grid: VoxelGrid
) -> list[Candidate]:
    """Propose candidates: several on one finding, none on some nodules."""
    found = []
    for nodule in nodules:
        num_hits = 0 if rng.random() < 0.06 else 1 + int(rng.poisson(0.7))
        found += [(nodule.center_xyz, nodule.radius_mm, True)] * num_hits
    for item in lookalikes:
        found += [(item.center_xyz, item.radius_mm, False)] * (1 + int(rng.random() < 0.15))
    candidates = []
    for center, radius_mm, is_nodule in found:
        point = np.asarray(center) + draw_jitter(rng, radius_mm)
        if grid.contains(grid.nearest_voxel(point)):
            candidates.append(Candidate(as_point(point), is_nodule))
    order = rng.permutation(len(candidates))
    return [candidates[place] for place in order]


def _draw_excluded(rng: np.random.Generator, minor: list[Nodule], lookalikes: list[LookAlike]) -> list[ExcludedFinding]:
    # Readers measure only findings that at least one of them takes for a nodule of 3 mm or more.
    rows = [ExcludedFinding(item.center_xyz, item.diameter_mm if item.diameter_mm >= 3 else -1) for item in minor]
    for item in lookalikes:
        if rng.random() < 0.6:
            point = np.asarray(item.center_xyz) + draw_jitter(rng, item.radius_mm)
            rows.append(ExcludedFinding(as_point(point), -1))
    return rows
