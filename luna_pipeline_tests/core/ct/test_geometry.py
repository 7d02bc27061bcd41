import numpy as np
import pytest
import SimpleITK as sitk

from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline_tests.phantoms import IDENTITY, grid_of, random_direction

NUM_POINTS = 10_000


def itk_image(seed: int) -> sitk.Image:
    """A random grid: anisotropic, oblique, mirrored for odd seeds."""
    rng = np.random.default_rng(seed)
    image = sitk.Image([int(size) for size in rng.integers(20, 60, size=3)], sitk.sitkInt16)
    image.SetSpacing([float(value) for value in rng.uniform(0.4, 3.0, size=3)])
    image.SetOrigin([float(value) for value in rng.uniform(-400, 400, size=3)])
    image.SetDirection(random_direction(seed))
    return image


def points_around(image: sitk.Image, seed: int):
    """World points in and around the image, shape (N, 3)."""
    rng = np.random.default_rng(seed + 1000)
    size = np.array(image.GetSize())
    voxels = rng.uniform(-0.5 * size, 1.5 * size, size=(NUM_POINTS, 3))
    return np.array([image.TransformContinuousIndexToPhysicalPoint(voxel) for voxel in voxels.tolist()])


@pytest.mark.seed_defect(21, "a")
@pytest.mark.parametrize("seed", range(4))
def test_world_to_voxel_agrees_with_simpleitk(seed):
    image = itk_image(seed)
    points_xyz = points_around(image, seed)
    expected_xyz = np.array([image.TransformPhysicalPointToContinuousIndex(point) for point in points_xyz.tolist()])
    np.testing.assert_allclose(grid_of(image).world_to_voxel(points_xyz), expected_xyz[:, ::-1], atol=1e-6, rtol=0)


@pytest.mark.seed_defect(22)
@pytest.mark.parametrize("seed", range(4))
def test_voxel_to_world_agrees_with_simpleitk(seed):
    image = itk_image(seed)
    voxels_irc = np.random.default_rng(seed).uniform(-50, 100, size=(NUM_POINTS, 3))
    expected = [image.TransformContinuousIndexToPhysicalPoint(voxel[::-1]) for voxel in voxels_irc.tolist()]
    np.testing.assert_allclose(grid_of(image).voxel_to_world(voxels_irc), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("seed", range(4))
def test_there_and_back_is_where_it_was(seed):
    image = itk_image(seed)
    grid, points_xyz = grid_of(image), points_around(image, seed)
    np.testing.assert_allclose(grid.voxel_to_world(grid.world_to_voxel(points_xyz)), points_xyz, atol=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_nearest_voxel_is_that_of_itk(seed):
    image = itk_image(seed)
    points_xyz = points_around(image, seed)
    expected_xyz = np.array([image.TransformPhysicalPointToIndex(point) for point in points_xyz.tolist()])
    np.testing.assert_array_equal(grid_of(image).nearest_voxel(points_xyz), expected_xyz[:, ::-1])


@pytest.mark.parametrize("seed", range(4))
def test_a_point_is_converted_to_the_same_bits_in_any_company(seed):
    grid, points_xyz = grid_of(itk_image(seed)), points_around(itk_image(seed), seed)
    for convert in (grid.world_to_voxel, grid.voxel_to_world):
        together = convert(points_xyz)
        np.testing.assert_array_equal(together, np.array([convert(point) for point in points_xyz]))
        np.testing.assert_array_equal(together[:5], convert(points_xyz[:5]))


def test_ties_round_upwards_as_in_itk():
    image = sitk.Image([8, 8, 8], sitk.sitkInt16)
    ties = np.array([[x, 0.5, 1.5] for x in (-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5)])
    expected_xyz = np.array([image.TransformPhysicalPointToIndex(point) for point in ties.tolist()])
    nearest = grid_of(image).nearest_voxel(ties)
    np.testing.assert_array_equal(nearest, expected_xyz[:, ::-1])
    np.testing.assert_array_equal(nearest[:, 2], [-2, -1, 0, 1, 2, 3, 4])


@pytest.mark.seed_defect(21, "a")
def test_quarter_turn_by_hand():
    # The col axis points along world y, the row axis along world -x.
    turned = VoxelGrid((9, 99, 99), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (0, -1, 0, 1, 0, 0, 0, 0, 1))
    np.testing.assert_allclose(turned.world_to_voxel([-20.0, 5.0, 3.0]), [3, 20, 5])
    np.testing.assert_allclose(turned.voxel_to_world([3, 20, 5]), [-20, 5, 3])


@pytest.mark.seed_defect(22, "a")
def test_anisotropic_grid_by_hand():
    grid = VoxelGrid((40, 30, 20), (0.5, 0.75, 2.0), (-10.0, -20.0, -30.0), IDENTITY)
    np.testing.assert_allclose(grid.voxel_to_world([1, 2, 3]), [-8.5, -18.5, -28.0])
    np.testing.assert_allclose(grid.world_to_voxel([-8.5, -18.5, -28.0]), [1, 2, 3])


@pytest.mark.seed_defect(25)
def test_world_positions_keep_double_precision():
    grid = VoxelGrid((40, 30, 20), (0.7, 0.7, 1.25), (-166.0, -171.7, -340.0), IDENTITY)
    shift_mm = grid.world_to_voxel([100.0 + 1e-9, 0, 0]) - grid.world_to_voxel([100.0, 0, 0])
    assert shift_mm[2] == pytest.approx(1e-9 / 0.7, rel=1e-3)


def test_contains_knows_each_face():
    grid = VoxelGrid((2, 3, 4), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), IDENTITY)
    inside = [[0, 0, 0], [1, 2, 3], [0, 2, 0]]
    outside = [[-1, 0, 0], [2, 0, 0], [0, -1, 0], [0, 3, 0], [0, 0, -1], [0, 0, 4]]
    assert grid.contains(inside).all()
    assert not grid.contains(outside).any()


def test_single_points_and_stacks_have_the_shape_asked():
    grid = VoxelGrid((2, 3, 4), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), IDENTITY)
    assert grid.world_to_voxel([1, 2, 3]).shape == (3,)
    assert grid.nearest_voxel(np.zeros((5, 2, 3))).shape == (5, 2, 3)
    assert grid.contains(np.zeros((5, 2, 3))).shape == (5, 2)


@pytest.mark.seed_defect(23, 24)
def test_grids_are_values():
    grid = VoxelGrid((2, 3, 4), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), IDENTITY)
    twin = VoxelGrid((2, 3, 4), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), IDENTITY)
    digest = hash(grid)
    grid.world_to_voxel([1, 2, 3])
    assert grid == twin
    assert hash(grid) == digest == hash(twin)
    assert grid != "a grid"


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"size_irc": (0, 3, 4)}, "Size must be"),
        ({"size_irc": (3, 4)}, "Size must be"),
        ({"spacing_mm": (1.0, 0.0, 1.0)}, "Spacing must be"),
        ({"spacing_mm": (1.0, float("nan"), 1.0)}, "Spacing must be"),
        ({"spacing_mm": (1.0, float("inf"), 1.0)}, "Spacing must be"),
        ({"spacing_mm": (1.0, 1.0, 0.049)}, "Spacing of a CT must be from 0.05 to 20 mm, got .1.0, 1.0, 0.049"),
        ({"spacing_mm": (20.01, 1.0, 1.0)}, "Spacing of a CT must be from 0.05 to 20 mm, got .20.01"),
        ({"size_irc": (2, 4001, 4)}, "A CT must be at most 4000 mm long, got 4001 mm"),
        ({"origin_xyz": (0.0, -10_001.0, 0.0)}, "Origin of a CT must be within 10000 mm, got .0.0, -10001.0"),
        ({"origin_xyz": (0.0, float("nan"), 0.0)}, "Origin must be"),
        ({"direction": (1.0,) * 9}, "Direction must be"),
        ({"direction": (1.0, 0.0, 0.0)}, "Direction must be"),
    ],
)
def test_senseless_grids_are_refused(changed, rule):
    right = {"size_irc": (2, 3, 4), "spacing_mm": (1, 1, 1), "origin_xyz": (0, 0, 0), "direction": IDENTITY}
    with pytest.raises(ValueError, match=rule):
        VoxelGrid(**{**right, **changed})


@pytest.mark.parametrize(
    ("size_irc", "spacing_mm"),
    [((200, 2048, 2048), (0.1, 0.1, 0.2)), ((16, 512, 512), (0.98, 0.98, 20.0)), ((2500, 512, 512), (0.98, 0.98, 0.8))],
)
def test_clinical_cts_are_within_the_limits(size_irc, spacing_mm):
    assert VoxelGrid(size_irc, spacing_mm, (-250.0, -250.0, -2400.0), IDENTITY).size_irc == size_irc
