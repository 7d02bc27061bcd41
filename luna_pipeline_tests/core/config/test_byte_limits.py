import pytest

from luna_pipeline.core.config.byte_limits import byte_limit


@pytest.mark.parametrize(("variable", "num_bytes"), [("LUNA_X_MIB", 3 << 20), ("LUNA_X_GIB", 3 << 30)])
def test_a_limit_is_in_the_unit_of_its_variable(variable: str, num_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert byte_limit(variable, default=3.0) == num_bytes
    monkeypatch.setenv(variable, "1.5")
    assert byte_limit(variable, default=3.0) == num_bytes // 2


@pytest.mark.parametrize("text", ["much", "0", "-1", "nan", "inf"])
def test_a_limit_that_is_none_is_refused_by_its_variable(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUNA_X_MIB", text)
    with pytest.raises(ValueError, match=f"LUNA_X_MIB must be a positive number of MiB, got '{text}'"):
        byte_limit("LUNA_X_MIB", default=1.0)
