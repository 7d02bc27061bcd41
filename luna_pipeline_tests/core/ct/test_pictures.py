"""HU as grey levels."""

import numpy as np
import pytest

from luna_pipeline.core.ct.pictures import LUNG_WINDOW_HU, SOFT_TISSUE_WINDOW_HU, to_greys


@pytest.mark.parametrize(
    ("window_hu", "level", "width"), [(LUNG_WINDOW_HU, -600, 1500), (SOFT_TISSUE_WINDOW_HU, 40, 400)]
)
def test_the_window_is_black_at_its_lower_end_and_white_at_its_upper(window_hu, level, width):
    hounsfield = np.array([-32768, level - width // 2, level, level + width // 2, 32767], dtype=np.int16)
    assert to_greys(hounsfield, window_hu).tolist() == [0, 0, 128, 255, 255]
