import pytest

from luna_pipeline.core.ct.errors import UnreadableCtError
from luna_pipeline.core.ct.limits import check_announced_bytes, max_ct_bytes

GIB = 1 << 30


def test_a_ct_may_have_a_gibibyte_of_voxels() -> None:
    check_announced_bytes(GIB, where="a.mhd")

    with pytest.raises(UnreadableCtError, match=r"at most 1 GiB of voxels, got 1073741825 bytes announced \(a.mhd\)"):
        check_announced_bytes(GIB + 1, where="a.mhd")


def test_the_limit_is_an_environment_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUNA_MAX_CT_GIB", "2.5")

    assert max_ct_bytes() == 5 * GIB // 2
    check_announced_bytes(2 * GIB, where="a.mhd")


def test_packed_bytes_cannot_unpack_to_more_than_deflate_can_hold() -> None:
    check_announced_bytes(1032_000, 1000, where="a.mha")

    with pytest.raises(UnreadableCtError, match=r"able to fill 1032001 bytes, got 1000 bytes packed \(a.mha\)"):
        check_announced_bytes(1032_001, 1000, where="a.mha")
