"""The job after an edit: the index is made also if one CT cannot be cut."""

import dagster as dg
import pytest

from luna_pipeline.jobs import recut


@pytest.mark.parametrize("is_failing", [False, True])
def test_index_follows_the_cut_also_when_a_series_failed(monkeypatch, is_failing: bool):
    nested = []

    def run_nested_job(_context: object, name: str) -> None:
        nested.append(name)
        if is_failing and name == "cut":
            raise dg.Failure("Every series must be cut")

    monkeypatch.setattr(recut, "run_nested_job", run_nested_job)
    result = recut.recut_changed.execute_in_process(raise_on_error=False)
    assert result.success == (not is_failing)
    assert nested == ["ingest", "cut", "index"]
