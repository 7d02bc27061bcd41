"""Asset checks, called directly."""

import dagster as dg
import pandas as pd
import pytest

from luna_pipeline.assets.leak_check import checked
from luna_pipeline.checks import no_ct_is_gone, rejected_rows_are_few
from luna_pipeline.core.candidates.usable_rows import UNREADABLE_CT
from luna_pipeline.resources import CutoutCutting, LunaPaths


@pytest.mark.parametrize(
    ("num_good", "num_bad", "passed"), [(199, 1, True), (990, 9, True), (99, 1, False), (1, 9, False), (0, 0, False)]
)
def test_fewer_than_one_percent_of_the_rows_may_be_rejected(num_good, num_bad, passed):
    rejected = pd.DataFrame({"reason": ["class is not 0 or 1"] * num_bad + [UNREADABLE_CT] * 50})
    result = rejected_rows_are_few(pd.DataFrame({"candidate_id": range(num_good)}), rejected)
    assert result.passed is passed
    assert result.metadata["num_rejected"].value == num_bad


@pytest.mark.parametrize(("is_readable", "passed"), [([True], True), ([False], False), ([], False)])
def test_a_data_root_without_a_readable_ct_fails(tmp_path, monkeypatch, is_readable, passed):
    monkeypatch.setenv("LUNA_HOME", str(tmp_path))
    uids = [f"1.{number}" for number in range(len(is_readable))]
    series = pd.DataFrame({"series_instance_uid": uids, "is_readable": pd.Series(is_readable, dtype=bool)})
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_asset_check_context(instance=instance)
        result = no_ct_is_gone(context, series, CutoutCutting(paths=LunaPaths()))
    assert result.passed is passed
    assert passed or f"got none of {len(is_readable)}" in result.description


def test_a_leak_check_of_no_model_fails():
    (result,) = checked("nodule_predictions", 0, [])
    assert not result.passed
    assert "got none" in result.description
