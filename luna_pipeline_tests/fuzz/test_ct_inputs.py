"""No malformed CT stops another, costs much, is told in more than a line, or is read otherwise than by the format.

Seed and number of the inputs: ``make fuzz SEED=... N=...``; ``ONLY=metaimage-17`` makes one input again.
"""

import pytest

from luna_pipeline_tests.fuzz.ct_files import metaimage, nifti, nrrd
from luna_pipeline_tests.fuzz.ct_roots import check_root, complaints_about
from luna_pipeline_tests.fuzz.dicom_series import dicom
from luna_pipeline_tests.fuzz.odd_entries import odd_entry
from luna_pipeline_tests.fuzz.settings import batches, report

GENERATORS = {"metaimage": metaimage, "nrrd": nrrd, "nifti": nifti, "dicom": dicom, "entry": odd_entry}


@pytest.mark.parametrize("kind", GENERATORS)
def test_malformed_cts_cost_the_others_nothing(kind):
    complaints = []
    for inputs in batches(GENERATORS[kind], kind):
        complaints += complaints_about(inputs, check_root)
    report(complaints)
