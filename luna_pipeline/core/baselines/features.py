"""Interpretable features of cutouts, in HU and mm, independent of the CT's spacing; see docs/explanation/baselines.md.

Letters of shapes: N cutouts, F features; the others as in ``surroundings``.
"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from luna_pipeline.core.baselines.blobs import BLOB_FEATURES, blob_features
from luna_pipeline.core.baselines.surroundings import SCALES_MM, SHELL_EDGES_MM, Surroundings, surroundings_of
from luna_pipeline.core.candidates.series_codes import rows_by_series
from luna_pipeline.core.cutouts.store import CutoutSource, SeriesCutouts

HISTOGRAM_EDGES_HU = (-950, -850, -700, -500, -300, -100, 0, 100, 300)
"""Edges of the bins; the first and the last bin are open."""

HISTOGRAM_RADIUS_MM = 10.0
GRADIENT_RADII_MM = (5.0, 10.0)

# The boxes of 16 cutouts fit into the processor's cache.
_CUTOUTS_AT_ONCE = 16
_CODE_OF_HU = np.searchsorted(HISTOGRAM_EDGES_HU, np.arange(-(2**15), 2**15), side="right").astype(np.int64)


def _documented() -> dict[str, str]:
    bins = [f"below_{HISTOGRAM_EDGES_HU[0]}"]
    bins += [f"{low}_to_{high}" for low, high in pairwise(HISTOGRAM_EDGES_HU)]
    bins.append(f"from_{HISTOGRAM_EDGES_HU[-1]}")
    shells = [f"{low:g}_to_{high:g}" for low, high in pairwise(SHELL_EDGES_MM)]
    found = {f"hu_share_{name}": "share of the voxels within 10 mm with these HU" for name in bins}
    found |= {f"profile_{name}_mm": "mean HU of the voxels at this distance" for name in shells}
    for scale in SCALES_MM:
        found[f"log_{scale:g}_mm"] = "HU; how much denser the centre is than around, at this scale (Laplacian)"
        found[f"least_curvature_{scale:g}_mm"] = "HU; the same along the axis where it is least: blob > 0, vessel ~ 0"
    found |= {f"gradient_{radius:g}_mm": "HU/mm; mean slope within this distance" for radius in GRADIENT_RADII_MM}
    found["gradient_convergence"] = "share of the slope within 10 mm that points to the centre, -1 to 1: ball 1"
    return found | BLOB_FEATURES


FEATURES = _documented()
"""Description of each feature by name, in the order of the columns."""

FEATURE_NAMES = tuple(FEATURES)


def cutout_features(chunks_hu: NDArray[np.int16], spacing_irc_mm: tuple[float, float, float]) -> NDArray[np.float64]:
    """Return the features of cutouts of one spacing.

    Args:
        chunks_hu: HU, int16 (N, I, R, C); the candidate is voxel ``shape // 2``.
        spacing_irc_mm: Distance of neighbouring voxels along index, row, col.

    Returns:
        Features (N, F), in the order of ``FEATURE_NAMES``; nan where undefined: a shell without a voxel, the shape of
        an absent blob, the curvature along a single slice. The features of a cutout do not depend on the others,
        except for rounding (1e-9 relative).

    Raises:
        TypeError: If the cutouts are not int16.
        ValueError: If they are not four-dimensional, or a spacing is not positive.
    """
    if chunks_hu.dtype != np.int16:
        msg = f"Cutouts must be int16 HU, got {chunks_hu.dtype}. Round them: np.rint(chunks).astype(np.int16)."
        raise TypeError(msg)
    if chunks_hu.ndim != 4:
        msg = f"Cutouts must have the axes N, I, R, C, got the shape {chunks_hu.shape}. Leave the channel out."
        raise ValueError(msg)
    _, size_i, size_r, size_c = chunks_hu.shape
    around = surroundings_of((size_i, size_r, size_c), spacing_irc_mm)
    found = np.empty((len(chunks_hu), len(FEATURE_NAMES)))
    for start in range(0, len(chunks_hu), _CUTOUTS_AT_ONCE):
        part = slice(start, start + _CUTOUTS_AT_ONCE)
        found[part] = _features_of_boxes(chunks_hu[(part, *around.box)], around)
    return found


def features_of_index(
    index: pd.DataFrame, store: CutoutSource, *, on_progress: Callable[[int, int], None] | None = None
) -> pd.DataFrame:
    """Return the features of candidates; reads one series at a time and few of its cutouts at once.

    Args:
        index: Rows of the cutout index: ``candidate_id``, ``series_instance_uid``, ``row``.
        store: Source of the cutouts.
        on_progress: Called after each series with the numbers of finished and of all candidates.

    Returns:
        One row per candidate, in the order of ``index``, with the columns ``FEATURE_NAMES`` and the index
        ``candidate_id``.

    Raises:
        FileNotFoundError: If a series was not cut.
        ValueError: If a file holds other candidates than the index.
    """
    features, num_done = np.empty((len(index), len(FEATURE_NAMES))), 0
    candidate_id, rows = (index[name].to_numpy(dtype=np.int64) for name in ("candidate_id", "row"))
    for uid, places in rows_by_series(index["series_instance_uid"]).items():
        cutouts = store.read(uid)
        _check_candidates(uid, cutouts, rows[places], candidate_id[places])
        for start in range(0, len(places), _CUTOUTS_AT_ONCE):
            some = places[start : start + _CUTOUTS_AT_ONCE]
            chunks_hu = np.stack([cutouts.ct_chunks[row] for row in rows[some]])
            features[some] = cutout_features(chunks_hu, spacing_of(cutouts))
        num_done += len(places)
        if on_progress is not None:
            on_progress(num_done, len(index))
    return pd.DataFrame(features, columns=list(FEATURE_NAMES), index=pd.Index(candidate_id, name="candidate_id"))


def spacing_of(cutouts: SeriesCutouts) -> tuple[float, float, float]:
    """Return the distance in mm of neighbouring voxels of a series' cutouts along index, row, col."""
    resampling = cutouts.header.get("resampling")
    x_mm, y_mm, z_mm = (float(value) for value in (resampling or cutouts.header)["spacing_mm"])
    return (z_mm, y_mm, x_mm)


def _check_candidates(
    uid: str, cutouts: SeriesCutouts, rows: NDArray[np.int64], candidate_id: NDArray[np.int64]
) -> None:
    is_there = rows.max() < len(cutouts.candidate_id)
    if not is_there or not np.array_equal(cutouts.candidate_id[rows], candidate_id):
        msg = f"A file must hold the candidates of the index, got others (series {uid})."
        raise ValueError(f"{msg} Run the job `cut` and materialize `cutout_index` again.")


def _features_of_boxes(boxes_hu: NDArray[np.int16], around: Surroundings) -> NDArray[np.float64]:
    flat_hu = np.ascontiguousarray(boxes_hu).reshape(len(boxes_hu), -1)
    ball_hu = flat_hu[:, around.ball]
    shares, means = _histogram(ball_hu[:, : around.num_within(HISTOGRAM_RADIUS_MM)]), _profile(ball_hu, around)
    derived = _curvatures(boxes_hu, around), _gradients(flat_hu, around)
    return np.concatenate([shares, means, *derived, blob_features(flat_hu, around)], axis=1)


def _histogram(ball_hu: NDArray[np.int16]) -> NDArray[np.float64]:
    count, num_bins = len(ball_hu), len(HISTOGRAM_EDGES_HU) + 1
    codes = _CODE_OF_HU[ball_hu.astype(np.int64) + 2**15] + num_bins * np.arange(count)[:, None]
    shares: NDArray[np.float64] = np.bincount(codes.ravel(), minlength=count * num_bins) / ball_hu.shape[1]
    return shares.reshape(count, num_bins)


def _profile(ball_hu: NDArray[np.int16], around: Surroundings) -> NDArray[np.float64]:
    """Return the mean HU (N, S) of each shell, nan for one without a voxel."""
    sums = np.zeros((len(ball_hu), ball_hu.shape[1] + 1), dtype=np.int64)
    np.cumsum(ball_hu, axis=1, out=sums[:, 1:])
    within = sums[:, around.shell_bounds]
    num_voxels = np.diff(around.shell_bounds)
    means: NDArray[np.float64] = np.diff(within, axis=1) / np.where(num_voxels > 0, num_voxels, np.nan)
    return means


def _curvatures(boxes_hu: NDArray[np.int16], around: Surroundings) -> NDArray[np.float64]:
    """Return Laplacian and least curvature (N, 6) at the centre for each scale, times the scale squared, in HU.

    Source:
        Lindeberg, Feature detection with automatic scale selection, IJCV 30 (1998) 79-116.
    """
    values = boxes_hu.astype(np.float64)
    found = []
    for scale, (index_weights, row_weights, col_weights) in zip(SCALES_MM, around.derivatives, strict=True):
        # One small product per cutout: one BLAS product of all would round by the number of cutouts.
        by_row = row_weights.T @ (values @ col_weights)
        flat = by_row.reshape(*by_row.shape[:2], -1)
        derived = (index_weights.T @ flat).reshape(len(values), -1, *by_row.shape[2:])
        hessian = np.array(
            [
                [derived[:, 2, 0, 0], derived[:, 1, 1, 0], derived[:, 1, 0, 1]],
                [derived[:, 1, 1, 0], derived[:, 0, 2, 0], derived[:, 0, 1, 1]],
                [derived[:, 1, 0, 1], derived[:, 0, 1, 1], derived[:, 0, 0, 2]],
            ]
        ).transpose(2, 0, 1)
        largest = _largest_eigenvalue(hessian)
        found += [-(scale**2) * np.trace(hessian, axis1=1, axis2=2), -(scale**2) * largest]
    return np.stack(found, axis=1)


def _largest_eigenvalue(matrices: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the largest eigenvalue (N,) of symmetric matrices (N, 3, 3), nan if an entry is nan."""
    is_known = np.isfinite(matrices).all(axis=(1, 2))
    largest = np.full(len(matrices), np.nan)
    largest[is_known] = np.linalg.eigvalsh(matrices[is_known])[:, -1]
    return largest


def _gradients(flat_hu: NDArray[np.int16], around: Surroundings) -> NDArray[np.float64]:
    """Return mean slopes within 5 and 10 mm in HU/mm, and the share that points to the centre (N, 3)."""
    if len(around.inner) == 0:
        return np.full((len(flat_hu), len(GRADIENT_RADII_MM) + 1), np.nan)
    strides = (around.shape_irc[1] * around.shape_irc[2], around.shape_irc[2], 1)
    positions_mm = around.positions_mm[around.inner].astype(np.float32)
    distances_mm = np.linalg.norm(positions_mm, axis=1)
    squares, towards = np.zeros((2, len(flat_hu), len(around.inner)), dtype=np.float32)
    for axis, (stride, spacing_mm) in enumerate(zip(strides, around.spacing_irc_mm, strict=True)):
        difference = flat_hu[:, around.inner + stride].astype(np.float32) - flat_hu[:, around.inner - stride]
        slope = difference / np.float32(2 * spacing_mm)
        squares += slope * slope
        # The centre voxel has no direction: its slope points nowhere.
        towards -= slope * (positions_mm[:, axis] / np.maximum(distances_mm, np.float32(1e-6)))
    magnitudes = np.sqrt(squares)
    total = magnitudes.sum(axis=1, dtype=np.float64)
    num_near = [int(np.searchsorted(distances_mm, radius)) for radius in GRADIENT_RADII_MM]
    means = [magnitudes[:, :count].mean(axis=1, dtype=np.float64) for count in num_near]
    inwards = towards.sum(axis=1, dtype=np.float64)
    convergence = np.divide(inwards, total, out=np.full(len(total), np.nan), where=total > 0)
    return np.stack([*means, convergence], axis=1)
