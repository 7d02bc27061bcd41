import numpy as np
import pytest
import SimpleITK as sitk

from luna_pipeline.core.cutouts.cutting import CuttingParameters, cut_chunks
from luna_pipeline.core.cutouts.resampling import resample_chunks
from luna_pipeline_tests.core.cutouts.test_cutting import (
    corners_and,
    extracted_by_itk,
    grid_of,
    padded_by_itk,
    shifted_plainly,
)
from luna_pipeline_tests.phantoms import make_image, random_direction, random_hounsfield

SIZE_IRC = (20, 30, 40)
SPACINGS_MM = [(0.5, 0.5, 0.5), (0.7, 0.7, 2.5), (1.0, 0.6, 3.1), (2.0, 2.0, 2.0)]


def resampled_by_itk(image: sitk.Image, grid) -> sitk.Image:
    """The whole image on another grid, padding taken for air before it is interpolated."""
    filled = sitk.Maximum(sitk.Cast(image, sitk.sitkFloat32), -1000.0)
    size = [int(n) for n in reversed(grid.size_irc)]
    arguments = (grid.origin_xyz, grid.spacing_mm, grid.direction, -5000.0, sitk.sitkFloat32)
    return sitk.Resample(filled, size, sitk.Transform(), sitk.sitkLinear, *arguments)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("spacing_mm", SPACINGS_MM)
def test_chunks_are_those_of_the_ct_resampled_whole_by_simpleitk(seed, spacing_mm):
    hounsfield = np.maximum(random_hounsfield(SIZE_IRC, seed=seed), -1000)
    image = make_image(hounsfield, direction=random_direction(seed))
    grid = grid_of(image)
    parameters = CuttingParameters((8, 10, 12), resampled_spacing_mm=spacing_mm)
    resampled = grid.resampled(spacing_mm)
    whole = resampled_by_itk(image, resampled)
    assert sitk.GetArrayViewFromImage(whole).min() >= -1000, "every voxel of the resampled grid lies in the CT"
    centers = corners_and(20, resampled.size_irc)
    chunks = resample_chunks(hounsfield, grid, centers, parameters)
    padded = padded_by_itk(whole, parameters)
    for chunk, center_irc in zip(chunks, centers, strict=True):
        expected = extracted_by_itk(padded, resampled.voxel_to_world(center_irc), parameters)
        assert np.abs(chunk.astype(np.float64) - expected).max() <= 1


def test_no_finer_voxel_beyond_the_last_one_would_lie_in_the_ct():
    image = make_image(random_hounsfield(SIZE_IRC), direction=random_direction(1))
    grid = grid_of(image)
    for spacing_mm in SPACINGS_MM:
        resampled = grid.resampled(spacing_mm)
        last_irc = np.asarray(resampled.size_irc) - 1
        inside, beyond = (grid.world_to_voxel(resampled.voxel_to_world(last_irc + extra)) for extra in (0, 1))
        assert (inside < np.asarray(grid.size_irc) - 0.5).all()
        assert (beyond >= np.asarray(grid.size_irc) - 0.5 - 1e-6).all()


def test_at_the_cts_own_spacing_nothing_is_interpolated():
    hounsfield = random_hounsfield(SIZE_IRC)
    grid = grid_of(make_image(hounsfield))
    same = CuttingParameters((8, 10, 12), resampled_spacing_mm=grid.spacing_mm)
    centers = corners_and(20)
    expected = cut_chunks(hounsfield, centers, CuttingParameters((8, 10, 12)))
    np.testing.assert_array_equal(resample_chunks(hounsfield, grid, centers, same), expected)


def test_shift_moves_the_box_in_the_resampled_ct():
    hounsfield = np.maximum(random_hounsfield(SIZE_IRC), -1000)
    image = make_image(hounsfield)
    grid = grid_of(image)
    parameters = CuttingParameters((8, 10, 12), edge_rule="shift", resampled_spacing_mm=(0.9, 0.9, 0.9))
    resampled = grid.resampled((0.9, 0.9, 0.9))
    whole = sitk.GetArrayFromImage(resampled_by_itk(image, resampled))
    centers = corners_and(10, resampled.size_irc)
    for chunk, center_irc in zip(resample_chunks(hounsfield, grid, centers, parameters), centers, strict=True):
        expected = shifted_plainly(whole, center_irc, (8, 10, 12))
        assert np.abs(chunk - expected).max() <= 1


def test_padding_is_air_before_it_is_interpolated():
    hounsfield = np.full((2, 2, 3), -3024, dtype=np.int16)
    hounsfield[..., 2] = 0
    grid = grid_of(make_image(hounsfield, spacing_mm=(1.0, 1.0, 1.0)))
    parameters = CuttingParameters((1, 1, 4), resampled_spacing_mm=(0.5, 1.0, 1.0))
    chunk = resample_chunks(hounsfield, grid, np.array([[0, 0, 3]]), parameters)
    assert chunk.ravel().tolist() == [-1000, -1000, -500, 0]


def test_wrong_calls_are_refused():
    hounsfield = random_hounsfield(SIZE_IRC)
    grid = grid_of(make_image(hounsfield))
    with pytest.raises(ValueError, match="A spacing must be given"):
        resample_chunks(hounsfield, grid, np.array([[0, 0, 0]]), CuttingParameters())
    with pytest.raises(ValueError, match="must lie in the CT"):
        resample_chunks(
            hounsfield, grid, np.array([[999, 0, 0]]), CuttingParameters(resampled_spacing_mm=(1.0, 1.0, 1.0))
        )
