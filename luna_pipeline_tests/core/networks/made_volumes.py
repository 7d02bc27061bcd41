"""Volumes whose measures are known analytically."""

import numpy as np

SHAPE_IRC = (33, 47, 47)
AIR_HU, TISSUE_HU = -850, 50


def positions_mm(spacing_irc_mm, shape_irc=SHAPE_IRC) -> np.ndarray:
    """Position of each voxel relative to voxel ``shape // 2``, (3, I, R, C)."""
    offsets = np.indices(shape_irc) - np.reshape(shape_irc, (3, 1, 1, 1)) // 2
    return offsets * np.reshape(spacing_irc_mm, (3, 1, 1, 1))


def ball(spacing_irc_mm, *, radius_mm, center_mm=(0.0, 0.0, 0.0), shape_irc=SHAPE_IRC) -> np.ndarray:
    """A ball of tissue in lung, int16 (1, I, R, C)."""
    relative = positions_mm(spacing_irc_mm, shape_irc) - np.reshape(center_mm, (3, 1, 1, 1))
    return tissue_where(np.linalg.norm(relative, axis=0) <= radius_mm)


def tissue_where(is_tissue: np.ndarray) -> np.ndarray:
    """Tissue in lung, int16 (1, I, R, C)."""
    return np.where(is_tissue, TISSUE_HU, AIR_HU).astype(np.int16)[None]
