"""The phantom's chest in HU: body wall, lungs, mediastinum, spine and ribs, scaled to the field of view."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from luna_pipeline.core.phantom.shapes import Barrel, Canvas, Capsule, Ellipsoid, Point

NUM_RIBS = 9
NUM_VERTEBRAE = 9


@dataclass(frozen=True)
class Thorax:
    """A drawn chest; lengths in mm, the middle of the field of view is (0, 0, 0), axes LPS.

    Attributes:
        half_mm: Half the field of view along x, y, z.
        body_mm: Half-axes of the body in a slice (x, y).
        cavity_mm: Half-axes of the chest cavity (x, y, z).
        cavity_y_mm: How far the cavity's middle lies in front of (negative) the field's middle.
        fat_mm: Thickness of the fat below the skin.
        mediastinum_mm: Half-axes of the mediastinum (x, y).
        heart_part: Size of the heart as a part of the cavity's half-axes.
        dome_part: Height of the right and the left diaphragm as a part of the cavity's half-height.
        lung_hu: HU of lung tissue.
        blood_hu: HU of vessels; above 100 in a scan with contrast medium.
        rib_tilt: Descent of a rib from back to front, as a part of the cavity's half-height.
        table_y_mm: Position of the table.
    """

    half_mm: Point
    body_mm: tuple[float, float]
    cavity_mm: Point
    cavity_y_mm: float
    fat_mm: float
    mediastinum_mm: tuple[float, float]
    heart_part: float
    dome_part: tuple[float, float]
    lung_hu: float
    blood_hu: float
    rib_tilt: float
    table_y_mm: float

    @property
    def cavity(self) -> Barrel:
        """The space of both lungs and the mediastinum."""
        return Barrel((0.0, self.cavity_y_mm, 0.0), self.cavity_mm)

    @property
    def mediastinum(self) -> Ellipsoid:
        """The mediastinum, from the breastbone to the spine."""
        x, y = self.mediastinum_mm
        return Ellipsoid((0.0, self.cavity_y_mm, 0.0), (x, y, 2.5 * self.cavity_mm[2]))

    @property
    def heart(self) -> Ellipsoid:
        """The heart: low, in front and to the left."""
        x, y, z = self.cavity_mm
        part = self.heart_part
        center = (0.16 * x, self.cavity_y_mm - 0.32 * y, -0.42 * z)
        return Ellipsoid(center, (part * 1.05 * x, part * 1.25 * y, part * 1.1 * z))

    @property
    def domes(self) -> tuple[Ellipsoid, Ellipsoid]:
        """Both halves of the diaphragm with the organs below: right (liver), left."""
        x, y, z = self.cavity_mm
        right, left = (
            Ellipsoid((side * 0.5 * x, self.cavity_y_mm, -1.02 * z), (0.75 * x, 1.3 * y, part * z))
            for side, part in zip((-1, 1), self.dome_part, strict=True)
        )
        return right, left

    @property
    def spine_xyz(self) -> Point:
        """Middle of the column of vertebral bodies."""
        return 0.0, self.cavity_y_mm + 0.84 * self.cavity_mm[1], 0.0

    def hilum_xyz(self, side: int) -> Point:
        """Return the hilum, where the vessels enter a lung: ``side`` -1 right, 1 left."""
        return side * 0.9 * self.mediastinum_mm[0], self.cavity_y_mm + 0.08 * self.cavity_mm[1], 0.0

    def lung_distance(self, points_xyz: ArrayLike) -> NDArray[np.float32]:
        """Return the distance of points (..., 3) to the lungs' surface in mm, negative inside a lung."""
        x, y, z = np.moveaxis(np.asarray(points_xyz, dtype=np.float32), -1, 0)
        inside = self.cavity.distance(x, y, z)
        spine = Capsule(*_column(self), 0.17 * self.cavity_mm[0], 0.17 * self.cavity_mm[0])
        for organ in (self.mediastinum, self.heart, *self.domes, spine):
            inside = np.maximum(inside, -organ.distance(x, y, z))
        return inside

    def lung_normal(self, point_xyz: ArrayLike) -> NDArray[np.float64]:
        """Return the unit vector towards the nearest point of the lung's surface, from the inside."""
        steps = np.eye(3) * 0.5
        point = np.asarray(point_xyz, dtype=np.float64)
        slope = (self.lung_distance(point + steps) - self.lung_distance(point - steps)).astype(np.float64)
        return np.asarray(slope / max(float(np.linalg.norm(slope)), 1e-6))


def draw_thorax(rng: np.random.Generator, half_mm: Point) -> Thorax:
    """Draw a chest that fills a field of view of half-lengths ``half_mm`` (x, y, z)."""
    hx, hy, hz = half_mm
    body_x = hx * rng.uniform(0.90, 0.98)
    body_y = min(hy * 0.95, body_x * rng.uniform(0.74, 0.90))
    # A low field of view shows the middle of the chest only.
    cavity_z = max(hz * rng.uniform(0.92, 1.05), 0.7 * body_y)
    # A child-size chest would be all wall: the smaller the field of view, the thinner the wall.
    wall = float(np.interp(hx, (60, 160), (0.10, 0.18)))
    cavity = body_x * (1 - wall * rng.uniform(0.85, 1.1)), body_y * (1 - wall * rng.uniform(1.1, 1.35)), cavity_z
    right_dome = rng.uniform(0.28, 0.42)
    with_contrast = rng.random() < 0.5
    return Thorax(
        half_mm=half_mm,
        body_mm=(body_x, body_y),
        cavity_mm=cavity,
        cavity_y_mm=-rng.uniform(0.02, 0.06) * body_y,
        fat_mm=body_x * wall * rng.uniform(0.2, 0.45),
        mediastinum_mm=(cavity[0] * rng.uniform(0.7, 1.0) * (0.09 + 0.6 * wall), cavity[1] * 1.25),
        heart_part=rng.uniform(0.36, 0.42),
        dome_part=(right_dome, right_dome * rng.uniform(0.75, 0.95)),
        lung_hu=rng.uniform(-890, -800),
        blood_hu=rng.uniform(110, 260) if with_contrast else rng.uniform(30, 55),
        rib_tilt=rng.uniform(0.35, 0.5),
        table_y_mm=body_y * rng.uniform(1.03, 1.1),
    )


def paint_thorax(canvas: Canvas, thorax: Thorax) -> None:
    """Paint the chest without the lungs' vessels and airways."""
    _paint_wall(canvas, thorax)
    canvas.paint(thorax.cavity, thorax.lung_hu)
    _paint_gravity(canvas, thorax)
    canvas.paint(_inside_cavity(thorax, thorax.mediastinum), 20.0, rule="brightest")
    canvas.paint(thorax.heart, 0.3 * thorax.blood_hu + 30.0, rule="brightest")
    for dome, hounsfield in zip(thorax.domes, (65.0, 45.0), strict=True):
        canvas.paint(dome, hounsfield, rule="brightest")
    _paint_great_vessels(canvas, thorax)
    _paint_spine(canvas, thorax)
    _paint_ribs(canvas, thorax)


def _paint_wall(canvas: Canvas, thorax: Thorax) -> None:
    x, y = thorax.body_mm
    tall = 40 * thorax.half_mm[2]
    for inset, hounsfield in ((0.0, 10.0), (0.012 * x, -105.0), (thorax.fat_mm, 45.0)):
        canvas.paint(Ellipsoid((0.0, 0.0, 0.0), (x - inset, y - inset, tall)), hounsfield)
    half_x = thorax.half_mm[0]
    thickness = max(2.0, 0.02 * half_x)
    table = Ellipsoid((0.0, thorax.table_y_mm + thickness, 0.0), (0.8 * half_x, thickness, tall))
    canvas.paint(table, -350.0, rule="brightest")


def _paint_gravity(canvas: Canvas, thorax: Thorax) -> None:
    """Make the dependent (dorsal) part of the lungs denser."""
    x, y, z = thorax.cavity_mm
    for part, hounsfield in ((0.55, 18.0), (0.85, 18.0)):
        center = (0.0, thorax.cavity_y_mm + part * y, 0.0)
        canvas.paint(Barrel(center, (x, 0.6 * y, z)), hounsfield, opacity=0.025)


def _inside_cavity(thorax: Thorax, shape: Ellipsoid) -> Ellipsoid:
    x, _, z = shape.radii_mm
    return Ellipsoid(shape.center_xyz, (x, min(shape.radii_mm[1], 1.1 * thorax.cavity_mm[1]), z))


def _paint_great_vessels(canvas: Canvas, thorax: Thorax) -> None:
    """Paint the aorta (ascending, arch, descending) and the trachea with both main bronchi."""
    x, y, z = thorax.cavity_mm
    middle, wide = thorax.cavity_y_mm, 0.1 * x
    arch = [(-0.02, -0.25, -0.1), (-0.03, -0.22, 0.3), (0.03, -0.1, 0.46), (0.09, 0.25, 0.45), (0.13, 0.5, 0.3)]
    way = [(px * x, middle + py * y, pz * z) for px, py, pz in (*arch, (0.13, 0.62, -1.1))]
    for start, end in pairwise(way):
        canvas.paint(Capsule(start, end, wide, wide), thorax.blood_hu, rule="brightest")
    carina = (0.0, middle + 0.12 * y, 0.16 * z)
    tubes = [((0.0, middle + 0.02 * y, 1.2 * z), carina, 0.065 * x)]
    tubes += [(carina, thorax.hilum_xyz(side), 0.05 * x) for side in (-1, 1)]
    for start, end, radius in tubes:
        canvas.paint(Capsule(start, end, radius * 1.2, radius * 1.1), 10.0, rule="brightest")
    for start, end, radius in tubes:
        canvas.paint(Capsule(start, end, radius, radius * 0.8), -990.0)


def _column(thorax: Thorax) -> tuple[Point, Point]:
    x, y, _ = thorax.spine_xyz
    z = 1.3 * thorax.half_mm[2]
    return (x, y, -z), (x, y, z)


def _paint_spine(canvas: Canvas, thorax: Thorax) -> None:
    x, y, _ = thorax.spine_xyz
    wide = 0.15 * thorax.cavity_mm[0]
    canvas.paint(Capsule(*_column(thorax), 1.05 * wide, 1.05 * wide), 70.0)
    step = 2.2 * thorax.half_mm[2] / NUM_VERTEBRAE
    for number in range(NUM_VERTEBRAE):
        z = (number - (NUM_VERTEBRAE - 1) / 2) * step
        for radius, hounsfield in ((1.0, 420.0), (0.88, 180.0)):
            size = (radius * wide * 1.1, radius * wide * 0.9, radius * 0.44 * step)
            canvas.paint(Barrel((x, y, z), size), hounsfield)
        # The process ends below the skin, however thin the wall.
        tip = min(y + 2.6 * wide, thorax.body_mm[1] - thorax.fat_mm - 0.3 * wide)
        start = (x, min(y + 1.5 * wide, tip), z)
        canvas.paint(Capsule(start, (x, tip, z - 0.3 * step), 0.22 * wide, 0.3 * wide), 320.0)
        for side in (-1, 1):
            wing = (side * 1.5 * wide, y + 1.5 * wide, z)
            canvas.paint(Capsule((side * 0.6 * wide, y + wide, z), wing, 0.3 * wide, 0.25 * wide), 330.0)
    canal = Ellipsoid((x, y + 1.25 * wide, 0.0), (0.42 * wide, 0.38 * wide, 40 * thorax.half_mm[2]))
    canvas.paint(canal, 25.0)


def _paint_ribs(canvas: Canvas, thorax: Thorax) -> None:
    """Paint ribs, which descend from the spine to the front, and the breastbone."""
    x, y, z = thorax.cavity_mm
    middle, radius = thorax.cavity_y_mm, 0.036 * x
    for side in (-1, 1):
        for number in range(-1, NUM_RIBS + 1):
            top = (2 * number / (NUM_RIBS - 1) - 0.75) * z
            _paint_rib(canvas, thorax, side=side, top_mm=top, radius_mm=radius)
    front = middle - 1.06 * y
    for part, hounsfield in ((1.0, 330.0), (0.7, 130.0)):
        bone = Ellipsoid((0.0, front, 0.25 * z), (part * 0.13 * x, part * 0.06 * x, 0.85 * z))
        canvas.paint(bone, hounsfield)


def _paint_rib(canvas: Canvas, thorax: Thorax, *, side: int, top_mm: float, radius_mm: float) -> None:
    x, y, z = thorax.cavity_mm
    angles = np.linspace(0.42, 0.95 * np.pi, 16)
    heights = top_mm - thorax.rib_tilt * z * (1 - np.cos(angles)) / 2
    # The barrel narrows to the apex; the ribs follow it on the outside.
    narrow = np.clip(1 - np.abs(heights / z) ** 4, 0.15, 1) ** 0.25
    xs = side * (x * narrow + 1.15 * radius_mm) * np.sin(angles)
    ys = thorax.cavity_y_mm + (y * narrow + 1.15 * radius_mm) * np.cos(angles)
    points = [(float(a), float(b), float(c)) for a, b, c in zip(xs, ys, heights, strict=True)]
    for part, hounsfield in ((1.0, 380.0), (0.6, 130.0)):
        for start, end in pairwise(points):
            canvas.paint(Capsule(start, end, part * radius_mm, part * radius_mm), hounsfield)
