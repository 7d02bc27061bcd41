"""Mean HU of cells: a hand-made scan, and the same means on other grids."""

import numpy as np

from luna_pipeline.core.same_scans.thumbnails import cell_means, thumbnail_of
from luna_pipeline_tests.core.same_scans.examples import noisy_tissue


def test_voxels_on_a_border_count_with_their_parts():
    scan = np.array([[[0, 100, 200]]], np.int16)
    np.testing.assert_allclose(cell_means(scan, (1, 1, 2)), [[[100 / 3, 500 / 3]]], rtol=1e-6)


def test_air_padding_and_metal_are_clipped_before():
    scan = np.array([[[-3024, 0]], [[3071, 0]]], np.int16)
    np.testing.assert_array_equal(cell_means(scan, (2, 1, 1)).ravel(), [-500, 200])


def test_a_copy_with_twice_the_voxels_has_the_same_thumbnail():
    scan = noisy_tissue(0, (20, 30, 40))
    finer = scan.repeat(2, axis=0).repeat(2, axis=1).repeat(2, axis=2)
    assert np.abs(thumbnail_of(scan) - thumbnail_of(finer)).max() <= 1
    assert thumbnail_of(scan).shape == (16, 16, 16)
