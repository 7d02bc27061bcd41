"""Slices that are a little off their places, and positions that another attribute contradicts."""

import numpy as np
import pytest

from luna_pipeline.core.ct.reading import UnreadableCtError, read_ct
from luna_pipeline_tests.phantoms import edit_dicom, random_hounsfield, write_dicom_series

UID, NUM_SLICES, GAP_MM = "1.2.3", 24, 2.5


@pytest.fixture
def write(tmp_path):
    def series(offsets_xyz=None, locations=None):
        """Write slices at their places plus (x, y, z) mm each, with a SliceLocation each."""
        folder = write_dicom_series(tmp_path, UID, random_hounsfield((NUM_SLICES, 8, 10)))
        for place in range(NUM_SLICES):
            tags = {}
            if offsets_xyz is not None:
                position = np.array([-50.0, -40.0, -300.0 + GAP_MM * place]) + offsets_xyz[place]
                tags["ImagePositionPatient"] = [f"{value:.6f}" for value in position]
            if locations is not None:
                tags["SliceLocation"] = float(locations[place])
            edit_dicom(folder / f"slice{NUM_SLICES - place:04d}.dcm", **tags)
        return folder

    return series


def reason_of(folder):
    with pytest.raises(UnreadableCtError) as raised:
        read_ct(folder, series_instance_uid=UID)
    return str(raised.value)


def along(axis, values_mm):
    offsets = np.zeros((NUM_SLICES, 3))
    offsets[:, axis] = values_mm
    return offsets


PLACES = np.arange(NUM_SLICES)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_drift_above_a_tenth_of_a_mm_is_refused_and_one_below_is_read(write, axis):
    assert "got a drift of 0.2 mm over the scan" in reason_of(
        write(along(axis, 0.2 * PLACES / (NUM_SLICES - 1) + 1e-6))
    )
    read_ct(write(along(axis, 0.09 * PLACES / (NUM_SLICES - 1))), series_instance_uid=UID)


def test_a_bend_that_ends_where_it_began_is_refused(write):
    assert "got a drift of 0.5 mm" in reason_of(write(along(1, np.where((PLACES > 5) & (PLACES < 15), 0.5, 0.0))))


def test_gaps_that_add_up_are_refused(write):
    wider = 0.0095 * np.minimum(PLACES, NUM_SLICES - 1 - PLACES)
    assert "mm from its place" in reason_of(write(along(2, wider)))
    read_ct(write(along(2, 0.8 * wider)), series_instance_uid=UID)


@pytest.mark.parametrize("sign", [1, -1])
def test_exchanged_positions_are_refused_by_the_locations(write, sign):
    locations = sign * GAP_MM * PLACES
    locations[[4, 9]] = locations[[9, 4]]
    reason = reason_of(write(locations=locations))
    assert "ImagePositionPatient and SliceLocation must order slices alike, got 2 slices at other places" in reason


@pytest.mark.parametrize(
    "locations",
    [
        GAP_MM * PLACES,
        -1.7 * PLACES + 1000,
        np.random.default_rng(0).permutation(NUM_SLICES),
        np.zeros(NUM_SLICES),
        np.repeat(np.arange(NUM_SLICES // 2), 2),
        np.where(PLACES == 3, np.nan, PLACES),
    ],
    ids=["along", "against", "random", "equal", "rounded", "missing"],
)
def test_locations_of_another_meaning_are_ignored(write, locations):
    folder = write(locations=np.nan_to_num(locations))
    if np.isnan(locations).any():
        edit_dicom(folder / "slice0021.dcm", SliceLocation=None)
    assert read_ct(folder, series_instance_uid=UID).grid.size_irc == (NUM_SLICES, 8, 10)
