"""A synthetic series: the same for the same seed, HU of a chest, findings at their stated positions."""

from dataclasses import replace

import numpy as np
import pytest

from luna_pipeline.core.phantom.series import PhantomConfig, make_series

SIZE_IRC = (48, 96, 96)
# By their numbers: padded, flipped, plain, plain, without nodules and padded, oblique.
NUMBERS = range(6)


@pytest.fixture(scope="module")
def all_series():
    return [make_series(PhantomConfig(seed=7, number=number, size_irc=SIZE_IRC)) for number in NUMBERS]


def distances_mm(points, centers):
    points, centers = np.asarray(points, float).reshape(-1, 1, 3), np.asarray(centers, float).reshape(1, -1, 3)
    return np.linalg.norm(points - centers, axis=2)


def test_equal_configurations_give_equal_bytes_and_findings(all_series):
    again = make_series(PhantomConfig(seed=7, number=1, size_irc=SIZE_IRC))
    assert again.hounsfield.tobytes() == all_series[1].hounsfield.tobytes()
    assert again.findings == all_series[1].findings
    assert again.grid == all_series[1].grid


@pytest.mark.parametrize("change", [{"seed": 8}, {"number": 2}])
def test_another_seed_or_number_changes_voxels_findings_and_uid(all_series, change):
    other = make_series(replace(all_series[1].config, **change))
    assert (other.hounsfield != all_series[1].hounsfield).mean() > 0.5
    assert other.findings != all_series[1].findings
    assert other.config.series_instance_uid != all_series[1].config.series_instance_uid


def test_series_has_the_wanted_size_as_int16(all_series):
    assert {(series.hounsfield.shape, series.hounsfield.dtype) for series in all_series} == {
        (SIZE_IRC, np.dtype(np.int16))
    }
    assert {series.grid.size_irc for series in all_series} == {SIZE_IRC}


def test_small_size_keeps_voxel_spacing_and_nodule_sizes():
    for number in range(4):
        small, large = (
            make_series(PhantomConfig(seed=2, number=number, size_irc=size)) for size in ((40, 64, 64), (48, 112, 112))
        )
        assert small.grid.spacing_mm == large.grid.spacing_mm
        assert 0.5 <= small.grid.spacing_mm[0] == small.grid.spacing_mm[1] <= 0.9
        assert 0.6 <= small.grid.spacing_mm[2] <= 2.5
        assert all(3 <= nodule.diameter_mm <= 30 for nodule in small.findings.nodules)


def test_nodule_is_denser_than_lung_at_the_annotated_position(all_series):
    for series in all_series:
        lung_hu = np.median(series.hounsfield[(series.hounsfield > -950) & (series.hounsfield < -700)])
        for nodule in series.findings.nodules:
            i, r, c = series.grid.nearest_voxel(nodule.center_xyz)
            middle = series.hounsfield[i - 1 : i + 2, r - 1 : r + 2, c - 1 : c + 2]
            # The faintest is a ground-glass nodule of 3 mm between thick slices.
            assert middle.mean() > lung_hu + 50


def test_scan_shows_air_lung_soft_tissue_and_bone(all_series):
    inside = all_series[2].hounsfield
    shares = [((inside >= low) & (inside < high)).mean() for low, high in ((-950, -700), (-20, 100), (250, 1500))]
    assert shares[0] > 0.1
    assert shares[1] > 0.1
    # Bones of such a small chest are thin; a few voxels of ribs and spine are still visible.
    assert shares[2] > 0.001


def test_candidate_lies_in_the_ct(all_series):
    for series in all_series:
        points = [candidate.center_xyz for candidate in series.findings.candidates]
        assert points
        assert series.grid.contains(series.grid.nearest_voxel(points)).all()


def test_class_1_lies_inside_an_annotation_and_class_0_outside_all(all_series):
    for series in all_series:
        centers = [nodule.center_xyz for nodule in series.findings.nodules]
        radii = np.array([nodule.radius_mm for nodule in series.findings.nodules])
        for candidate in series.findings.candidates:
            is_inside = (distances_mm(candidate.center_xyz, centers)[0] < radii).any()
            assert is_inside == candidate.is_nodule


def test_scan_without_nodules_has_candidates_but_no_annotation(all_series):
    assert [bool(series.findings.nodules) for series in all_series] == [True, True, True, True, False, True]
    assert not any(candidate.is_nodule for candidate in all_series[4].findings.candidates)


def test_axes_are_flipped_or_oblique_by_number_and_always_right_handed(all_series):
    axes = [np.asarray(series.grid.direction).reshape(3, 3) for series in all_series]
    assert np.array_equal(axes[1], np.diag([-1, -1, 1]))
    assert [np.count_nonzero(np.abs(matrix) > 1e-6) > 3 for matrix in axes] == [False, False, False, False, False, True]
    assert np.allclose([np.linalg.det(matrix) for matrix in axes], 1)


def test_padding_fills_the_corners_of_some_scans_and_nothing_of_others(all_series):
    corners = [int(series.hounsfield[0, 0, 0]) for series in all_series]
    assert (corners[0], corners[4]) == (-2000, -3024)
    assert (all_series[0].hounsfield == -2000).mean() == pytest.approx(1 - np.pi / 4, abs=0.02)
    assert min(series.hounsfield.min() for series in all_series[1:4]) >= -1024


def test_noise_is_correlated_between_neighbours_within_and_across_slices(all_series):
    air = all_series[2].hounsfield[:, :6, :].astype(float)
    air -= air.mean()

    def correlation(one, other):
        return float((one * other).mean() / (air**2).mean())

    assert correlation(air[:, :, 1:], air[:, :, :-1]) > 0.1
    assert correlation(air[1:], air[:-1]) > 0.1
    assert abs(correlation(air[:, :, 8:], air[:, :, :-8])) < 0.05


def test_uid_is_valid_and_names_the_root_for_unregistered_uids():
    uids = {PhantomConfig(seed, number).series_instance_uid for seed in range(3) for number in range(50)}
    assert len(uids) == 150
    assert all(uid.startswith("2.25.") and uid[5:].isdigit() and uid[5] != "0" for uid in uids)
    assert max(map(len, uids)) <= 64


def test_patient_has_two_series_now_and_then():
    patients = [PhantomConfig(0, number).patient_id for number in range(8)]
    assert patients == [f"PHANTOM-{number:04d}" for number in (0, 1, 2, 2, 3, 4, 5, 5)]


@pytest.mark.parametrize(
    "arguments", [{"seed": -1}, {"number": -1}, {"size_irc": (16, 96, 96)}, {"size_irc": (64, 64)}]
)
def test_impossible_configuration_is_refused(arguments):
    with pytest.raises(ValueError, match="got"):
        PhantomConfig(**({"seed": 0, "number": 0} | arguments))


@pytest.mark.slow
def test_scan_of_full_size_has_512_rows_and_covers_a_chest():
    series = make_series(PhantomConfig(seed=0, number=0))
    assert series.hounsfield.shape[1:] == (512, 512)
    assert 250 < series.grid.size_irc[0] * series.grid.spacing_mm[2] < 350
