import io

import numpy as np
import pytest
from PIL import Image

from luna_pipeline.core.cutouts.sheet import cutout_sheet


def drawn(chunks, captions, **options) -> np.ndarray:
    """The picture as grey values (rows, cols)."""
    image = Image.open(io.BytesIO(cutout_sheet(np.asarray(chunks, dtype=np.int16), captions, **options)))
    assert (image.format, image.mode) == ("PNG", "L")
    return np.asarray(image)


def test_the_middle_slice_is_drawn_in_the_lung_window_and_not_flipped():
    chunk = np.full((5, 20, 30), 3000)
    # Quarters of the middle slice: below the window, its lower end, its middle, above it.
    chunk[2, :10, :15], chunk[2, :10, 15:], chunk[2, 10:, :15], chunk[2, 10:, 15:] = -1500, -1000, -300, 500
    picture = drawn([chunk], ["a"], scale=4)
    grey = {name: picture[6 + row, 6 + col] for name, row, col in [
        ("top left", 20, 30), ("top right", 20, 90), ("bottom left", 60, 30), ("bottom right", 60, 90)
    ]}  # fmt: skip
    assert grey == {"top left": 0, "top right": 0, "bottom left": 128, "bottom right": 255}


def test_cutouts_are_laid_out_in_columns_in_their_order():
    levels = [0, 100, 200, 300]
    chunks = [np.full((3, 16, 16), -1000 + 1400 * level / 300) for level in levels]
    picture = drawn(chunks, ["", "", "", ""], columns=2, scale=2)
    tile_height = 32 + 6 + 15 + 2
    found = [int(picture[6 + 16 + tile_height * (n // 2), 6 + 16 + 38 * (n % 2)]) for n in range(4)]
    assert found == [0, 85, 170, 255]


def test_a_caption_is_written_below_its_own_cutout():
    chunks = np.full((2, 3, 48, 48), -1000)
    without, picture = drawn(chunks, ["", ""]), drawn(chunks, ["", "class 1"])
    changed = np.argwhere(without != picture)
    assert (changed[:, 0] >= 6 + 144).all()
    assert (changed[:, 1] >= 6 + 144 + 6).all()


def test_long_captions_are_broken_and_not_cut_off():
    chunks = np.full((1, 3, 48, 48), -1000)
    uid = "1.3.6.1.4.1.14519.5.2.1.6279.6001.179049373636438705059720603192"
    short, long = drawn(chunks, ["class 1"]), drawn(chunks, [f"class 1 {uid}\nfold 3"])
    assert long.shape[1] == short.shape[1]
    assert long.shape[0] >= short.shape[0] + 4 * 15


def test_the_sheet_says_research_use_only():
    corner = drawn(np.full((3, 3, 48, 48), -1000), ["", "", ""])[-16:, -120:]
    assert corner.max() > 120


def test_three_cutouts_take_less_than_100_kb_even_of_noise():
    chunks = np.random.default_rng(0).integers(-1000, 400, size=(3, 32, 48, 48)).astype(np.int16)
    assert len(cutout_sheet(chunks, ["nodule, 23 mm"] * 3)) < 100_000


def test_equal_cutouts_give_equal_bytes():
    chunks = np.zeros((1, 4, 8, 8), dtype=np.int16)
    assert cutout_sheet(chunks, ["a"]) == cutout_sheet(chunks.copy(), ["a"])


@pytest.mark.parametrize(
    ("shape", "captions", "options", "rule"),
    [
        ((0, 3, 8, 8), [], {}, "caption a cutout"),
        ((3, 8, 8), ["a", "b", "c"], {}, "caption a cutout"),
        ((2, 3, 8, 8), ["a"], {}, "caption a cutout"),
        ((1, 3, 8, 8), ["a"], {"columns": 0}, "at least 1, got 0 and 3"),
        ((1, 3, 8, 8), ["a"], {"scale": 0}, "at least 1, got 3 and 0"),
    ],
)
def test_nothing_to_draw_is_refused(shape, captions, options, rule):
    with pytest.raises(ValueError, match=rule):
        cutout_sheet(np.zeros(shape, dtype=np.int16), captions, **options)
