"""Facts of voxels of blocks whose histogram, noise and padding are known."""

import math

import numpy as np
import pytest

from luna_pipeline.core.quality.voxel_facts import HISTOGRAM_HU, VoxelJob, histogram_of, sampled, voxel_facts
from luna_pipeline_tests.core.quality.examples import chest
from luna_pipeline_tests.phantoms import IDENTITY, grid_of, make_image, write_ct, write_dicom_series


def facts_of(hounsfield, direction=IDENTITY):
    return voxel_facts(hounsfield, grid_of(make_image(hounsfield, direction=direction)))


@pytest.mark.parametrize("noise_hu", [5.0, 20.0, 60.0])
def test_noise_is_the_standard_deviation_that_was_added(noise_hu):
    facts = facts_of(chest(noise_hu=noise_hu))
    assert facts.noise_hu == pytest.approx(noise_hu, rel=0.15, abs=1.0)
    assert facts.air_peak_hu == pytest.approx(-1000, abs=10)
    assert facts.tissue_peak_hu == pytest.approx(40, abs=15)
    assert facts.is_hounsfield


def test_the_histogram_is_numpys_with_the_rest_in_the_outer_bins():
    values = np.random.default_rng(0).integers(-1500, 1500, size=20_000).astype(np.int16)
    found = histogram_of(values)
    lower, upper = HISTOGRAM_HU
    expected, _ = np.histogram(np.clip(values, lower, upper - 1), bins=(upper - lower) // 10, range=HISTOGRAM_HU)
    assert found == expected.tolist()
    assert sum(found) == values.size


def test_padding_is_found_below_air_and_left_out_of_all_else():
    hounsfield = chest(noise_hu=10.0)
    hounsfield[:, :24] = -2000
    facts = facts_of(hounsfield)
    assert facts.padding_hu == -2000
    assert facts.padding_share == pytest.approx(0.25, abs=0.01)
    assert facts.lowest_hu == -2000
    assert facts.percentile_1_hu > -1100
    assert sum(facts.histogram) == pytest.approx(0.75 * hounsfield.size, rel=0.01)
    assert facts.noise_hu == pytest.approx(10.0, abs=2.0)


def test_air_that_was_clipped_is_no_padding():
    facts = facts_of(np.maximum(chest(noise_hu=30.0), -1024))
    assert math.isnan(facts.padding_hu)
    assert facts.padding_share == 0
    # Of normal noise, 21 % of the air is 24 HU or more below its mean.
    assert 0.05 < facts.clipped_share < 0.25


def test_numbers_that_are_no_hounsfield_are_named():
    facts = facts_of((chest(noise_hu=10.0) + 1024).astype(np.int16))
    assert not facts.is_hounsfield
    assert math.isnan(facts.air_peak_hu)


def test_gray_values_of_an_unknown_scale_are_not_taken_for_hounsfield():
    hounsfield = chest(noise_hu=10.0)
    facts = voxel_facts(hounsfield, grid_of(make_image(hounsfield)), is_scale_known=False)
    assert facts.is_hounsfield is None
    assert all(math.isnan(value) for value in (facts.air_peak_hu, facts.tissue_peak_hu, facts.noise_hu))
    assert sum(facts.histogram) == hounsfield.size


def test_equal_voxels_have_one_digest_in_every_format_and_order_of_axes(tmp_path):
    # The DICOM files of the tests hold nothing below.
    hounsfield = np.maximum(chest(noise_hu=20.0), -1024)
    write_ct(tmp_path, "1.1", hounsfield)
    turned = np.ascontiguousarray(hounsfield[::-1, ::-1])
    flipped = np.diag([1.0, -1.0, -1.0]).ravel().tolist()
    write_ct(tmp_path, "1.2", turned, direction=flipped, suffix=".nrrd")
    write_dicom_series(tmp_path / "dicom", "1.3", hounsfield)
    jobs = [(tmp_path / "1.1.mhd", "1.1"), (tmp_path / "1.2.nrrd", "1.2"), (tmp_path / "dicom", "1.3")]
    digests = {VoxelJob(path, uid).run().content_digest for path, uid in jobs}
    assert len(digests) == 1
    other = hounsfield.copy()
    other[12] += 1
    assert facts_of(other).content_digest not in digests


def test_a_sample_has_at_most_48_slices_of_256_pixels():
    assert sampled(np.zeros((200, 512, 300), dtype=np.int16)).shape == (40, 256, 150)
    assert sampled(np.zeros((40, 64, 64), dtype=np.int16)).shape == (40, 64, 64)
