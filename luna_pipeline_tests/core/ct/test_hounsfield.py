import numpy as np
import pytest

from luna_pipeline.core.ct import hounsfield as module
from luna_pipeline.core.ct.errors import UnreadableCtError
from luna_pipeline.core.ct.hounsfield import to_hounsfield


@pytest.mark.parametrize("num_part_voxels", [1, 7, 1000])
def test_the_parts_in_which_it_is_converted_do_not_show(monkeypatch, num_part_voxels):
    monkeypatch.setattr(module, "_PART_VOXELS", num_part_voxels)
    values = np.array([-1e9, -1000.6, -0.5, 0.5, 1.5, 40.4, 3071.0, 1e9] * 3).reshape(2, 3, 4)
    expected = np.array([-32768, -1001, 0, 0, 2, 40, 3071, 32767] * 3).reshape(2, 3, 4)
    for dtype in (np.float32, np.float64):
        converted = to_hounsfield(values.astype(dtype), series_instance_uid="1.2")
        assert converted.dtype == np.int16
        np.testing.assert_array_equal(converted, expected)
    whole = to_hounsfield(np.array([[40000, -5, -40000]], dtype=np.int32), series_instance_uid="1.2")
    assert whole.tolist() == [[32767, -5, -32768]]


def test_voxels_that_are_no_numbers_are_counted_over_all_parts(monkeypatch):
    monkeypatch.setattr(module, "_PART_VOXELS", 2)
    values = np.array([1.0, np.nan, 2.0, np.inf, -np.inf])
    with pytest.raises(UnreadableCtError, match=r"got 3 voxels that are not \(series 1.2\)"):
        to_hounsfield(values, series_instance_uid="1.2")


def test_int16_is_handed_through():
    values = np.array([1, 2], dtype=np.int16)
    assert to_hounsfield(values, series_instance_uid="1.2") is values
