"""Order and grid of a DICOM series by the positions of its slices.

SliceThickness is not the distance of neighbouring slices: with overlapping or spaced slices it is wrong.

Source:
    DICOM PS3.3, C.7.6.2 (Image Plane Module).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.ct.errors import UnreadableCtError, naming_series
from luna_pipeline.core.ct.formats.dicom_slices import DicomSlice
from luna_pipeline.core.ct.formats.dicom_values import shown_modality
from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.ct.hounsfield import check_voxel_kind
from luna_pipeline.core.ct.limits import MAX_SLICES, check_announced_bytes

# Largest difference of a gap from the mean gap: more is a missing or displaced slice.
GAP_TOLERANCE_MM = 0.01
GAP_TOLERANCE_RATIO = 0.01
# Positions may be written with few decimals; a step of their last one must be well below a gap, else a missing or
# displaced slice would pass as rounding.
_COARSEST_STEP_RATIO = 0.2
_STEPS_MM = (1.0, 0.1, 0.01, 0.001)
# Largest difference of a direction cosine between slices: at the far side of 512 voxels, half a voxel.
_TURN_TOLERANCE = 1e-3
# Below, differing orientations and axes that are not quite orthonormal are left as they are written.
_EXACT_TOLERANCE = 1e-4
# Largest distance of a slice from its place in an even, straight grid, beyond the rounding of its position: more is a
# tilted gantry or slices that become wider.
_MAX_OFF_MM = 0.1
# Of so many slices, as a part, the place by SliceLocation may differ: more, and it has another meaning.
_CONTRADICTION_SHARE = 0.5
_TWO_ACQUISITIONS = (
    "These may be two acquisitions or reconstructions in one series: move one of them out of the folder."
)


def ordered_slices_of(slices: Sequence[DicomSlice], *, series_instance_uid: str) -> tuple[list[DicomSlice], VoxelGrid]:
    """Sort slices along their normal and compute their grid.

    Returns:
        The slices, and the grid: origin of the first slice, distance along the normal. The distance is the mean gap;
        where positions are rounded (a step of 0.1 mm), it is the shortest decimal number with which an evenly spaced
        grid agrees with all of them.

    Raises:
        UnreadableCtError: If an attribute is missing or wrong, it is no CT, or slices differ in size or orientation,
            have the same position, are unevenly spaced, or are shifted sideways (tilted gantry).
    """
    uid = series_instance_uid
    _check_alike(slices, uid=uid)
    axes = _axes(slices, uid=uid)
    positions_xyz = np.array([item.position_xyz for item in slices])
    heights_mm = positions_xyz @ axes[:, 2]
    order = np.argsort(heights_mm, kind="stable")
    slices, positions_xyz = [slices[place] for place in order], positions_xyz[order]
    gap_mm = _even_gap(slices, heights_mm[order], _step_mm(positions_xyz, axes[:, 2]), uid=uid)
    _check_straight(slices, positions_xyz, axes[:, 2], gap_mm=gap_mm, uid=uid)
    _check_locations(slices, uid=uid)
    (row_mm, col_mm), (x_mm, y_mm, z_mm) = slices[0].spacing_rc_mm, slices[0].position_xyz
    size_irc, direction = (len(slices), *slices[0].size_rc), tuple(float(value) for value in axes.ravel())
    with naming_series(uid):
        return slices, VoxelGrid(size_irc, (col_mm, row_mm, gap_mm), (x_mm, y_mm, z_mm), direction)


def _check_alike(slices: Sequence[DicomSlice], *, uid: str) -> None:
    first = slices[0]
    if first.modality not in {"CT", ""}:
        rule = f"Modality must be CT, got {shown_modality(first.modality)} (series {uid})."
        raise UnreadableCtError(f"{rule} Leave it out of the data folder.")
    if len(slices) > MAX_SLICES:
        msg = f"A CT must have at most {MAX_SLICES} slices, got {len(slices)} (series {uid}). Check the data folder."
        raise UnreadableCtError(msg)
    for item in slices:
        num_channels, num_bits = item.storage.num_channels, item.storage.num_bits
        check_voxel_kind(f"{num_bits} bits", num_channels, num_bits // 8, series_instance_uid=uid)
    _check_faults(slices, uid=uid)
    # As int16.
    check_announced_bytes(2 * len(slices) * first.size_rc[0] * first.size_rc[1], where=f"series {uid}")
    spacings_mm = np.array([item.spacing_rc_mm for item in slices])
    orientations = np.array([item.orientation for item in slices])
    is_alike = np.isclose(spacings_mm, spacings_mm[0], atol=1e-4).all(axis=1)
    is_alike &= (np.abs(orientations - orientations[0]) <= _TURN_TOLERANCE).all(axis=1)
    for item, is_parallel in zip(slices, is_alike, strict=True):
        if not is_parallel or item.size_rc != first.size_rc:
            differs, values = _difference(item, first)
            raise UnreadableCtError(
                f"Slices of a series must share size, pixel spacing and orientation, got {item.name} "
                f"unlike {first.name} in {differs}: {values} (series {uid}). Take foreign slices out of the folder."
            )


def _check_faults(slices: Sequence[DicomSlice], *, uid: str) -> None:
    faulty = [item for item in slices if item.fault]
    if not faulty:
        return
    name, fault = faulty[0].name, faulty[0].fault
    num_same = sum(item.fault == fault for item in faulty)
    others = "" if num_same in {1, len(slices)} else f"; {num_same} of {len(slices)} slices"
    raise UnreadableCtError(f"{fault} ({name}{others}, series {uid}). Export the series again.")


def _difference(item: DicomSlice, first: DicomSlice) -> tuple[str, str]:
    if item.size_rc != first.size_rc:
        return "size", f"{item.size_rc} and {first.size_rc}"
    if not np.allclose(item.spacing_rc_mm, first.spacing_rc_mm, atol=1e-4):
        return "pixel spacing", f"{item.spacing_rc_mm} and {first.spacing_rc_mm}"
    return "orientation", f"{item.orientation} and {first.orientation}"


def _axes(slices: Sequence[DicomSlice], *, uid: str) -> NDArray[np.float64]:
    """Return ITK's direction matrix: its columns point along a row, down a column, and to the next slice.

    Cosines that differ between slices, or are not orthonormal, by rounding are averaged and made orthonormal.
    """
    orientations = np.array([item.orientation for item in slices], dtype=np.float64)
    is_same = np.abs(orientations - orientations[0]).max() <= _EXACT_TOLERANCE
    along_row, down_column = (orientations[0] if is_same else orientations.mean(axis=0)).reshape(2, 3)
    cosines = np.stack([along_row, down_column])
    error = np.abs(cosines @ cosines.T - np.eye(2)).max()
    # A larger one is refused by the grid.
    if _EXACT_TOLERANCE < error <= _TURN_TOLERANCE or (not is_same and error <= _TURN_TOLERANCE):
        # The orthonormal pair nearest to both.
        left, _, right = np.linalg.svd(cosines, full_matrices=False)
        along_row, down_column = left @ right
    return np.stack([along_row, down_column, np.cross(along_row, down_column)], axis=1)


def _step_mm(positions_xyz: NDArray[np.float64], normal: NDArray[np.float64]) -> float:
    """Return the step in mm to which positions along the normal are rounded, 0 where they are written more exactly."""
    total_mm = 0.0
    # Each of the three numbers is rounded, and may be written with decimals of its own.
    for along_axis_mm, weight in zip(positions_xyz.T, np.abs(normal), strict=True):
        for step_mm in _STEPS_MM if weight > 1e-6 else ():
            in_steps = along_axis_mm / step_mm
            if np.abs(in_steps - np.rint(in_steps)).max() < 1e-5:
                total_mm += step_mm * weight
                break
    return float(total_mm)


def _even_gap(slices: Sequence[DicomSlice], heights_mm: NDArray[np.float64], step_mm: float, *, uid: str) -> float:
    """Return the distance of sorted slices in mm; refuses uneven ones."""
    if len(slices) < 2:
        msg = f"A CT must have two slices or more, got 1 ({slices[0].name}, series {uid}). Copy the whole series."
        raise UnreadableCtError(msg)
    gaps_mm = np.diff(heights_mm)
    mean_mm = float(gaps_mm.mean())
    # 1e-6 mm: positions are decimal text.
    tolerance_mm = min(GAP_TOLERANCE_MM, GAP_TOLERANCE_RATIO * mean_mm) + 1e-6
    if gaps_mm.min() < 1e-3:
        twin = int(np.argmin(gaps_mm))
        lower, upper = slices[twin], slices[twin + 1]
        raise UnreadableCtError(
            f"Slices must lie at different places, got {lower.name} and {upper.name} "
            f"at one with different content{_acquisitions_of(lower, upper)} (series {uid}). {_TWO_ACQUISITIONS}"
        )
    if np.abs(gaps_mm - mean_mm).max() <= tolerance_mm:
        return mean_mm
    rounded_mm = _gap_of_rounded(heights_mm, step_mm)
    if rounded_mm is not None:
        return rounded_mm
    worst = int(np.argmax(np.abs(gaps_mm - np.median(gaps_mm))))
    lower, upper = slices[worst], slices[worst + 1]
    raise UnreadableCtError(
        f"Slices must be evenly spaced, got a gap of {gaps_mm[worst]:.4g} mm among gaps of "
        f"{np.median(gaps_mm):.4g} mm (between {lower.name} and {upper.name}, series {uid})"
        f"{_acquisitions_of(lower, upper)}. Copy the missing slices. {_TWO_ACQUISITIONS}"
    )


def _gap_of_rounded(heights_mm: NDArray[np.float64], step_mm: float) -> float | None:
    """Return the distance of an even grid that differs from each height by half a step at most, None without one.

    Of all distances that do, it is the shortest decimal number near their middle: 1.25, not 1.2503.
    """
    if not 0 < step_mm <= _COARSEST_STEP_RATIO * float(np.diff(heights_mm).mean()):
        return None
    # Two heights differ from their distance on the grid by a step at most.
    margin_mm, lowest_mm, highest_mm = step_mm + 2e-6, -np.inf, np.inf
    for lag in range(1, len(heights_mm)):
        ways_mm = heights_mm[lag:] - heights_mm[:-lag]
        lowest_mm = max(lowest_mm, float(ways_mm.max() - margin_mm) / lag)
        highest_mm = min(highest_mm, float(ways_mm.min() + margin_mm) / lag)
        if lowest_mm > highest_mm:
            return None
    middle_mm = (lowest_mm + highest_mm) / 2
    rounded_mm = (round(middle_mm, digits) for digits in range(7))
    return next((distance_mm for distance_mm in rounded_mm if lowest_mm <= distance_mm <= highest_mm), middle_mm)


def _acquisitions_of(lower: DicomSlice, upper: DicomSlice) -> str:
    """Return the numbers of two slices' acquisitions where they differ, for messages."""
    if lower.acquisition == upper.acquisition:
        return ""
    return f", AcquisitionNumber {lower.acquisition or 'none'} and {upper.acquisition or 'none'}"


def _check_straight(
    slices: Sequence[DicomSlice],
    positions_xyz: NDArray[np.float64],
    normal: NDArray[np.float64],
    *,
    gap_mm: float,
    uid: str,
) -> None:
    """Refuse sorted slices that are not at their places in the grid."""
    off_xyz = positions_xyz - positions_xyz[0] - np.outer(np.arange(len(slices)) * gap_mm, normal)
    along_mm = off_xyz @ normal
    sideways_mm = np.linalg.norm(off_xyz - np.outer(along_mm, normal), axis=1)
    worst = int(sideways_mm.argmax())
    # Where the normal is oblique, all three numbers of a position are rounded.
    step_mm = min(_step_mm(positions_xyz, (np.ptp(positions_xyz, axis=0) > 0).astype(np.float64)), _MAX_OFF_MM)
    if sideways_mm[worst] > _MAX_OFF_MM + step_mm:
        raise UnreadableCtError(
            f"Slices must lie straight above each other, got a drift of {sideways_mm[worst]:.4g} mm over the scan "
            f"(at {slices[worst].name}, series {uid}). A tilted gantry is not supported: resample the CT first."
        )
    worst = int(np.abs(along_mm).argmax())
    if abs(along_mm[worst]) > _MAX_OFF_MM + _step_mm(positions_xyz, normal):
        raise UnreadableCtError(
            f"Slices must be evenly spaced, got {slices[worst].name} {abs(along_mm[worst]):.4g} mm from its place "
            f"(series {uid}). Resample the CT first."
        )


def _check_locations(slices: Sequence[DicomSlice], *, uid: str) -> None:
    """Refuse sorted slices of which a few have another place by SliceLocation: positions were exchanged.

    Only the order is compared, in both directions: the axis and the origin of SliceLocation differ by vendor.
    """
    locations_mm = np.array([item.location_mm for item in slices])
    if np.isnan(locations_mm).any() or np.ptp(locations_mm) == 0:
        return
    places = np.arange(len(slices))
    orders = (np.argsort(sign * locations_mm, kind="stable") for sign in (1, -1))
    differing = min((np.flatnonzero(order != places) for order in orders), key=len)
    if 0 < len(differing) < _CONTRADICTION_SHARE * len(slices):
        names = ", ".join(slices[place].name for place in differing[:3])
        raise UnreadableCtError(
            f"ImagePositionPatient and SliceLocation must order slices alike, got {len(differing)} slices at other "
            f"places: {names} (series {uid}). Export the series again."
        )
