"""What four made-up readers mark in a phantom: outlines that vary, ratings, small nodules and non-nodules."""

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.phantom.nodules import Nodule, Texture
from luna_pipeline.core.phantom.series import PhantomSeries
from luna_pipeline.core.phantom.shapes import Point
from luna_pipeline.core.sources.lidc_xml import PointMark, SeriesReading
from luna_pipeline.core.sources.reader_marks import Contour, ReaderMark

NUM_READERS = 4
SMALL_MM = 3.0
"""Nodules below this diameter are marked by a point."""

_NUM_RAYS = 48
# Standard deviation of what a reader draws too wide (mm), and how far beyond the border the points lie (pixels).
_READER_MM, _BEYOND_PIXELS = 0.2, 0.75
_RAY_STEP_PIXELS = 0.2
# Texture 1 is non-solid, 3 part-solid, 5 solid; calcification 3 is solid, 6 absent.
_TEXTURE_RATINGS: dict[Texture, tuple[int, int]] = {
    "ground-glass": (1, 6),
    "part-solid": (3, 6),
    "solid": (5, 6),
    "calcified": (5, 3),
}


def draw_readings(series: PhantomSeries) -> SeriesReading:
    """Return what four readers marked in a series, determined by its configuration."""
    config, findings, grid = series.config, series.findings, series.grid
    rng = np.random.default_rng([config.seed, config.number, 20])
    uid = config.series_instance_uid
    nodules: list[ReaderMark] = []
    points: list[PointMark] = []
    for nodule, malignancy in zip(findings.nodules, findings.ratings, strict=True):
        readers = np.sort(rng.permutation(NUM_READERS)[: len(malignancy)])
        for reader, rating in zip(readers.tolist(), malignancy, strict=True):
            nodules.append(_mark(rng, uid, reader, nodule, rating, grid, number=len(nodules)))
    for nodule in findings.minor_nodules:
        for reader in np.sort(rng.permutation(NUM_READERS)[: int(rng.integers(1, 3))]).tolist():
            if nodule.diameter_mm < SMALL_MM:
                points.append(_point(nodule.center_xyz, "small nodule", reader, grid))
            else:
                nodules.append(_mark(rng, uid, reader, nodule, 2, grid, number=len(nodules)))
    for finding in findings.excluded[len(findings.minor_nodules) :]:
        points.append(_point(finding.center_xyz, "non-nodule", int(rng.integers(NUM_READERS)), grid))
    return SeriesReading(uid, NUM_READERS, tuple(nodules), tuple(points), ())


def draw_outlines(rng: np.random.Generator, nodule: Nodule, grid: VoxelGrid) -> tuple[Contour, ...]:
    """Draw a reader's outlines of a nodule, one in each slice that it reaches, at least one."""
    wider_mm = float(rng.normal(0, _READER_MM))
    middle, reach = grid.world_to_voxel(nodule.center_xyz), np.max(nodule.body.reach_mm) / grid.spacing_irc + 1
    first, last = (int(np.clip(round(middle[0] + side * reach[0]), 0, grid.size_irc[0] - 1)) for side in (-1, 1))
    outlines = []
    for index in range(first, last + 1):
        points = _outline(nodule, grid, index, middle_rc=middle[1:], reach_rc=reach[1:], wider_mm=wider_mm)
        if points is not None:
            outlines.append(_contour(index, points, grid))
    if not outlines:
        # Thinner than the slices' distance: a ring around the nearest voxel.
        index, row, col = (int(value) for value in grid.nearest_voxel(nodule.center_xyz))
        ring = np.array([(-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1)]) + np.array((col, row))
        outlines.append(_contour(index, ring[:, ::-1], grid))
    return tuple(sorted(outlines, key=lambda contour: contour.z_mm))


def _outline(
    nodule: Nodule,
    grid: VoxelGrid,
    index: int,
    *,
    middle_rc: NDArray[np.float64],
    reach_rc: NDArray[np.float64],
    wider_mm: float,
) -> NDArray[np.int64] | None:
    """Return an outline (N, 2), row and column, beyond the nodule's border in a slice; None where it is not cut."""
    low, high = np.floor(middle_rc - reach_rc).astype(int), np.ceil(middle_rc + reach_rc).astype(int)
    rows, cols = np.meshgrid(np.arange(low[0], high[0] + 1), np.arange(low[1], high[1] + 1), indexing="ij")
    pixels = np.stack([rows, cols], axis=-1).reshape(-1, 2)
    inside = pixels[_distance_mm(nodule, grid, index, pixels) <= wider_mm]
    if not len(inside):
        return None
    # Rays from the voxel nearest to the middle of those inside, which are not always around their middle.
    start = inside[np.linalg.norm(inside - inside.mean(axis=0), axis=1).argmin()]
    angles = np.arange(_NUM_RAYS) * 2 * np.pi / _NUM_RAYS
    rays = np.stack([np.sin(angles), np.cos(angles)], axis=1)
    steps = np.arange(0, float(np.linalg.norm(high - low)), _RAY_STEP_PIXELS)
    along = start + rays[:, None] * steps[:, None]
    is_out = _distance_mm(nodule, grid, index, along) > wider_mm
    ends = start + rays * (steps[is_out.argmax(axis=1)] + _BEYOND_PIXELS)[:, None]
    points = np.rint(ends).astype(np.int64)
    return np.asarray(points[(points != np.roll(points, 1, axis=0)).any(axis=1)])


def _distance_mm(nodule: Nodule, grid: VoxelGrid, index: int, pixels_rc: NDArray[np.generic]) -> NDArray[np.float32]:
    voxels = np.concatenate([np.full((*pixels_rc.shape[:-1], 1), index), pixels_rc], axis=-1)
    x_mm, y_mm, z_mm = np.moveaxis(grid.voxel_to_world(voxels).astype(np.float32), -1, 0)
    return nodule.body.distance(x_mm, y_mm, z_mm)


def _contour(index: int, points_rc: NDArray[np.int64], grid: VoxelGrid) -> Contour:
    return Contour(_z_mm(index, grid), True, points_rc[:, ::-1])


def _z_mm(index: int, grid: VoxelGrid) -> float:
    """Z of a slice's first voxel, as in DICOM (0020,0032)."""
    return float(grid.voxel_to_world((index, 0, 0))[2])


def _point(center_xyz: Point, kind: str, reader: int, grid: VoxelGrid) -> PointMark:
    index, row, col = (int(value) for value in grid.nearest_voxel(center_xyz))
    return PointMark(kind, reader, _z_mm(index, grid), (col, row))  # type: ignore[arg-type]


def _mark(
    rng: np.random.Generator, uid: str, reader: int, nodule: Nodule, malignancy: int, grid: VoxelGrid, *, number: int
) -> ReaderMark:
    texture, calcification = _TEXTURE_RATINGS[nodule.texture]
    spiculation = int(np.clip(round(1 + 4 * nodule.spiculation + rng.normal(0, 0.3)), 1, 5))
    ratings = {
        "subtlety": int(np.clip(round(nodule.diameter_mm / 4 + rng.normal(1, 0.5)), 1, 5)),
        "internal_structure": 1,
        "calcification": calcification,
        "sphericity": int(rng.integers(3, 6)),
        "margin": 6 - spiculation,
        "lobulation": min(5, 1 + len(nodule.body.lobes)),
        "spiculation": spiculation,
        # A reader is at times off by one towards the middle.
        "texture": texture + int(rng.random() < 0.1) * int(np.sign(3 - texture)),
        "malignancy": malignancy,
    }
    return ReaderMark(uid, str(number), reader, draw_outlines(rng, nodule, grid), ratings)
