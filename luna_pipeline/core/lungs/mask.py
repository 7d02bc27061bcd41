"""Lungs of a CT by thresholds and components, or the reason why there are none."""

from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.ct.orientation import AxialView
from luna_pipeline.core.lungs.airways import find_airways
from luna_pipeline.core.lungs.coarse import CoarseGrid
from luna_pipeline.core.lungs.morphology import closed, components, grown, lateral_border, without_holes

AIR_HU = -400
"""Upper bound of aerated lung: half-way between lung tissue (-850 HU) and soft tissue (50 HU)."""

OUTSIDE_HU = -940
"""Air beside the body is darker, also where a blanket or the table's foam lies; lungs cut by the image's border are
not."""

GAS_HU = -965
"""Median of gas in stomach, bowel or sinuses (-1000 HU) is lower, that of an emphysematous lung higher."""

CLOSING_MM = 12.0
"""Radius of the closing that takes nodules at the pleura and vessels into the lungs."""

MIN_SLICES = 3
MIN_BODY_SHARE = 0.025
"""Least volume of lungs as a share of the body within the same slices; a chest has 0.1 to 0.4, bowel gas 0.01."""

# A part is kept from this share of the largest part's volume on: a lobe that a tumour cuts off.
_PART_SHARE = 0.02
# Air beside the body lies along the image's border; a lung that a small field of view cuts touches it with less.
_BORDER_SHARE = 0.05
_HOLE_SHARE = 0.02
_NUM_EROSIONS = 2
_CLOSING_SHARE = 0.15


class NoLungsError(ValueError):
    """A CT shows no lungs; the message is one line and says what was found instead."""


@dataclass(frozen=True, eq=False, slots=True)
class SearchRegion:
    """Voxels to be searched: ``mask``, bool (I, R, C), and its tight ``box``, three slices."""

    mask: NDArray[np.bool_]
    box: tuple[slice, slice, slice]


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Lungs:
    """The lungs of a CT, without trachea and main bronchi, with their vessels and nodules.

    Attributes:
        mask: Voxels of the lungs, bool (I, R, C), in the CT's own axes.
        grid: Grid of the CT.
        volume_ml: Their volume.
        box: Tight box around ``mask``: slices along index, row, col.
        notes: What a reader should know: a trachea that was not found, lungs that the CT cuts.
    """

    mask: NDArray[np.bool_]
    grid: VoxelGrid
    volume_ml: float
    box: tuple[slice, slice, slice]
    notes: tuple[str, ...] = ()

    def searched(self, margin_mm: float = 0.0) -> SearchRegion:
        """Return the lungs with a margin around them.

        Args:
            margin_mm: Width of the margin, exact to a block of the coarse grid (about 2 mm); 0 for none.
        """
        if margin_mm <= 0:
            return SearchRegion(self.mask, self.box)
        view = AxialView(self.grid)
        coarse = CoarseGrid(view.grid)
        blocks = coarse.shares(view.of(self.mask)) >= 0.5
        mask = view.restored(coarse.enlarged(grown(blocks, margin_mm, coarse.spacing_irc))) | self.mask
        return SearchRegion(mask, tight_box(mask))


def find_lungs(hounsfield: NDArray[np.int16], grid: VoxelGrid) -> Lungs:
    """Return the lungs of a CT of any orientation.

    Blocks of about 2 mm are averaged. Air (below -400 HU) that no slice connects with the image's border is kept,
    trachea and main bronchi and gas of stomach and bowel are removed, and the rest is closed with a ball of 12 mm.
    Lengths follow the body's width where it is small.

    Args:
        hounsfield: HU, (I, R, C); padding below -1000 is allowed.
        grid: Its grid.

    Raises:
        NoLungsError: If the CT has too few slices or shows no lungs.
    """
    view = AxialView(grid)
    coarse = CoarseGrid(view.grid)
    if view.grid.size_irc[0] < MIN_SLICES:
        _refuse(f"Lungs need a CT of {MIN_SLICES} axial slices or more, got {view.grid.size_irc[0]}")
    hu = coarse.averaged_hu(view.of(hounsfield))
    found, notes = _lungs_of(hu, coarse)
    mask = view.restored(coarse.enlarged(found))
    volume_ml = float(np.count_nonzero(mask)) * float(grid.spacing_irc.prod()) / 1000
    return Lungs(mask=mask, grid=grid, volume_ml=volume_ml, box=tight_box(mask), notes=notes)


def tight_box(mask: NDArray[np.bool_]) -> tuple[slice, slice, slice]:
    """Return the smallest box, slices along index, row, col, that holds a mask which is not empty."""
    held = (np.flatnonzero(mask.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1)))
    index, row, col = (slice(int(places[0]), int(places[-1]) + 1) for places in held)
    return index, row, col


def _lungs_of(hu: NDArray[np.float32], coarse: CoarseGrid) -> tuple[NDArray[np.bool_], tuple[str, ...]]:
    """Return the lungs' blocks and notes from the mean HU (I, R, C) of all blocks."""
    smooth_hu = ndimage.gaussian_filter(hu, 0.6)
    body = _body(hu, smooth_hu)
    air = body & (hu < AIR_HU)
    area = float(np.median(body.sum(axis=(1, 2))))
    if area == 0 or not air.any():
        what = "only air" if area == 0 else f"no air within the body (HU from {hu.min():.0f} to {hu.max():.0f})"
        _refuse(f"A CT must show lungs, got {what}")
    area_mm2 = area * float(coarse.spacing_irc[1] * coarse.spacing_irc[2])
    airways = find_airways(hu, smooth_hu, air, coarse.spacing_irc, area_mm2)
    parts = _Parts.of(air & ~airways, smooth_hu)
    found = parts.lungs
    share = found.sum() / max(1, body[found.any(axis=(1, 2))].sum())
    if share < MIN_BODY_SHARE:
        _refuse(f"A CT must show lungs, got {_described(parts, coarse, share)}")
    reach_mm = min(CLOSING_MM, _CLOSING_SHARE * float(np.sqrt(area_mm2)))
    filled = without_holes(closed(found, reach_mm, coarse.spacing_irc) & body, _HOLE_SHARE * area)
    notes = () if airways.any() else ("The trachea was not found: the lungs' mask may hold it.",)
    return filled & ~airways, notes


def _body(hu: NDArray[np.float32], smooth_hu: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return the body with the air in it, without the table; empty where there is only air.

    Air beside the body is found slice by slice, so that an open mouth does not connect it with the lungs.
    """
    air = hu < AIR_HU
    sections, counts = components(air, is_in_plane=True)
    is_outside = np.zeros(len(counts), dtype=np.bool_)
    is_outside[sections[lateral_border(hu.shape) & air & (smooth_hu < OUTSIDE_HU)]] = True
    is_outside[0] = False
    inner = ~is_outside[sections]
    # A table that touches the skin is cut off by an erosion; what it takes of the body is grown again.
    eroded = ndimage.binary_erosion(inner, iterations=_NUM_EROSIONS, border_value=1)
    numbers, counts = components(eroded)
    if not counts.any():
        return eroded
    return np.asarray(ndimage.binary_dilation(numbers == counts.argmax(), iterations=_NUM_EROSIONS, mask=inner))


@dataclass(frozen=True, eq=False)
class _Parts:
    """Components of the air within the body: numbers from 1, voxels and median HU inside of each."""

    numbers: NDArray[np.signedinteger]
    counts: NDArray[np.intp]
    median_hu: NDArray[np.float64]
    is_lung: NDArray[np.bool_]

    @classmethod
    def of(cls, air: NDArray[np.bool_], smooth_hu: NDArray[np.float32]) -> "_Parts":
        numbers, counts = components(air)
        # At the surface, partial volume makes gas look like lung.
        core = np.where(ndimage.binary_erosion(air, border_value=1), numbers, 0)
        has_core = np.bincount(core.ravel(), minlength=len(counts)) > 0
        inside = np.where(has_core[numbers], core, numbers)
        median_hu = np.asarray(ndimage.median(smooth_hu, inside, np.arange(len(counts))), dtype=np.float64)
        at_border = np.bincount(numbers[lateral_border(air.shape)], minlength=len(counts))
        is_lung = (counts > 0) & (median_hu > GAS_HU) & (at_border <= _BORDER_SHARE * counts)
        largest = counts[is_lung].max(initial=0)
        return cls(numbers, counts, median_hu, is_lung & (counts >= _PART_SHARE * largest))

    @property
    def lungs(self) -> NDArray[np.bool_]:
        return np.asarray(self.is_lung[self.numbers])


def _described(parts: _Parts, coarse: CoarseGrid, share: float) -> str:
    """Return in words the largest part of air that was found instead of lungs."""
    if not parts.counts.any():
        return "airways only"
    largest = int(parts.counts.argmax())
    blocks = np.asarray(ndimage.center_of_mass(parts.numbers == largest))
    x, y, z = coarse.fine.voxel_to_world(coarse.to_fine(blocks))
    lungs_ml = float(parts.lungs.sum()) * coarse.voxel_ml
    volume_ml = float(parts.counts[largest]) * coarse.voxel_ml
    return (
        f"{lungs_ml:.1f} ml that could be lung, {share:.1%} of the body in those slices (at least "
        f"{MIN_BODY_SHARE:.1%}); the largest part of air has {volume_ml:.1f} ml, a median of "
        f"{parts.median_hu[largest]:.0f} HU and its centre at ({x:.0f}, {y:.0f}, {z:.0f}) mm"
    )


def _refuse(rule: str) -> NoReturn:
    raise NoLungsError(f"{rule}. Diagnose a chest CT.")
