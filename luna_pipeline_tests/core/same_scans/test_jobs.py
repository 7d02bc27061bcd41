"""Comparisons of one scan with others: what cannot be read costs its own pairs only."""

from pathlib import Path

import numpy as np
import pytest

from luna_pipeline.core.ct.errors import UnreadableCtError
from luna_pipeline.core.same_scans.jobs import ComparisonJob
from luna_pipeline.core.same_scans.scan_files import scans_below
from luna_pipeline.core.same_scans.signatures import signature_of
from luna_pipeline_tests.core.same_scans.examples import noisy_tissue


@pytest.fixture
def job(tmp_path: Path) -> ComparisonJob:
    """Three equal scans, of which b is damaged after its signature."""
    for name in "abc":
        np.save(tmp_path / f"{name}.npy", noisy_tissue(0))
    first, *others = sorted(scans_below(tmp_path, patient_key=b"k")[0], key=lambda scan: scan.name)
    (tmp_path / "b.npy").write_bytes(b"")
    signature = signature_of(noisy_tissue(0))
    return ComparisonJob((first, signature), [(scan, signature, 9, float("nan")) for scan in others])


def test_a_scan_that_cannot_be_read_is_named_and_the_others_are_compared(job: ComparisonJob):
    rows, failed = job.run()
    (row,) = rows
    assert (row["kind"], row["fingerprint_b"]) == ("equal", job.others[1][0].fingerprint)
    (reason,) = failed.values()
    assert list(failed) == ["b"]
    assert reason.startswith("A block must be readable by numpy")


def test_without_the_scan_itself_there_is_no_result(job: ComparisonJob):
    job.scan[0].path.write_bytes(b"")
    with pytest.raises(UnreadableCtError, match=r"\(a\)"):
        job.run()
