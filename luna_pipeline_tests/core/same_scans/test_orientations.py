"""The 48 orientations, and where they take a voxel."""

import numpy as np

from luna_pipeline.core.same_scans.orientations import ORIENTATIONS, Orientation


def test_there_are_48_different_orientations_and_the_first_is_the_identity():
    values = np.arange(27).reshape(3, 3, 3)
    assert len({each.of(values).tobytes() for each in ORIENTATIONS}) == 48
    assert ORIENTATIONS[0].is_identity
    assert sum(each.is_identity for each in ORIENTATIONS) == 1


def test_places_follow_the_voxels():
    values = np.arange(24).reshape(2, 3, 4)
    voxels = np.argwhere(values >= 0)
    for each in ORIENTATIONS:
        moved = each.places(voxels, (2, 3, 4))
        np.testing.assert_array_equal(each.of(values)[tuple(moved.T)], values[tuple(voxels.T)])


def test_its_text_has_the_old_axes_in_the_new_order():
    assert str(Orientation((2, 0, 1), (True, False, False))) == "-col +index +row"
