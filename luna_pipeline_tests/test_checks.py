"""Asset checks, called directly."""

import dagster as dg
import pandas as pd
import pytest

from luna_pipeline.assets.leak_check import leak_result
from luna_pipeline.checks import every_ct_is_readable, rejected_rows_are_few
from luna_pipeline.core.candidates.usable_rows import UNREADABLE_CT


@pytest.mark.parametrize(
    ("num_good", "num_bad", "passed"), [(199, 1, True), (990, 9, True), (99, 1, False), (1, 9, False), (0, 0, False)]
)
def test_fewer_than_one_percent_of_the_rows_may_be_rejected(num_good, num_bad, passed):
    rejected = pd.DataFrame({"reason": ["class is not 0 or 1"] * num_bad + [UNREADABLE_CT] * 50})
    result = rejected_rows_are_few(pd.DataFrame({"candidate_id": range(num_good)}), rejected)
    assert result.passed is passed
    assert result.metadata["num_rejected"].value == num_bad


@pytest.mark.parametrize(("is_readable", "passed"), [([True], True), ([False], False), ([], False)])
def test_a_data_root_without_a_readable_ct_fails(is_readable, passed):
    uids = [f"1.{number}" for number in range(len(is_readable))]
    rows = {"series_instance_uid": uids, "is_readable": pd.Series(is_readable, dtype=bool), "reason": "no slices"}
    result = every_ct_is_readable(pd.DataFrame(rows))
    assert result.passed is passed
    assert passed or f"got none of {len(is_readable)}" in result.description


@pytest.mark.parametrize(("num_broken", "more"), [(1, ""), (3, ""), (5, "and 2 more")])
def test_unreadable_cts_are_named_the_first_three_and_a_count(num_broken: int, more: str):
    uids = [f"1.{number}" for number in range(num_broken)]
    broken = pd.DataFrame({"series_instance_uid": uids, "is_readable": False, "reason": "got no slices"})
    copies = pd.DataFrame({"series_instance_uid": ["2.1", "2.1"], "is_readable": [True, False], "reason": "a copy"})
    result = every_ct_is_readable(pd.concat([broken, copies], ignore_index=True))
    assert not result.passed
    assert result.severity == dg.AssetCheckSeverity.WARN
    assert f"got {num_broken} unreadable of {num_broken + 1}: series 1.0: got no slices" in result.description
    assert result.description.count("got no slices") == min(num_broken, 3)
    assert more in result.description
    assert result.metadata["unreadable"].value == dict.fromkeys(uids, "got no slices")


def test_a_leak_check_of_no_model_fails():
    result = leak_result("nodule_predictions", 0, [])
    assert not result.passed
    assert "got none" in result.description
