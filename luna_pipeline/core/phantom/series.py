"""One series of the synthetic data set: a chest CT with nodules and look-alikes, determined by its seed."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.phantom.findings import Findings, draw_findings
from luna_pipeline.core.phantom.lookalikes import paint_lookalike
from luna_pipeline.core.phantom.nodules import paint_nodule
from luna_pipeline.core.phantom.shapes import Canvas, Floats, Point, as_point
from luna_pipeline.core.phantom.thorax import draw_thorax, paint_thorax
from luna_pipeline.core.phantom.vessels import draw_trees, paint_trees

SLICE_DISTANCES_MM = (0.6, 0.75, 1.0, 1.0, 1.25, 1.25, 1.5, 1.8, 2.0, 2.5)
FULL_SIZE_RC = 512
# Of so many series one is flipped, oblique, without nodules, or padded; each with another remainder.
FLIPPED_EVERY, OBLIQUE_EVERY, EMPTY_EVERY, PADDED_EVERY = 5, 9, 6, 4
PADDING_HU = (-2000, -3024)


def phantom_uid(name: str) -> str:
    """Return a UID, determined by a name, below 2.25, the root for unregistered UIDs."""
    digest = blake2b(f"luna phantom {name}".encode(), digest_size=15).digest()
    return f"2.25.{int.from_bytes(digest, 'big')}"


@dataclass(frozen=True)
class PhantomConfig:
    """Everything that determines a series.

    Attributes:
        seed: Seed of the data set.
        number: Index of the series in the data set, from 0; it determines flipped and oblique axes, scans without
            nodules and padding, so that a small data set has some of each.
        size_irc: Voxels along index, row, col; None for a scan of LUNA16's size.

    Raises:
        ValueError: If the number is negative or a side is too small for a chest.
    """

    seed: int
    number: int
    size_irc: tuple[int, int, int] | None = None

    def __post_init__(self) -> None:
        if self.seed < 0 or self.number < 0:
            msg = f"Seed and number must not be negative, got {self.seed} and {self.number}. Take 0 or more."
            raise ValueError(msg)
        if self.size_irc is not None and (len(self.size_irc) != 3 or min(self.size_irc) < 32):
            raise ValueError(f"Size must be three sides of at least 32 voxels, got {self.size_irc}. Take a larger one.")

    @property
    def padding_hu(self) -> int | None:
        """Value outside the scanner's circle, None where the scan has no such value."""
        turn, rest = divmod(self.number, PADDED_EVERY)
        return PADDING_HU[turn % 2] if rest == 0 else None

    @property
    def series_instance_uid(self) -> str:
        """UID of the series."""
        return phantom_uid(f"{self.seed} {self.number} {self.size_irc}")

    @property
    def patient_id(self) -> str:
        """Synthetic patient; of each four series the last two are one patient's."""
        group, rest = divmod(self.number, 4)
        return f"PHANTOM-{3 * group + min(rest, 2):04d}"


@dataclass(frozen=True, eq=False)
class PhantomSeries:
    """One series: HU of shape (I, R, C) on its grid, and the findings in world mm."""

    config: PhantomConfig
    hounsfield: NDArray[np.int16]
    grid: VoxelGrid
    findings: Findings


def make_series(config: PhantomConfig) -> PhantomSeries:
    """Make one series; equal configurations give equal bytes."""
    rng = np.random.default_rng([config.seed, config.number])
    grid = _draw_grid(rng, config)
    middle_xyz = _middle(grid)
    body_grid = replace(grid, origin_xyz=as_point(np.subtract(grid.origin_xyz, middle_xyz)))
    thorax = draw_thorax(rng, _half_lengths(grid))
    vessels, airways = draw_trees(rng, thorax)
    findings = draw_findings(rng, thorax, vessels=vessels, grid=body_grid, has_nodules=config.number % EMPTY_EVERY != 4)
    canvas = Canvas(body_grid, edge_mm=0.5 + 0.4 * float(np.mean(grid.spacing_mm)))
    paint_thorax(canvas, thorax)
    paint_trees(canvas, thorax, vessels=vessels, airways=airways)
    for lookalike in findings.lookalikes:
        paint_lookalike(canvas, lookalike)
    for nodule in findings.all_nodules:
        paint_nodule(canvas, nodule)
    hounsfield = _scan(rng, canvas.hounsfield, config.padding_hu)
    return PhantomSeries(config, hounsfield, grid, findings.moved_by(middle_xyz))


def _draw_grid(rng: np.random.Generator, config: PhantomConfig) -> VoxelGrid:
    in_plane_mm = round(float(rng.uniform(0.5, 0.9)), 6)
    slice_mm = float(rng.choice(SLICE_DISTANCES_MM))
    extent_mm = float(rng.uniform(270, 330))
    size_irc = config.size_irc or (round(extent_mm / slice_mm), FULL_SIZE_RC, FULL_SIZE_RC)
    grid = VoxelGrid(size_irc, (in_plane_mm, in_plane_mm, slice_mm), (0.0, 0.0, 0.0), _direction(rng, config))
    table_xyz = rng.uniform((-20, -40, -350), (20, 40, 350))
    return replace(grid, origin_xyz=as_point(np.round(table_xyz - np.asarray(_middle(grid)), 6)))


def _direction(rng: np.random.Generator, config: PhantomConfig) -> tuple[float, ...]:
    # LUNA16's flipped series run against x and y; both at once keeps the axes right-handed.
    axes = np.diag([-1.0, -1.0, 1.0]) if config.number % FLIPPED_EVERY == 1 else np.eye(3)
    axis = rng.normal(size=3)
    angle = np.deg2rad(rng.uniform(6, 18)) * rng.choice((-1, 1))
    if config.number % OBLIQUE_EVERY == 5:
        axes = _rotation(axis / np.linalg.norm(axis), float(angle)) @ axes
    return tuple(float(value) for value in axes.ravel())


def _rotation(axis: NDArray[np.float64], angle: float) -> NDArray[np.float64]:
    """Rodrigues' formula."""
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross)


def _middle(grid: VoxelGrid) -> Point:
    return as_point(grid.voxel_to_world((np.asarray(grid.size_irc) - 1) / 2))


def _half_lengths(grid: VoxelGrid) -> Point:
    """Return half the field of view in mm along col, row, index."""
    ends = grid.voxel_to_world(np.diag(grid.size_irc)) - np.asarray(grid.origin_xyz)
    index_mm, row_mm, col_mm = np.linalg.norm(ends, axis=1) / 2
    return float(col_mm), float(row_mm), float(index_mm)


def _scan(rng: np.random.Generator, hounsfield: Floats, padding_hu: int | None) -> NDArray[np.int16]:
    """Turn the painted chest into a scanner's image: blur, correlated noise, whole numbers, padding."""
    blur_voxels, noise_hu = rng.uniform(0.4, 0.7), rng.uniform(18, 45)
    grain_voxels = rng.uniform(0.45, 0.9)
    gaussian_filter(hounsfield, blur_voxels, output=hounsfield, truncate=3.0)
    scanned: NDArray[np.int16] = np.empty(hounsfield.shape, dtype=np.int16)
    for index, noise in enumerate(_noise_slices(rng, hounsfield.shape, grain_voxels)):
        scanned[index] = np.clip(np.rint(hounsfield[index] + np.float32(noise_hu) * noise), -1024, 3071)
    if padding_hu is not None:
        num_rows, num_cols = scanned.shape[1], scanned.shape[2]
        rows, cols = np.indices((num_rows, num_cols))
        middle_row, middle_col, radius = (num_rows - 1) / 2, (num_cols - 1) / 2, min(num_rows, num_cols) / 2
        scanned[:, (rows - middle_row) ** 2 + (cols - middle_col) ** 2 > radius**2] = padding_hu
    return scanned


def _noise_slices(rng: np.random.Generator, shape: tuple[int, ...], grain_voxels: float) -> Iterator[Floats]:
    """Yield noise of standard deviation 1, slice by slice, correlated within and between slices."""
    # A unit impulse shows what the filter leaves of the standard deviation along one axis.
    impulse = np.zeros(33)
    impulse[16] = 1.0
    kept = float((gaussian_filter1d(impulse, grain_voxels, truncate=3.0) ** 2).sum())
    before = np.zeros(shape[1:], np.float32)
    for index in range(shape[0]):
        fresh = rng.standard_normal(shape[1:], dtype=np.float32)
        fresh = gaussian_filter(fresh, grain_voxels, truncate=3.0) / np.float32(kept)
        before = fresh if index == 0 else np.float32(0.35) * before + np.float32(1 - 0.35**2) ** 0.5 * fresh
        yield before
