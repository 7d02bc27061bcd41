import numpy as np

from luna_pipeline.core.models.mask_picture import PREDICTED_COLOUR, TRUE_COLOUR, MaskSlice, mask_picture


def a_slice(*, true, predicted) -> MaskSlice:
    masks = {name: np.zeros((6, 8), dtype=bool) for name in ("true", "predicted")}
    masks["true"][true] = True
    masks["predicted"][predicted] = True
    return MaskSlice(np.full((6, 8), -400.0, dtype=np.float32), **masks)


def test_slices_are_enlarged_and_outlined_in_two_colours():
    pixels = mask_picture([a_slice(true=np.s_[1:4, 1:4], predicted=np.s_[4:6, 5:8])])
    assert pixels.shape == (18, 24, 3)
    assert pixels.dtype == np.uint8
    assert tuple(pixels[3, 3]) == TRUE_COLOUR
    # Only the outline is drawn.
    assert tuple(pixels[7, 7]) == (127, 127, 127)
    assert tuple(pixels[12, 15]) == PREDICTED_COLOUR
    assert tuple(pixels[0, 0]) == (127, 127, 127)


def test_rows_have_four_slices_with_gaps():
    five = [a_slice(true=np.s_[:0], predicted=np.s_[:0])] * 5
    pixels = mask_picture(five)
    assert pixels.shape == (2 * 18 + 4, 4 * 24 + 3 * 4, 3)
    assert not pixels[18:22].any()
    assert not pixels[22:, 24:].any()
