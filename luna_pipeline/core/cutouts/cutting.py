"""Boxes of voxels around candidates, in HU, clipped to a window."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

try:
    from luna_pipeline.core.cutouts._gather import copy_clipped
except ImportError:  # No compiler when the package was installed: NumPy does the same, in two to three times the time.
    copy_clipped = None  # type: ignore[assignment]

CUTTING_CODE_VERSION = "1"
"""Raised by hand when the code cuts other voxels for the same CT, candidates and parameters."""

AIR_HU = -1000
# Twelve bits with the usual intercept of -1024 go no lower: lower values are padding (-2000, -2048, -3024).
LOWEST_MEASURED_HU = -1024

EdgeRule = Literal["pad", "shift"]
EDGE_RULES: tuple[EdgeRule, ...] = ("pad", "shift")


@dataclass(frozen=True)
class CuttingParameters:
    """Parameters that, with CT and candidate, determine the values of a cutout.

    Attributes:
        chunk_shape_irc: Voxels along index, row and col.
        hu_window: Lowest and highest HU; values outside are clipped. Below -1000 is what scanners write outside their
            field of view, above 1000 metal and dense bone: neither is relevant to a nodule.
        edge_rule: Rule for a box that leaves the CT. ``pad``: the candidate stays in the middle, voxels outside the CT
            have the window's lower end. ``shift``: the box is moved into the CT.
        resampled_spacing_mm: Spacing of the cutout's voxels along x, y, z; the CT is interpolated trilinearly. None:
            the CT's own voxels are cut, and the size of a box in mm depends on the CT's spacing.

    Raises:
        ValueError: If a size or spacing is not positive, the window is empty or does not fit int16, or the rule is
            unknown.

    Source:
        Box, window and ``shift`` are those of "Deep Learning with PyTorch" (Stevens, Antiga, Viehmann),
        chapter 10.
    """

    chunk_shape_irc: tuple[int, int, int] = (32, 48, 48)
    hu_window: tuple[int, int] = (-1000, 1000)
    edge_rule: EdgeRule = "pad"
    resampled_spacing_mm: tuple[float, float, float] | None = None

    def __post_init__(self) -> None:
        shape, window = tuple(map(int, self.chunk_shape_irc)), tuple(map(int, self.hu_window))
        if len(shape) != 3 or min(shape) < 1:
            msg = f"A chunk's shape must be three positive numbers of voxels, got {self.chunk_shape_irc}."
            raise ValueError(f"{msg} Give index, row, col, such as (32, 48, 48).")
        limits = np.iinfo(np.int16)
        if len(window) != 2 or not limits.min <= window[0] < window[1] <= limits.max:
            msg = f"A HU window must be two rising int16 numbers, got {self.hu_window}."
            raise ValueError(f"{msg} Give the lowest and the highest HU, such as (-1000, 1000).")
        if self.edge_rule not in EDGE_RULES:
            msg = f"The edge rule must be one of {EDGE_RULES}, got {self.edge_rule!r}. Choose one of them."
            raise ValueError(msg)
        if self.resampled_spacing_mm is not None:
            spacing_mm = tuple(map(float, self.resampled_spacing_mm))
            if len(spacing_mm) != 3 or not (min(spacing_mm) > 0 and np.isfinite(spacing_mm).all()):
                msg = f"Resampled spacing must be three positive lengths in mm, got {self.resampled_spacing_mm}."
                raise ValueError(f"{msg} Give x, y, z, such as (0.7, 0.7, 1.25), or nothing.")
            object.__setattr__(self, "resampled_spacing_mm", spacing_mm)
        # Lists (from JSON or a configuration) become tuples: hashable, and equal to equal parameters.
        object.__setattr__(self, "chunk_shape_irc", shape)
        object.__setattr__(self, "hu_window", window)

    def as_dict(self) -> dict[str, Any]:
        """Return the parameters as JSON values."""
        spacing_mm = self.resampled_spacing_mm
        return {
            "chunk_shape_irc": list(self.chunk_shape_irc),
            "hu_window": list(self.hu_window),
            "edge_rule": self.edge_rule,
            "resampling": spacing_mm and {"spacing_mm": list(spacing_mm), "interpolation": "trilinear"},
        }

    @property
    def num_chunk_bytes(self) -> int:
        """Bytes of one chunk."""
        return 2 * int(np.prod(self.chunk_shape_irc))


def cut_chunks(
    hounsfield: NDArray[np.int16],
    centers_irc: NDArray[np.integer[Any]],
    parameters: CuttingParameters,
    out: NDArray[np.int16] | None = None,
) -> NDArray[np.int16]:
    """Cut a box around each centre; along an axis of ``size`` voxels it starts at ``center - size // 2``.

    Args:
        hounsfield: CT values in HU, shape (I, R, C); never changed.
        centers_irc: Voxels of the candidates, shape (N, 3), inside the CT.
        parameters: Shape, HU window and edge rule; the boxes are cut in the array's own voxels.
        out: Array for the result, shape (N, *chunk_shape_irc); None for a new one.

    Returns:
        Values in HU within the window, shape (N, *chunk_shape_irc).

    Raises:
        TypeError: If the CT or ``out`` is not int16, or the centres are not whole numbers.
        ValueError: If a shape is wrong, a centre lies outside the CT, or ``shift`` meets a CT thinner than
            the chunk.
    """
    _check_voxels(hounsfield)
    centers = checked_centers(hounsfield.shape, centers_irc)
    out = checked_out(out, (len(centers), *parameters.chunk_shape_irc))
    starts = box_starts(centers, hounsfield.shape, parameters)
    lower_hu, upper_hu = parameters.hu_window
    # If the window starts at -1000, as usual, clipping turns padding into air.
    is_plain = lower_hu >= AIR_HU and hounsfield.flags.c_contiguous and out.flags.c_contiguous
    if copy_clipped is not None and is_plain:
        copy_clipped(hounsfield, hounsfield.shape, starts, out.shape[1:], lower_hu, upper_hu, out)
    else:
        _copy_by_numpy(hounsfield, starts, parameters.hu_window, out)
    return out


def box_starts(
    centers_irc: NDArray[np.int64], ct_shape: tuple[int, ...], parameters: CuttingParameters
) -> NDArray[np.int64]:
    """Return the first voxel of the box around each centre (N, 3); under ``shift`` the boxes lie in the CT.

    Raises:
        ValueError: If ``shift`` meets a CT thinner than the chunk.
    """
    starts = centers_irc - np.asarray(parameters.chunk_shape_irc) // 2
    return _shifted(starts, ct_shape, parameters) if parameters.edge_rule == "shift" else starts


def _copy_by_numpy(
    hounsfield: NDArray[np.int16], starts: NDArray[np.int64], hu_window: tuple[int, int], out: NDArray[np.int16]
) -> None:
    lower_hu, upper_hu = (np.int16(hu) for hu in hu_window)
    first = np.maximum(starts, 0)
    last = np.minimum(starts + out.shape[1:], hounsfield.shape)
    is_inside = (last - first == out.shape[1:]).all(axis=1)
    for chunk, is_whole, start, a, b in zip(out, is_inside, starts, first, last, strict=True):
        target = chunk
        if not is_whole:
            chunk.fill(lower_hu)
            target = chunk[tuple(map(slice, a - start, b - start))]
        box = hounsfield[a[0] : b[0], a[1] : b[1], a[2] : b[2]]
        if lower_hu < AIR_HU:
            box = np.where(box < LOWEST_MEASURED_HU, np.int16(AIR_HU), box)
        np.clip(box, lower_hu, upper_hu, out=target)


def _check_voxels(hounsfield: NDArray[np.int16]) -> None:
    if hounsfield.dtype != np.int16:
        msg = f"A CT must be int16, got {hounsfield.dtype}. Read the CT with read_ct."
        raise TypeError(msg)
    if hounsfield.ndim != 3:
        msg = f"A CT must be (I, R, C), got {hounsfield.shape}. Hand over one CT."
        raise ValueError(msg)


def checked_centers(ct_shape: tuple[int, ...], centers_irc: NDArray[Any]) -> NDArray[np.int64]:
    """Return centres (N, 3) as int64.

    Raises:
        TypeError: If they are not whole numbers.
        ValueError: If their shape is wrong or one lies outside the CT.
    """
    if not np.issubdtype(centers_irc.dtype, np.integer):
        msg = f"Centres must be whole numbers, got {centers_irc.dtype}. Round with VoxelGrid.nearest_voxel."
        raise TypeError(msg)
    if centers_irc.ndim != 2 or centers_irc.shape[1] != 3:
        msg = f"Centres must be (N, 3), got {centers_irc.shape}. Hand over the candidates' voxels."
        raise ValueError(msg)
    is_outside = ((centers_irc < 0) | (centers_irc >= ct_shape)).any(axis=1)
    if is_outside.any():
        row, count = int(is_outside.argmax()), int(is_outside.sum())
        center_irc = tuple(centers_irc[row].tolist())
        msg = (
            f"Each centre must lie in the CT of shape {ct_shape}, got {center_irc} "
            f"(row {row} of {len(centers_irc)}, {count} such). Reject such candidates first."
        )
        raise ValueError(msg)
    return centers_irc.astype(np.int64, order="C")


def checked_out(out: NDArray[np.int16] | None, shape: tuple[int, ...]) -> NDArray[np.int16]:
    """Return the array for the result: ``out`` if it fits, a new one for None."""
    if out is None:
        return np.empty(shape, dtype=np.int16)
    if out.dtype != np.int16:
        msg = f"The array for the result must be int16, got {out.dtype}. Hand over none or a fitting one."
        raise TypeError(msg)
    if out.shape != shape:
        msg = f"The array for the result must be {shape}, got {out.shape}. Hand over none or a fitting one."
        raise ValueError(msg)
    return out


def _shifted(starts: NDArray[np.int64], ct_shape: tuple[int, ...], parameters: CuttingParameters) -> NDArray[np.int64]:
    """Move boxes into the CT: the book's rule, for weights that were trained with it."""
    margin = np.asarray(ct_shape) - parameters.chunk_shape_irc
    if (margin < 0).any():
        msg = (
            f"Under the edge rule 'shift' a CT must be at least {parameters.chunk_shape_irc} voxels, "
            f"got {tuple(ct_shape)}. Cut it under 'pad'."
        )
        raise ValueError(msg)
    return np.clip(starts, 0, margin)
