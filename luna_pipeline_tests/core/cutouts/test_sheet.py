import io

import numpy as np
import pytest
from PIL import Image

from luna_pipeline.core.cutouts.sheet import Section, cutout_sheet, sectioned_sheet


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
    grey = {
        name: picture[6 + row, 6 + col]
        for name, row, col in [
            ("top left", 20, 30),
            ("top right", 20, 90),
            ("bottom left", 60, 30),
            ("bottom right", 60, 90),
        ]
    }
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


def section(heading: str, count: int, hu: int = -1000) -> Section:
    return Section(heading, np.full((count, 3, 48, 48), hu, dtype=np.int16), [""] * count)


def drawn_sections(sections, **options) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(sectioned_sheet(sections, **options))))


def test_sections_lie_below_each_other_each_under_its_heading():
    picture = drawn_sections([section("first", 2, hu=400), section("second", 1, hu=-300)], columns=3, scale=1)
    heading_height, tiles_height = 6 + 18, 6 + 48 + 6 + 15 + 2
    tops = [heading_height + 6, 2 * heading_height + tiles_height + 6]

    assert picture.shape == (2 * (heading_height + tiles_height) + 15, 6 + 3 * 54)
    assert [picture[tops[0] + 24, 6 + 54 * place + 24] for place in range(3)] == [255, 255, 16]
    assert [picture[tops[1] + 24, 6 + 54 * place + 24] for place in range(2)] == [128, 16]
    assert all(picture[top - heading_height : top - 6].max() > 200 for top in tops)


def test_an_empty_section_says_so_and_takes_no_more_room_than_that():
    with_none = drawn_sections([section("first", 1), section("second", 0)])
    heading_height = 6 + 18
    assert with_none.shape[0] == drawn_sections([section("first", 1)]).shape[0] + heading_height
    heading = with_none[-heading_height - 15 : -15]
    assert np.array_equal(heading, drawn_sections([section("second: none", 1)])[:heading_height])


def test_a_sheet_of_sections_stays_below_100_kb_even_of_noise():
    chunks = np.random.default_rng(0).integers(-1000, 400, size=(24, 3, 48, 48)).astype(np.int16)
    noise = [Section(name, part, ["score 0.987"] * 12) for name, part in (("a", chunks[:12]), ("b", chunks[12:]))]
    assert len(sectioned_sheet(noise)) < 100_000


def test_greys_are_kept_where_there_is_room_for_them():
    ramp = np.broadcast_to(np.linspace(-1000, 400, 200).astype(np.int16), (1, 3, 48, 200))
    assert len(np.unique(drawn_sections([Section("", ramp, [""])], scale=1))) > 190


def test_synthetic_data_is_called_synthetic():
    plain, synthetic = (drawn_sections([section("a", 1)], is_synthetic=flag)[-15:] for flag in (False, True))
    first_ink = [np.flatnonzero((line > 60).any(axis=0)).min() for line in (plain, synthetic)]
    assert first_ink[1] < first_ink[0] - 60


@pytest.mark.parametrize("sections", [[], [section("a", 0), section("b", 0)]])
def test_sections_without_any_cutout_are_refused(sections):
    with pytest.raises(ValueError, match="A sheet must show a cutout, got none in"):
        sectioned_sheet(sections)


def test_a_section_with_a_caption_too_few_is_refused():
    with pytest.raises(ValueError, match="caption a cutout"):
        sectioned_sheet([section("a", 1), Section("b", np.zeros((2, 3, 8, 8), dtype=np.int16), ["one"])])
