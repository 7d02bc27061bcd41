"""Nodules of the phantom: size, texture, margin, position, and the readers' malignancy ratings."""

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args

import numpy as np

from luna_pipeline.core.phantom.shapes import Canvas, Capsule, Ellipsoid, Floats, Point, as_point

Texture: TypeAlias = Literal["solid", "part-solid", "ground-glass", "calcified"]
TEXTURES: tuple[Texture, ...] = get_args(Texture)
TEXTURE_SHARES = (0.38, 0.24, 0.36, 0.02)


@dataclass(frozen=True)
class LobedBall(Ellipsoid):
    """An ellipsoid with bumps, a direction and a relative height each: the body of a nodule."""

    lobes: tuple[tuple[Point, float], ...] = ()

    @property
    def reach_mm(self) -> Point:
        """Half the bounding box along x, y, z."""
        reach = max(self.radii_mm) * (1 + sum(height for _, height in self.lobes))
        return reach, reach, reach

    def distance(self, x_mm: Floats, y_mm: Floats, z_mm: Floats) -> Floats:
        """Distance to the surface in mm, negative inside."""
        plain = super().distance(x_mm, y_mm, z_mm)
        if not self.lobes:
            return plain
        dx, dy, dz = (a - np.float32(c) for a, c in zip((x_mm, y_mm, z_mm), self.center_xyz, strict=True))
        length = np.sqrt(dx * dx + dy * dy + dz * dz) + np.float32(1e-3)
        radius = min(self.radii_mm)
        for (lx, ly, lz), height in self.lobes:
            facing = np.maximum((dx * lx + dy * ly + dz * lz) / length, 0)
            plain = plain - np.float32(height * radius) * facing.astype(np.float32) ** 4
        return np.asarray(plain, np.float32)


@dataclass(frozen=True)
class Nodule:
    """A drawn nodule.

    Attributes:
        body: Its shape; the centre is the annotation's.
        diameter_mm: Mean diameter.
        texture: One of ``TEXTURES``.
        spiculation: 0 smooth to 1 strongly spiculated.
        hounsfield: HU of the whole, or of the halo of a part-solid nodule.
        core_part: Radius of the solid core as a part of the whole, 0 where there is none.
        spikes: Direction and length (in radii) of each spicule.
    """

    body: LobedBall
    diameter_mm: float
    texture: Texture
    spiculation: float
    hounsfield: float
    core_part: float
    spikes: tuple[tuple[Point, float], ...]

    @property
    def center_xyz(self) -> Point:
        """Position of the annotation, mm."""
        return self.body.center_xyz

    @property
    def radius_mm(self) -> float:
        """Half the diameter."""
        return self.diameter_mm / 2

    @property
    def reach_xyz(self) -> Point:
        """Half the box around it along x, y, z, mm."""
        return Ellipsoid(self.body.center_xyz, self.body.radii_mm, self.body.axes).reach_mm

    def moved_to(self, center_xyz: Point) -> "Nodule":
        """Return the same nodule at another place."""
        return replace(self, body=replace(self.body, center_xyz=center_xyz))


def draw_nodule(rng: np.random.Generator, *, diameter_mm: float | None = None, largest_mm: float = 30.0) -> Nodule:
    """Draw a nodule at (0, 0, 0); without a diameter one from 3 mm to ``largest_mm``, most of them small."""
    if diameter_mm is None:
        # A little larger than LUNA16's, whose median is 6.4 mm: a demo has minutes to learn, not days.
        diameter_mm = float(3.0 + rng.lognormal(np.log(7.5), 0.45))
        diameter_mm = diameter_mm if diameter_mm <= largest_mm else float(rng.uniform(3.0, largest_mm))
    texture = TEXTURES[int(rng.choice(len(TEXTURES), p=TEXTURE_SHARES))]
    spiculation = float(rng.beta(0.7, 1.6)) if texture != "calcified" else 0.0
    ratio = rng.uniform(0.8, 1.2, size=3)
    radii = diameter_mm / 2 * ratio / np.prod(ratio) ** (1 / 3)
    lobes = tuple((_unit(rng), float(rng.uniform(0.05, 0.3))) for _ in range(int(rng.integers(0, 4))))
    spikes = tuple((_unit(rng), float(rng.uniform(1.4, 1.7 + spiculation))) for _ in range(round(14 * spiculation)))
    return Nodule(
        body=LobedBall((0.0, 0.0, 0.0), as_point(radii), random_axes(rng), lobes),
        diameter_mm=diameter_mm,
        texture=texture,
        spiculation=spiculation,
        hounsfield=_draw_hounsfield(rng, texture),
        core_part=float(rng.uniform(0.35, 0.65)) if texture == "part-solid" else 0.0,
        spikes=spikes,
    )


def paint_nodule(canvas: Canvas, nodule: Nodule) -> None:
    """Paint a nodule; no voxel becomes darker."""
    center, radius = np.asarray(nodule.center_xyz), nodule.radius_mm
    for direction, length in nodule.spikes:
        tip = center + np.asarray(direction) * radius * length
        spike = Capsule(nodule.center_xyz, as_point(tip), min(1.2, 0.4 * radius), 0.2)
        canvas.paint(spike, min(nodule.hounsfield, -150.0), rule="brightest", opacity=0.8)
    canvas.paint(nodule.body, nodule.hounsfield, rule="brightest")
    if nodule.core_part:
        small = as_point(np.asarray(nodule.body.radii_mm) * nodule.core_part)
        canvas.paint(replace(nodule.body, radii_mm=small), 25.0, rule="brightest")


def draw_ratings(rng: np.random.Generator, nodule: Nodule) -> list[int]:
    """Draw the malignancy ratings (1 to 5) of three or four readers.

    Size, margin and texture raise a common suspicion, calcium lowers it, and each reader's error is independent.
    """
    texture = {"solid": 0.0, "part-solid": 0.7, "ground-glass": 0.1, "calcified": -1.8}[nodule.texture]
    suspicion = 1.5 + 1.5 * np.log2(nodule.diameter_mm / 4.5) * 0.75 + 1.4 * nodule.spiculation + texture
    num_readers = 4 if rng.random() < 0.75 else 3
    ratings = suspicion + rng.normal(0, 0.25) + rng.normal(0, 0.65, size=num_readers)
    return [int(rating) for rating in np.clip(np.round(ratings), 1, 5)]


def random_axes(rng: np.random.Generator) -> tuple[float, ...]:
    """Draw an orthonormal frame, nine numbers row by row."""
    frame, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return tuple(float(value) for value in frame.ravel())


def _draw_hounsfield(rng: np.random.Generator, texture: Texture) -> float:
    low, high = {
        "solid": (-60.0, 70.0),
        "part-solid": (-600.0, -430.0),
        "ground-glass": (-640.0, -430.0),
        "calcified": (150.0, 500.0),
    }[texture]
    return float(rng.uniform(low, high))


def _unit(rng: np.random.Generator) -> Point:
    direction = rng.normal(size=3)
    return as_point(direction / np.linalg.norm(direction))
