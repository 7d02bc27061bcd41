"""Digests of everything the cutouts of a series depend on: CT, candidates' positions, parameters, code.

Labels are not included: a changed diameter, class or rating changes tables and re-cuts nothing.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.cutouts.cutting import CUTTING_CODE_VERSION, CuttingParameters

if TYPE_CHECKING:
    import pandas as pd

_ROW = np.dtype([("candidate_id", "<i8"), ("x_mm", "<f8"), ("y_mm", "<f8"), ("z_mm", "<f8")])


@dataclass(frozen=True)
class Fingerprint:
    """Digests of the four things a cutout file depends on.

    Attributes:
        ct: Digest of header, names, sizes and times of the CT's files, from the catalogue.
        rows: Digest of the candidates' ids and positions.
        parameters: Digest of the cutting parameters.
        code: Version of the cutting code.
        ct_content: Digest of the bytes of the CT's files, if they were read. It then replaces ``ct``: a CT that was
            only copied or touched is the same.
    """

    ct: str
    rows: str
    parameters: str
    code: str
    ct_content: str = ""

    @property
    def digest(self) -> str:
        """SHA-256 of the four, 64 hexadecimal digits."""
        return _sha256(json.dumps([self.ct_content or self.ct, self.rows, self.parameters, self.code]).encode())

    def differences(self, recorded: Mapping[str, str]) -> list[str]:
        """Return which of ``ct``, ``rows``, ``parameters``, ``code`` differ from those in a file's header."""
        return [part for part in ("ct", "rows", "parameters", "code") if getattr(self, part) != recorded.get(part)]

    def as_dict(self) -> dict[str, str]:
        """Return the digests and their common one by name, in the order of a file's header."""
        names = ("ct", "ct_content", "rows", "parameters", "code", "digest")
        return {name: getattr(self, name) for name in names}


def parameters_fingerprint(parameters: CuttingParameters) -> str:
    """Digest the cutting parameters."""
    # None is left out: a parameter that is added later does not change earlier digests.
    values = {name: value for name, value in parameters.as_dict().items() if value is not None}
    return _sha256(json.dumps(values, sort_keys=True).encode())


def fingerprints_of(
    catalogue: "pd.DataFrame", candidates: "pd.DataFrame", parameters: CuttingParameters
) -> dict[str, Fingerprint]:
    """Return the fingerprint of each readable series by uid, including those without candidates.

    Args:
        catalogue: One row per series; unreadable ones are ignored.
        candidates: Candidates of all series in any order; those of other series are ignored.
        parameters: The cutting parameters.
    """
    readable = catalogue[catalogue["is_readable"].astype(bool)]
    rows_of = _rows_digests(candidates)
    no_rows, of_parameters = _sha256(b""), parameters_fingerprint(parameters)
    return {
        uid: Fingerprint(str(ct), rows_of.get(uid, no_rows), of_parameters, CUTTING_CODE_VERSION)
        for uid, ct in zip(readable["series_instance_uid"], readable["fingerprint"], strict=True)
    }


def _rows_digests(candidates: "pd.DataFrame") -> dict[str, str]:
    """Return a digest of ids and positions of the candidates of each series, sorted by id."""
    # Imported here: a process that only cuts need not load pandas.
    from luna_pipeline.core.candidates.series_codes import order_by_series, series_codes

    codes, uids = series_codes(candidates["series_instance_uid"])
    order = order_by_series(codes, candidates["candidate_id"].to_numpy())
    packed = _packed(candidates, order)
    bounds = np.cumsum([0, *np.bincount(codes, minlength=len(uids))])
    return {
        uid: _sha256(packed[start:stop].tobytes()) for uid, (start, stop) in zip(uids, pairwise(bounds), strict=True)
    }


def _packed(rows: "pd.DataFrame", order: NDArray[np.intp]) -> NDArray[np.void]:
    packed = np.empty(len(rows), dtype=_ROW)
    for name in _ROW.names or ():
        packed[name] = rows[name].to_numpy()[order]
    return packed


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
