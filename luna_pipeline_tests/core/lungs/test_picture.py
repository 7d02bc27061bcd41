"""The picture of the lungs: two sections, the outline, the intended use."""

import io

import numpy as np
import pytest
from PIL import Image

from luna_pipeline.core.lungs.mask import find_lungs
from luna_pipeline.core.lungs.picture import HEIGHT, MAX_BYTES, OUTLINE_RGB, lungs_png
from luna_pipeline.core.phantom.series import PhantomConfig, make_series


@pytest.fixture(scope="module")
def drawn():
    series = make_series(PhantomConfig(3, 1, (48, 64, 64)))
    lungs = find_lungs(series.hounsfield, series.grid)
    return series, lungs, lungs_png(series.hounsfield, series.grid, lungs, is_synthetic=True)


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def test_the_outline_is_drawn_in_its_colour(drawn):
    is_outline = (pixels(drawn[2]) == OUTLINE_RGB).all(axis=-1)
    assert 0.002 < is_outline.mean() < 0.1
    assert is_outline[HEIGHT + 10 :].sum() == 0


def test_it_is_small_and_the_same_each_time(drawn):
    series, lungs, png = drawn
    assert len(png) < MAX_BYTES
    assert lungs_png(series.hounsfield, series.grid, lungs, is_synthetic=True) == png


def test_synthetic_data_is_called_so(drawn):
    series, lungs, png = drawn
    assert not np.array_equal(pixels(png)[-18:], pixels(lungs_png(series.hounsfield, series.grid, lungs))[-18:])


def test_a_noisy_ct_still_makes_a_small_picture(drawn):
    series, lungs, _ = drawn
    noise = np.random.default_rng(0).integers(-1200, 300, series.hounsfield.shape).astype(np.int16)
    assert len(lungs_png(noise, series.grid, lungs)) < 1.5 * MAX_BYTES


@pytest.mark.parametrize(("axis", "left"), [(1, 40), (0, 340)], ids=["front in the axial", "head in the coronal"])
def test_front_and_head_are_at_the_top(drawn, axis, left):
    series, lungs, _ = drawn
    # Half of the patient, the one in front or the upper one, is bright; this phantom runs against row and col.
    marked = np.full_like(series.hounsfield, -1200)
    half = [slice(None)] * 3
    half[axis] = slice(series.grid.size_irc[axis] // 2, None)
    marked[tuple(half)] = 300
    section = pixels(lungs_png(marked, series.grid, lungs))[20 : HEIGHT - 20, left : left + 20].mean(axis=(1, 2))
    assert section[: len(section) // 3].mean() > 200
    assert section[-len(section) // 3 :].mean() < 60
