"""Signature of a scan: what is kept of its voxels to find the same scan again, about 100 KB for a chest CT."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from luna_pipeline.core.same_scans.anchors import WINDOW_HU, Anchors, anchors_of
from luna_pipeline.core.same_scans.thumbnails import CELLS, thumbnail_of

RULES = 2
"""Increased when the same voxels give another signature, or scans other keys: earlier ones are computed again."""

SIGNATURE_COLUMNS = ("fingerprint", "rules", "size_irc", "num_in_window", "hashes", "places_irc", "thumbnail")


@dataclass(frozen=True, eq=False)
class ScanSignature:
    """What is known of a scan without its voxels.

    Attributes:
        size_irc: Voxels along index, row, col.
        num_in_window: Voxels within the lung window, neither air nor saturated: only these can show that scans are
            equal.
        anchors: Places that every copy and block shares.
        thumbnail: Mean HU of cells of the field of view, int16 (16, 16, 16).
    """

    size_irc: tuple[int, int, int]
    num_in_window: int
    anchors: Anchors
    thumbnail: NDArray[np.int16]


def signature_of(hounsfield: NDArray[np.int16]) -> ScanSignature:
    """Return the signature of a scan.

    Args:
        hounsfield: HU, shape (I, R, C); no header is needed.
    """
    num_slices, num_rows, num_cols = hounsfield.shape
    return ScanSignature(
        (num_slices, num_rows, num_cols),
        sum(num_in_window(plane) for plane in hounsfield),
        anchors_of(hounsfield),
        thumbnail_of(hounsfield),
    )


def num_in_window(hounsfield: NDArray[np.int16]) -> int:
    """Return the number of voxels between the ends of the lung window."""
    return int(np.count_nonzero((hounsfield > WINDOW_HU[0]) & (hounsfield < WINDOW_HU[1])))


def signature_row(fingerprint: str, signature: ScanSignature) -> dict[str, object]:
    """Return a signature as a row of the table ``scan_signatures``."""
    return {
        "fingerprint": fingerprint,
        "rules": RULES,
        "size_irc": list(signature.size_irc),
        "num_in_window": signature.num_in_window,
        "hashes": signature.anchors.hashes.astype("<u8").tobytes(),
        "places_irc": signature.anchors.places_irc.astype("<i2").tobytes(),
        "thumbnail": signature.thumbnail.astype("<i2").tobytes(),
    }


def signatures_of_table(table: pd.DataFrame | None) -> dict[str, ScanSignature]:
    """Return the signatures of a table by fingerprint; those of earlier rules are left out."""
    if table is None or not set(SIGNATURE_COLUMNS) <= set(table.columns):
        return {}
    current = table[table["rules"] == RULES]
    return {str(row["fingerprint"]): _signature_of_row(row) for row in current.to_dict("records")}


def table_of_rows(rows: Iterable[dict[str, object]]) -> pd.DataFrame:
    """Return rows of ``signature_row`` as a table."""
    return pd.DataFrame(list(rows), columns=list(SIGNATURE_COLUMNS)).astype(
        {"rules": "int64", "num_in_window": "int64"}
    )


def _signature_of_row(row: Mapping[Any, Any]) -> ScanSignature:
    num_slices, num_rows, num_cols = (int(size) for size in row["size_irc"])
    hashes, places, thumbnail = (
        np.frombuffer(row[name], dtype=kind)
        for name, kind in (("hashes", "<u8"), ("places_irc", "<i2"), ("thumbnail", "<i2"))
    )
    return ScanSignature(
        (num_slices, num_rows, num_cols),
        int(row["num_in_window"]),
        Anchors(hashes, places.reshape(-1, 3)),
        thumbnail.reshape(CELLS, CELLS, CELLS),
    )
