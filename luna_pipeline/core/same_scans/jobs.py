"""Work on single scans that other processes can do: signatures, and comparisons of suspected pairs."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.ct.errors import failure_of
from luna_pipeline.core.same_scans.pairs import compare_scans
from luna_pipeline.core.same_scans.scan_files import ScanFile
from luna_pipeline.core.same_scans.signatures import ScanSignature, signature_of
from luna_pipeline.core.same_scans.tables import comparison_row


@dataclass(frozen=True, eq=False)
class SignatureJob:
    """Computes the signature of a scan."""

    scan: ScanFile

    @property
    def series_instance_uid(self) -> str:
        """Name of the scan, for messages."""
        return self.scan.name

    def run(self) -> ScanSignature:
        """Read the scan and return its signature.

        Raises:
            UnreadableCtError: If it cannot be read.
        """
        return signature_of(self.scan.read())


@dataclass(frozen=True, eq=False)
class ComparisonJob:
    """Compares a scan with others.

    Attributes:
        scan: The scan and its signature.
        others: Other scans, their signatures, and as in ``SuspectedPair`` common anchors and thumbnail difference.
    """

    scan: tuple[ScanFile, ScanSignature]
    others: Sequence[tuple[ScanFile, ScanSignature, int, float]]

    @property
    def series_instance_uid(self) -> str:
        """Name of the scan, for messages."""
        return self.scan[0].name

    def run(self) -> tuple[list[dict[str, Any]], dict[str, str]]:
        """Read the scans and compare each pair; one that fails does not stop the others.

        Returns:
            A row of ``scan_comparisons`` for each pair, and the reason by name of each other scan that failed.

        Raises:
            UnreadableCtError: If the scan itself cannot be read.
        """
        first, signature = self.scan
        voxels = _voxels(first)
        rows, failed = [], {}
        for second, other, num_anchors, thumbnail_hu in self.others:
            both = signature, other
            try:
                finding = compare_scans(
                    voxels, _voxels(second), both, num_anchors=num_anchors, thumbnail_hu=thumbnail_hu
                )
            except Exception as error:
                failed[second.name] = failure_of(error, second.name)
            else:
                rows.append(comparison_row(first, second, finding))
        return rows, failed


# The members of a group are compared with each other: each would be read many times.
@lru_cache(maxsize=4)
def _voxels(scan: ScanFile) -> NDArray[np.int16]:
    return scan.read()
