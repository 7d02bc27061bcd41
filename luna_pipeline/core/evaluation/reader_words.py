"""Texture and calcification of candidates by the readers of the nodule that contains them."""

import numpy as np
import pandas as pd

from luna_pipeline.core.candidates.matching import POINT_COLUMNS, nearest_in_series

TEXTURES = ("non-solid", "part-solid", "solid")
CALCIFICATIONS = ("calcified", "not calcified")
READER_WORDS = {"texture": TEXTURES, "calcification": CALCIFICATIONS}
"""Groups of each kind, in the order of a report."""

# LIDC-IDRI: texture 1 is ground glass, 3 part-solid, 5 solid; calcification 1 to 5 are its patterns, 6 is absent.
NON_SOLID_AT_MOST, SOLID_AT_LEAST = 2.0, 4.0
_ABSENT = 6


def reader_words(candidates: pd.DataFrame, readers: pd.DataFrame) -> pd.DataFrame:
    """Return what readers say of the nodule in which each candidate lies.

    Args:
        candidates: ``series_instance_uid``, ``x_mm``, ``y_mm``, ``z_mm``.
        readers: One row per reader and nodule, see ``READER_COLUMNS`` of ``core.sources.source``.

    Returns:
        A row per candidate, in the same order: ``texture`` and ``calcification`` in words of ``READER_WORDS``, null
        where no nodule contains the candidate or no reader rated it. A nodule is the ball of the mean position and
        diameter of its marks; the nearest one that contains the candidate counts. Texture is the median over the
        readers: at most 2 is non-solid, at least 4 solid, and part-solid in between, as LNDb divides the scale (7/3 and
        11/3). A nodule is calcified if at least half of the readers rate a pattern of calcification (1 to 5).

    Source:
        McNitt-Gray et al., Academic Radiology 14 (2007) 1464-1474, doi:10.1016/j.acra.2007.07.021, for the scales;
        Pedrosa et al., arXiv:1911.08434, for the division.
    """
    nodules = _nodules(readers)
    row = nearest_in_series(
        candidates["series_instance_uid"],
        candidates[POINT_COLUMNS].to_numpy(dtype=np.float64),
        center_series=nodules["series_instance_uid"],
        centers_xyz=nodules[POINT_COLUMNS].to_numpy(dtype=np.float64),
        radii_mm=nodules["diameter_mm"].to_numpy(dtype=np.float64) / 2,
    )
    found = nodules[list(READER_WORDS)].reindex(np.where(row < 0, len(nodules), row))
    return found.set_axis(candidates.index, axis=0)


def _nodules(readers: pd.DataFrame) -> pd.DataFrame:
    """Return a row per nodule: mean position and diameter of its marks, and the words."""
    rated = readers.assign(
        series_instance_uid=readers["series_instance_uid"].astype(str),
        texture=readers["texture"].astype("Float64"),
        calcification=(readers["calcification"] < _ABSENT).astype("Float64"),
    )
    by_nodule = rated.groupby(["series_instance_uid", "nodule"], sort=True)
    nodules = by_nodule[[*POINT_COLUMNS, "diameter_mm"]].mean()
    texture, share = by_nodule["texture"].median(), by_nodule["calcification"].mean()
    solid = pd.Series(TEXTURES[1], nodules.index, dtype="string")
    solid = solid.mask(texture <= NON_SOLID_AT_MOST, TEXTURES[0]).mask(texture >= SOLID_AT_LEAST, TEXTURES[2])
    calcified = pd.Series(CALCIFICATIONS[1], nodules.index, dtype="string").mask(share >= 0.5, CALCIFICATIONS[0])
    words = {"texture": solid.mask(texture.isna()), "calcification": calcified.mask(share.isna())}
    return nodules.assign(**words).reset_index()
