import os

import pytest

from luna_pipeline.core.config.environment import environment_variables


def test_variables_are_set_and_removed_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUNA_A", "before")
    monkeypatch.setenv("LUNA_B", "before")
    monkeypatch.delenv("LUNA_NEW", raising=False)

    with environment_variables({"LUNA_A": "now", "LUNA_NEW": "now"}, without=("LUNA_B",)):
        assert (os.environ["LUNA_A"], os.environ["LUNA_NEW"], "LUNA_B" in os.environ) == ("now", "now", False)

    assert (os.environ["LUNA_A"], os.environ["LUNA_B"], "LUNA_NEW" in os.environ) == ("before", "before", False)


def test_they_are_restored_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LUNA_NEW", raising=False)

    with pytest.raises(KeyError), environment_variables({"LUNA_NEW": "now"}):
        raise KeyError

    assert "LUNA_NEW" not in os.environ
