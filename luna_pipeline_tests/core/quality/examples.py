"""Hand-made facts of scans."""

import numpy as np
import pandas as pd

from luna_pipeline.core.quality.scans import SCAN_COLUMNS, _typed

GOOD = {
    "format": "dicom",
    "is_readable": True,
    "data_source": "luna16",
    "manufacturer": "GE",
    "kernel": "STANDARD",
    "axes": "LPS",
    "plane": "axial",
    "missing_slices": 0,
    "slice_spacing_mm": 2.0,
    "slice_thickness_mm": 2.0,
    "gap_mm": 0.0,
    "pixel_spacing_mm": 0.7,
    "field_of_view_mm": 350.0,
    "coverage_mm": 300.0,
    "tilt_deg": 0.0,
    "tube_kv": 120.0,
    "padding_share": 0.2,
    "air_peak_hu": -995.0,
    "tissue_peak_hu": 45.0,
    "noise_hu": 20.0,
    "is_hounsfield": True,
    "num_nodules": 2,
    "smallest_nodule_mm": 4.0,
    "largest_nodule_mm": 20.0,
}


def scans_of(*changes: dict) -> pd.DataFrame:
    """Scans that keep all limits, with changes: a dict a scan; uids are 1.0, 1.1, …"""
    rows = [
        GOOD | {"series_instance_uid": f"1.{number}", "content_digest": f"digest{number}"} | change
        for number, change in enumerate(changes)
    ]
    return _typed(pd.DataFrame(rows, columns=list(SCAN_COLUMNS)))


def chest(size_irc: tuple[int, int, int] = (24, 96, 96), *, noise_hu: float = 0.0, seed: int = 0) -> np.ndarray:
    """A block of soft tissue (40 HU) in air (-1000 HU), with normal noise; every slice is another."""
    random = np.random.default_rng(seed)
    hounsfield = np.full(size_irc, -1000.0)
    num_rows, num_cols = size_irc[1:]
    for index, plane in enumerate(hounsfield):
        plane[num_rows // 6 : -num_rows // 6, num_cols // 6 : -num_cols // 4 - index % 5] = 40.0
    return np.rint(hounsfield + random.normal(0.0, noise_hu, size_irc)).astype(np.int16)
