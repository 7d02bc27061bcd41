"""What HU are and what they are not: real scans, synthetic ones, and the kinds of numbers that exporters write."""

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from luna_pipeline.core.ct.errors import UnreadableCtError
from luna_pipeline.core.ct.plausible_hu import check_plausible_hu
from luna_pipeline.core.phantom.series import PhantomConfig, make_series

Volume = NDArray[np.int16]


@cache
def chest() -> Volume:
    """The project's own phantom of a chest."""
    return make_series(PhantomConfig(seed=0, number=1, size_irc=(40, 64, 64))).hounsfield


def ellipse(*, shape: tuple[int, int, int] = (40, 96, 96)) -> Volume:
    """A head: air around bone around brain, without noise."""
    _, rows, cols = np.indices(shape)
    radius = np.hypot((rows - 48) / 40, (cols - 48) / 32)
    return np.select([radius < 0.9, radius < 1], [35, 1200], -1000).astype(np.int16)


def noisy(volume: Volume, sigma: float) -> Volume:
    return (volume + np.random.default_rng(0).normal(0, sigma, volume.shape)).astype(np.int16)


def in_a_circle(volume: Volume, padding: int) -> Volume:
    """Outside the scanner's field of view there is padding."""
    _, rows, cols = np.indices(volume.shape)
    return np.where(
        np.hypot(rows - volume.shape[1] / 2, cols - volume.shape[2] / 2) > volume.shape[1] / 2, padding, volume
    )


def check(values: NDArray[np.generic]) -> None:
    check_plausible_hu(np.clip(np.rint(values.astype(float)), -32768, 32767).astype(np.int16), where="scan.mhd")


@pytest.mark.parametrize(
    "volume",
    [
        chest(),
        ellipse(),
        noisy(chest(), 120),
        noisy(ellipse(), 200),
        in_a_circle(chest(), -2000),
        noisy(in_a_circle(chest(), -2048), 100),
        in_a_circle(chest(), -3024),
        np.clip(chest(), -1000, 400),
        np.clip(chest(), -1350, 150),
        chest()[10:30, 20:44, 20:44],
    ],
    ids=[
        "chest",
        "head",
        "low-dose",
        "low-dose-head",
        "circle",
        "noisy-circle",
        "deep-circle",
        "window",
        "wide-window",
        "crop",
    ],
)
def test_hu_are_accepted(volume: Volume) -> None:
    check(volume)


@pytest.mark.parametrize("make", [chest, lambda: noisy(ellipse(), 8)], ids=["chest", "head"])
@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (lambda hu: np.clip(hu + 1024, 0, 4095), "no air"),
        (lambda hu: hu + 1000, "no air"),
        (lambda hu: hu - 1024, "below -1200|no tissue"),
        (lambda hu: np.clip((hu + 1024) / 4095, 0, 1), "no air"),
        (lambda hu: (hu + 1350) / 1500 * 255, "no air"),
        (lambda hu: hu / 1000, "no air"),
        (lambda hu: hu * 2, "below -1200|no air"),
        (lambda hu: hu * 10, "."),
        (lambda hu: -hu, "no air|tissue around"),
        (lambda hu: hu < -500, "no air"),
        (lambda hu: np.digitize(hu, [-900, -500, -100, 100, 300]), "no air"),
        (lambda hu: (hu - hu.mean()) / hu.std(), "no air"),
        (lambda hu: in_a_circle(hu + 1024, -1000), "tissue around"),
        (lambda hu: np.full_like(hu, -1000), "no tissue"),
        (np.zeros_like, "no air"),
        (lambda hu: np.where(hu < 0, 32767, hu), "no air"),
    ],
    ids=[
        "0-4095",
        "+1000",
        "-1024",
        "0-1",
        "0-255",
        "/1000",
        "x2",
        "x10",
        "negative",
        "mask",
        "labels",
        "z-score",
        "padded",
        "air",
        "zeros",
        "wrapped",
    ],
)
def test_what_is_no_hu_is_refused(make: Callable[[], Volume], change: Callable[[Volume], Volume], finding: str) -> None:
    with pytest.raises(UnreadableCtError, match=rf"^Voxels must be HU .*, got .*({finding})"):
        check(change(make().astype(float)))


def test_the_message_holds_percentiles_file_and_cure() -> None:
    with pytest.raises(UnreadableCtError) as refused:
        check_plausible_hu(np.full((8, 8, 8), 7, dtype=np.int16), where="scan.mhd, series 1.2.3")
    assert "percentiles 1, 50, 99 are 7, 7, 7 (scan.mhd, series 1.2.3)" in str(refused.value)
    assert "LUNA_ASSUME_HU=1" in str(refused.value)


@pytest.mark.parametrize(("value", "is_checked"), [("1", False), ("0", True), ("", True)])
def test_the_user_may_say_that_these_are_hu(value: str, is_checked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUNA_ASSUME_HU", value)
    if is_checked:
        with pytest.raises(UnreadableCtError):
            check(np.zeros((4, 4, 4)))
    else:
        check(np.zeros((4, 4, 4)))
