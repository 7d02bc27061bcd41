"""Asset checks, called directly."""

import pandas as pd
import pytest

from luna_pipeline.checks import rejected_rows_are_few
from luna_pipeline.core.candidates.usable_rows import UNREADABLE_CT


@pytest.mark.parametrize(
    ("num_good", "num_bad", "passed"), [(199, 1, True), (990, 9, True), (99, 1, False), (1, 9, False), (0, 0, False)]
)
def test_fewer_than_one_percent_of_the_rows_may_be_rejected(num_good, num_bad, passed):
    rejected = pd.DataFrame({"reason": ["class is not 0 or 1"] * num_bad + [UNREADABLE_CT] * 50})
    result = rejected_rows_are_few(pd.DataFrame({"candidate_id": range(num_good)}), rejected)
    assert result.passed is passed
    assert result.metadata["num_rejected"].value == num_bad
