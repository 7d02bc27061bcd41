import itertools

import numpy as np
import pytest
import SimpleITK as sitk

from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.cutouts import cutting
from luna_pipeline.core.cutouts.cutting import CuttingParameters, cut_chunks
from luna_pipeline_tests.phantoms import make_image, random_direction, random_hounsfield

SIZE_IRC = (20, 30, 40)
SMALL = CuttingParameters(chunk_shape_irc=(8, 10, 12))
WIDE = CuttingParameters(chunk_shape_irc=(64, 10, 12), hu_window=(-3000, 3000))


def padded_by_itk(image: sitk.Image, parameters: CuttingParameters) -> sitk.Image:
    """The image with enough of the window's lower end around it for a box at any corner."""
    size = [int(n) for n in reversed(parameters.chunk_shape_irc)]
    return sitk.ConstantPad(image, size, size, parameters.hu_window[0])


def extracted_by_itk(padded: sitk.Image, point_xyz, parameters: CuttingParameters) -> np.ndarray:
    """The box around a physical point, by ITK's own indexing and extraction."""
    size = [int(n) for n in reversed(parameters.chunk_shape_irc)]
    lower, upper = parameters.hu_window
    index = padded.TransformPhysicalPointToIndex([float(value) for value in point_xyz])
    start = [i - n // 2 for i, n in zip(index, size, strict=True)]
    box = sitk.Extract(padded, size, start)
    return sitk.GetArrayFromImage(sitk.Clamp(box, sitk.sitkInt16, lower, upper))


def grid_of(image: sitk.Image) -> VoxelGrid:
    return VoxelGrid(image.GetSize()[::-1], image.GetSpacing(), image.GetOrigin(), image.GetDirection())


def shifted_plainly(hounsfield, center_irc, shape_irc) -> np.ndarray:
    """The book's rule, written out: a box that leaves the CT is moved back along that axis."""
    slices = []
    for center, size, length in zip(center_irc, shape_irc, hounsfield.shape, strict=True):
        start = center - size // 2
        end = start + size
        if start < 0:
            start, end = 0, size
        if end > length:
            start, end = length - size, length
        slices.append(slice(start, end))
    return hounsfield[tuple(slices)].clip(-1000, 1000)


def corners_and(count: int, size_irc=SIZE_IRC) -> np.ndarray:
    """All corners, and random voxels."""
    corners = list(itertools.product(*((0, n - 1) for n in size_irc)))
    rng = np.random.default_rng(0)
    inside = np.stack([rng.integers(n, size=count) for n in size_irc], axis=1)
    return np.concatenate([np.array(corners), inside]).astype(np.int32)


@pytest.mark.seed_defect(26, 27, "g")
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("parameters", [SMALL, WIDE])
def test_pad_agrees_with_simpleitk_at_the_physical_point(seed, parameters):
    hounsfield = random_hounsfield(SIZE_IRC, seed=seed) * 2
    # Values that no scanner measures are padding: air.
    image = make_image(np.where(hounsfield < -1024, np.int16(-1000), hounsfield), direction=random_direction(seed))
    grid = grid_of(image)
    rng = np.random.default_rng(seed)
    voxels = corners_and(60) + rng.uniform(-0.45, 0.45, size=(68, 3))
    points_xyz = grid.voxel_to_world(voxels)
    chunks = cut_chunks(hounsfield, grid.nearest_voxel(points_xyz), parameters)
    padded = padded_by_itk(image, parameters)
    for chunk, point_xyz in zip(chunks, points_xyz, strict=True):
        np.testing.assert_array_equal(chunk, extracted_by_itk(padded, point_xyz, parameters))


@pytest.mark.seed_defect(27)
@pytest.mark.parametrize("shape_irc", [(8, 10, 12), (7, 9, 11), (1, 1, 1), (20, 30, 40)])
def test_the_candidate_is_voxel_size_half_of_its_padded_chunk(shape_irc):
    hounsfield = random_hounsfield(SIZE_IRC)
    centers = corners_and(40)
    chunks = cut_chunks(hounsfield, centers, CuttingParameters(chunk_shape_irc=shape_irc))
    middle = chunks[:, shape_irc[0] // 2, shape_irc[1] // 2, shape_irc[2] // 2]
    np.testing.assert_array_equal(middle, hounsfield[tuple(centers.T)])


@pytest.mark.parametrize("shape_irc", [(8, 10, 12), (7, 9, 11), (20, 30, 40)])
def test_shift_agrees_with_the_books_rule(shape_irc):
    hounsfield = random_hounsfield(SIZE_IRC) * 2
    centers = corners_and(100)
    chunks = cut_chunks(hounsfield, centers, CuttingParameters(shape_irc, edge_rule="shift"))
    for chunk, center_irc in zip(chunks, centers, strict=True):
        np.testing.assert_array_equal(chunk, shifted_plainly(hounsfield, center_irc, shape_irc))


def test_both_rules_agree_where_the_box_stays_inside():
    hounsfield = random_hounsfield(SIZE_IRC)
    centers = np.array([[4, 5, 6], [10, 15, 20], [16, 25, 34]])
    shifted = CuttingParameters(SMALL.chunk_shape_irc, edge_rule="shift")
    np.testing.assert_array_equal(cut_chunks(hounsfield, centers, SMALL), cut_chunks(hounsfield, centers, shifted))


@pytest.mark.seed_defect(26)
def test_a_ct_of_20_slices_is_padded_to_32():
    hounsfield = np.full((20, 60, 60), 7, dtype=np.int16)
    chunk = cut_chunks(hounsfield, np.array([[10, 30, 30]]), CuttingParameters())[0]
    assert chunk.shape == (32, 48, 48)
    # The box begins at slice 10 - 16 = -6: six slices of air, 20 of the CT, six of air.
    assert (chunk[:6] == -1000).all()
    assert (chunk[6:26] == 7).all()
    assert (chunk[26:] == -1000).all()


@pytest.mark.seed_defect(26)
@pytest.mark.parametrize("size_irc", [(20, 60, 60), (40, 47, 60), (40, 60, 47)])
def test_shift_refuses_a_ct_thinner_than_the_chunk(size_irc):
    hounsfield = np.zeros(size_irc, dtype=np.int16)
    with pytest.raises(ValueError, match=r"at least \(32, 48, 48\) voxels.*Cut it under 'pad'"):
        cut_chunks(hounsfield, np.array([[10, 30, 30]]), CuttingParameters(edge_rule="shift"))


@pytest.mark.seed_defect(13)
@pytest.mark.parametrize("edge_rule", ["pad", "shift"])
def test_hu_are_clipped_and_the_ct_is_not_touched(edge_rule):
    hounsfield = np.array([-32768, -3024, -1000, 0, 1000, 1001, 3071, 32767], dtype=np.int16).reshape(2, 2, 2)
    before = hounsfield.copy()
    parameters = CuttingParameters((2, 2, 2), edge_rule=edge_rule)
    chunk = cut_chunks(hounsfield, np.array([[1, 1, 1]]), parameters)
    assert chunk.ravel().tolist() == [-1000, -1000, -1000, 0, 1000, 1000, 1000, 1000]
    np.testing.assert_array_equal(hounsfield, before)
    chunk[:] = 5
    np.testing.assert_array_equal(hounsfield, before)


def test_a_read_only_ct_can_be_cut():
    hounsfield = random_hounsfield(SIZE_IRC)
    hounsfield.flags.writeable = False
    assert cut_chunks(hounsfield, np.array([[3, 3, 3]]), SMALL).shape == (1, 8, 10, 12)


def test_without_the_compiled_helper_the_chunks_are_the_same(monkeypatch):
    hounsfield, centers = random_hounsfield(SIZE_IRC), corners_and(40)
    for parameters in (SMALL, WIDE, CuttingParameters((8, 10, 12), hu_window=(-300, 200), edge_rule="shift")):
        with monkeypatch.context() as patch:
            expected = cut_chunks(hounsfield, centers, parameters)
            patch.setattr(cutting, "copy_clipped", None)
            np.testing.assert_array_equal(cut_chunks(hounsfield, centers, parameters), expected)


def test_a_ct_with_turned_axes_in_memory_is_cut_the_same():
    hounsfield, centers = random_hounsfield(SIZE_IRC), corners_and(10)
    turned = np.asfortranarray(hounsfield)
    np.testing.assert_array_equal(cut_chunks(turned, centers, SMALL), cut_chunks(hounsfield, centers, SMALL))


@pytest.mark.skipif(cutting.copy_clipped is None, reason="installed without a compiler")
@pytest.mark.parametrize("start", list(itertools.product((-9, -3, -1, 0, 1, 2, 4, 9), repeat=3))[::7])
def test_the_compiled_helper_takes_boxes_anywhere(start):
    hounsfield, out = random_hounsfield((4, 5, 6)), np.full((1, 2, 3, 4), 77, dtype=np.int16)
    cutting.copy_clipped(hounsfield, (4, 5, 6), np.array(start), (2, 3, 4), -900, 1000, out)
    padded = np.pad(hounsfield.clip(-900, 1000), 12, constant_values=-900)
    i, r, c = np.array(start) + 12
    np.testing.assert_array_equal(out[0], padded[i : i + 2, r : r + 3, c : c + 4])


@pytest.mark.skipif(cutting.copy_clipped is None, reason="installed without a compiler")
def test_the_compiled_helper_refuses_sizes_that_are_not_those_of_the_arrays():
    hounsfield, out, starts = np.zeros((4, 5, 6), np.int16), np.zeros((1, 2, 3, 4), np.int16), np.array([0, 0, 0])
    for size, shape in (((4, 5, 7), (2, 3, 4)), ((4, 5, 6), (2, 3, 5))):
        with pytest.raises(ValueError, match="the sizes that are stated"):
            cutting.copy_clipped(hounsfield, size, starts, shape, -1000, 1000, out)


@pytest.mark.parametrize("padding_hu", [-2000, -2048, -3024, -1025])
def test_padding_becomes_air_in_every_window(padding_hu):
    hounsfield = np.array([padding_hu, -1024, -1000, 40], dtype=np.int16).reshape(1, 2, 2)
    windows = {-1000: -1000, -1001: -1001, -1024: -1024, -3024: -1024}
    for lower_hu, lowest_measured_hu in windows.items():
        expected = [-1000, lowest_measured_hu, -1000, 40]
        chunk = cut_chunks(hounsfield, np.array([[0, 1, 1]]), CuttingParameters((1, 2, 2), (lower_hu, 1000)))
        assert chunk.ravel().tolist() == expected


def test_the_window_fills_what_is_outside():
    parameters = CuttingParameters((3, 3, 3), hu_window=(-900, 100))
    chunk = cut_chunks(np.zeros((1, 1, 1), dtype=np.int16), np.array([[0, 0, 0]]), parameters)[0]
    assert chunk[1, 1, 1] == 0
    assert (np.delete(chunk.ravel(), 13) == -900).all()


def test_no_candidates_give_no_chunks():
    chunks = cut_chunks(random_hounsfield(), np.empty((0, 3), dtype=np.int32), SMALL)
    assert chunks.shape == (0, 8, 10, 12)
    assert chunks.dtype == np.int16


def test_the_result_is_put_where_asked_whatever_lay_there():
    hounsfield, centers = random_hounsfield(SIZE_IRC), corners_and(5)
    out = np.full((len(centers), *SMALL.chunk_shape_irc), 99, dtype=np.int16)
    assert cut_chunks(hounsfield, centers, SMALL, out=out) is out
    np.testing.assert_array_equal(out, cut_chunks(hounsfield, centers, SMALL))


@pytest.mark.seed_defect(28)
@pytest.mark.parametrize("center_irc", [(-1, 0, 0), (0, 30, 0), (0, 0, 40), (20, 0, 0)])
def test_a_centre_outside_is_refused_by_voxel_and_shape(center_irc):
    centers = np.array([(1, 1, 1), center_irc])
    with pytest.raises(ValueError, match=r"CT of shape \(20, 30, 40\), got") as caught:
        cut_chunks(random_hounsfield(SIZE_IRC), centers, SMALL)
    assert f"got {center_irc} (row 1 of 2, 1 such)" in str(caught.value)


def test_wrong_kinds_of_arrays_are_refused():
    hounsfield, centers = random_hounsfield(SIZE_IRC), np.array([[1, 1, 1]])
    with pytest.raises(TypeError, match="got float32"):
        cut_chunks(hounsfield.astype(np.float32), centers, SMALL)
    with pytest.raises(TypeError, match="whole numbers, got float64"):
        cut_chunks(hounsfield, centers + 0.5, SMALL)
    with pytest.raises(ValueError, match=r"Centres must be \(N, 3\), got \(3,\)"):
        cut_chunks(hounsfield, centers[0], SMALL)
    with pytest.raises(ValueError, match=r"A CT must be \(I, R, C\), got \(30, 40\)"):
        cut_chunks(hounsfield[0], centers, SMALL)
    with pytest.raises(TypeError, match="must be int16, got float64"):
        cut_chunks(hounsfield, centers, SMALL, out=np.zeros((1, 8, 10, 12)))
    with pytest.raises(ValueError, match=r"must be \(1, 8, 10, 12\), got"):
        cut_chunks(hounsfield, centers, SMALL, out=np.zeros((2, 8, 10, 12), dtype=np.int16))


@pytest.mark.parametrize(
    ("wrong", "rule"),
    [
        ({"chunk_shape_irc": (32, 0, 48)}, "three positive numbers"),
        ({"chunk_shape_irc": (32, 48)}, "three positive numbers"),
        ({"hu_window": (1000, -1000)}, "two rising int16"),
        ({"hu_window": (0, 0)}, "two rising int16"),
        ({"hu_window": (-40000, 0)}, "two rising int16"),
        ({"edge_rule": "mirror"}, "must be one of"),
    ],
)
def test_wrong_parameters_are_refused(wrong, rule):
    with pytest.raises(ValueError, match=rule):
        CuttingParameters(**wrong)


@pytest.mark.parametrize("spacing_mm", [(0.7, 0.7), (0.7, 0.7, 0.0), (0.7, 0.7, float("inf")), (1, 1, -1)])
def test_a_wrong_spacing_is_refused(spacing_mm):
    with pytest.raises(ValueError, match="must be three positive lengths in mm"):
        CuttingParameters(resampled_spacing_mm=spacing_mm)


def test_parameters_from_json_equal_those_from_code():
    parameters = CuttingParameters([32, 48, 48], [-1000, 1000])
    assert parameters == CuttingParameters()
    assert hash(parameters) == hash(CuttingParameters())
    assert parameters.as_dict() == {
        "chunk_shape_irc": [32, 48, 48],
        "hu_window": [-1000, 1000],
        "edge_rule": "pad",
        "resampling": None,
    }


def test_centres_in_another_memory_order_are_cut_the_same():
    hounsfield, centers = random_hounsfield(SIZE_IRC), corners_and(10)
    np.testing.assert_array_equal(
        cut_chunks(hounsfield, np.asfortranarray(centers), SMALL), cut_chunks(hounsfield, centers, SMALL)
    )
