import random

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats
from torch.nn import functional

from luna_pipeline.core.datasets import augmenting
from luna_pipeline.core.datasets.augmentation import (
    AugmentationConfig,
    Flip,
    Noise,
    Offset,
    Rotate,
    Scale,
    draw_augmentations,
)
from luna_pipeline.core.datasets.augmenting import Augmenter, augmented, normal_levels, standard_noise
from luna_pipeline_tests.core.datasets.test_augmentation import draws_of

NEVER = Flip(probability=0.0)
MOVING = AugmentationConfig(
    offset=Offset(probability=1.0), scale=Scale(probability=1.0), rotate=Rotate(probability=1.0)
)
NOISY = AugmentationConfig(flip=NEVER, noise=Noise(probability=1.0))
SHAPES = [(32, 48, 48), (5, 7, 9), (4, 3, 8), (2, 2, 2), (1, 6, 1), (1, 1, 1)]
is_compiled = pytest.mark.skipif(augmenting.augment_chunks is None, reason="installed without a compiler")
# The fixture only selects an implementation: it can be shared by all examples.
PER_TEST = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(params=[pytest.param("compiled", marks=is_compiled), "torch"])
def way(request, monkeypatch):
    """Both ways of working: the test holds for each."""
    if request.param == "torch":
        monkeypatch.setattr(augmenting, "augment_chunks", None)
    return request.param


def chunks(shape_irc, num=6, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).uniform(-1000, 1000, (num, 1, *shape_irc)).astype(np.float32))


def draw(config, num=6, seed=0):
    return draw_augmentations(config, np.arange(num), np.zeros(num, np.int64), seed=seed, epoch=1)


def run(augmenter, hounsfield, ids=None, repeat=0, epoch=1):
    ids = torch.arange(len(hounsfield)) if ids is None else ids
    return augmenter(hounsfield, ids, torch.full_like(ids, repeat), epoch=epoch)


def assert_same(way, found, expected):
    """The compiled helper works cutout by cutout; torch's products may round by the shape of the batch."""
    torch.testing.assert_close(found, expected, rtol=0, atol=0 if way == "compiled" else 1e-3)


def tutorial_matrices(draws):
    """The tutorial's matrices (N, 3, 4) over x, y, z in half cutouts: mirror, shift, scale, and turn on the right."""
    matrices = np.zeros((len(draws.angle_rad), 3, 4))
    for matrix, flip, offset, scale, angle in zip(
        matrices, draws.is_flipped_irc, draws.offset_share_irc, draws.scale_irc, draws.angle_rad, strict=True
    ):
        turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
        matrix[:, :3] = np.diag(np.where(flip, -1, 1)[::-1] * scale[::-1]) @ turn
        matrix[:, 3] = offset[::-1]
    return matrices


def reference(hounsfield, matrices):
    """Each cutout by itself, in three dimensions."""
    moved = []
    for chunk, matrix in zip(hounsfield, matrices, strict=True):
        theta = torch.from_numpy(matrix).float()[None]
        grid = functional.affine_grid(theta, [1, *chunk.shape], align_corners=False)
        moved.append(functional.grid_sample(chunk[None], grid, padding_mode="border", align_corners=False)[0])
    return torch.stack(moved)


@pytest.mark.seed_defect("d")
@pytest.mark.parametrize("shape_irc", [(32, 48, 48), (5, 9, 9), (3, 2, 2)])
def test_square_slices_are_moved_as_by_the_tutorial(way, shape_irc):
    hounsfield, draws = chunks(shape_irc), draw(MOVING)
    expected = reference(hounsfield, tutorial_matrices(draws))
    torch.testing.assert_close(augmented(hounsfield, draws), expected, rtol=0, atol=0.2)


@pytest.mark.seed_defect("d")
@pytest.mark.parametrize("shape_irc", SHAPES)
def test_a_batch_equals_three_dimensional_interpolation_of_each_cutout(way, shape_irc):
    hounsfield, draws = chunks(shape_irc), draw(MOVING)
    matrices, size_xyz = tutorial_matrices(draws), np.array(shape_irc[::-1])
    # Angles are those between voxels, whatever the slice's sides: half cutouts become voxels and voxels half cutouts.
    matrices[:, :, :3] *= size_xyz[None, None, :] / size_xyz[None, :, None]
    torch.testing.assert_close(augmented(hounsfield, draws), reference(hounsfield, matrices), rtol=0, atol=0.2)


@is_compiled
@pytest.mark.parametrize("shape_irc", SHAPES)
def test_both_ways_agree_within_a_hundredth_hu(shape_irc, monkeypatch):
    hounsfield, draws = chunks(shape_irc), draw(AugmentationConfig.all_five())
    compiled = augmented(hounsfield, draws)
    monkeypatch.setattr(augmenting, "augment_chunks", None)
    torch.testing.assert_close(compiled, augmented(hounsfield, draws), rtol=0, atol=0.01)


@is_compiled
def test_noise_is_the_same_to_the_bit_in_both_ways(monkeypatch):
    still, draws = torch.zeros(6, 1, 3, 5, 7), draw(NOISY)
    compiled = augmented(still, draws)
    monkeypatch.setattr(augmenting, "augment_chunks", None)
    assert torch.equal(compiled, augmented(still, draws))


@pytest.mark.seed_defect("c")
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_an_offset_of_two_voxels_shifts_by_two_and_repeats_the_border(way, axis):
    hounsfield, share = chunks((8, 8, 8), num=1), np.eye(3)[axis] * 0.5
    along = hounsfield[0, 0].movedim(axis, 0)
    expected = torch.cat([along[2:], along[-1:], along[-1:]]).movedim(0, axis)
    assert torch.equal(augmented(hounsfield, draws_of(offset_share_irc=share))[0, 0], expected)


@pytest.mark.parametrize("quarters", [1, 2, -1])
def test_quarter_turns_are_those_of_numpy(way, quarters):
    hounsfield = chunks((3, 8, 8), num=1)
    found = augmented(hounsfield, draws_of(angle_rad=quarters * np.pi / 2))
    np.testing.assert_allclose(found[0, 0], np.rot90(hounsfield[0, 0], quarters, axes=(1, 2)), atol=1e-3)


def test_scale_2_takes_every_other_voxel_about_the_middle(way):
    hounsfield = torch.tensor([10.0, 20, 30, 40, 50]).reshape(1, 1, 1, 1, 5)
    # Cols -2, 0, 2, 4, 6 of five.
    assert augmented(hounsfield, draws_of(scale_irc=[1, 1, 2])).flatten().tolist() == [10, 10, 30, 50, 50]


def test_half_a_voxel_is_the_mean_of_two(way):
    hounsfield = torch.tensor([10.0, 20, 40, 80]).reshape(1, 1, 1, 4, 1)
    shifted = augmented(hounsfield, draws_of(offset_share_irc=[0, 0.25, 0]))
    assert shifted.flatten().tolist() == [15, 30, 60, 80]


@pytest.mark.seed_defect(11, "d")
def test_flips_alone_are_exact_and_each_cutout_has_its_own(way):
    hounsfield, draws = chunks((3, 4, 5), num=64), draw(AugmentationConfig(), num=64)
    assert len(np.unique(draws.is_flipped_irc, axis=0)) == 8
    for found, chunk, is_flipped in zip(augmented(hounsfield, draws), hounsfield, draws.is_flipped_irc, strict=True):
        assert torch.equal(found, chunk.flip((np.flatnonzero(is_flipped) + 1).tolist()))


def test_flips_stay_exact_beside_cutouts_that_are_turned(way):
    config = AugmentationConfig(rotate=Rotate(probability=0.5))
    hounsfield, draws = chunks((3, 6, 4), num=40), draw(config, num=40)
    found, only_flipped = augmented(hounsfield, draws), draws.angle_rad == 0
    assert 0 < only_flipped.sum() < 40
    for row in np.flatnonzero(only_flipped):
        axes = (np.flatnonzero(draws.is_flipped_irc[row]) + 1).tolist()
        assert torch.equal(found[row], hounsfield[row].flip(axes))


@PER_TEST
@given(shape_irc=st.tuples(*[st.integers(1, 6)] * 3), seed=st.integers(0, 2**31))
def test_interpolation_stays_between_the_lowest_and_the_highest_voxel(way, shape_irc, seed):
    hounsfield = chunks(shape_irc, num=2, seed=seed)
    found = augmented(hounsfield, draw(MOVING, num=2, seed=seed))
    assert found.shape == hounsfield.shape
    # Rounding may lie one float32 step outside.
    assert (found.amin((1, 2, 3, 4)) >= hounsfield.amin((1, 2, 3, 4)) - 1e-3).all()
    assert (found.amax((1, 2, 3, 4)) <= hounsfield.amax((1, 2, 3, 4)) + 1e-3).all()


@PER_TEST
@given(seed=st.integers(0, 2**31), is_flipped=st.tuples(*[st.booleans()] * 3))
def test_flipping_twice_changes_nothing(way, seed, is_flipped):
    hounsfield, draws = chunks((2, 3, 4), num=1, seed=seed), draws_of(is_flipped_irc=is_flipped)
    assert torch.equal(augmented(augmented(hounsfield, draws), draws), hounsfield)


@pytest.mark.seed_defect(12)
def test_noise_is_gaussian_with_mean_0_and_the_stated_deviation(way):
    noise = augmented(torch.zeros(4, 1, 32, 48, 48), draw(NOISY, num=4))[:, 0].numpy()
    # 294,912 values: four standard deviations of the mean are 0.18 HU, of the deviation 0.13, of kurtosis 0.036.
    assert abs(noise.mean()) < 0.18
    assert abs(noise.std() - 25) < 0.13
    assert abs(stats.kurtosis(noise, axis=None)) < 0.036
    assert noise.min() < -85
    assert stats.kstest(noise.ravel()[::10], "norm", (0, 25)).pvalue > 0.001


@pytest.mark.seed_defect(12)
def test_noise_of_neighbours_and_of_cutouts_does_not_hang_together():
    first, second = standard_noise(torch.tensor([1, 2]), 100_000).numpy()
    # Four standard deviations of a correlation of 100,000 pairs are 0.013.
    lags = [np.corrcoef(first[:-lag], first[lag:])[0, 1] for lag in (1, 2, 3, 4, 48)]
    assert np.abs([*lags, np.corrcoef(first, second)[0, 1]]).max() < 0.013


def test_noise_begins_with_the_published_first_number_of_splitmix64():
    # 0xE220A8397B1DCDAF for key 0: its quarters from the lowest, without their last four bits.
    expected = normal_levels()[[0xCDA, 0x7B1, 0xA83, 0xE22]]
    assert standard_noise(torch.zeros(1, dtype=torch.int64), 4)[0].tolist() == expected.tolist()


def test_noise_levels_are_the_quantiles_of_a_gaussian():
    levels = normal_levels()
    assert levels.shape == (4096,)
    np.testing.assert_allclose(levels, stats.norm.ppf((np.arange(4096) + 0.5) / 4096), rtol=2e-3)
    np.testing.assert_allclose([levels.mean(), levels.std()], [0, 1], atol=1e-6)


def test_probability_0_hands_back_the_very_same_tensor(way):
    hounsfield = chunks((2, 3, 4))
    assert run(Augmenter(AugmentationConfig(flip=NEVER), seed=1), hounsfield) is hounsfield


def test_what_was_not_drawn_is_not_changed(way):
    hounsfield = chunks((2, 3, 4), num=1)
    assert torch.equal(augmented(hounsfield, draws_of()), hounsfield)
    noiseless = AugmentationConfig(flip=NEVER, noise=Noise(probability=0.5))
    hounsfield, draws = chunks((2, 3, 4), num=40), draw(noiseless, num=40)
    is_noisy = torch.from_numpy(draws.noise_std_hu > 0)
    assert torch.equal(augmented(hounsfield, draws)[~is_noisy], hounsfield[~is_noisy])
    assert 0 < is_noisy.sum() < 40


@pytest.mark.seed_defect(13)
@pytest.mark.parametrize("config", [AugmentationConfig(), MOVING, AugmentationConfig.all_five(), NOISY])
def test_the_batch_that_comes_in_is_not_changed(way, config):
    hounsfield = chunks((4, 5, 6))
    before = hounsfield.clone()
    found = run(Augmenter(config, seed=1), hounsfield)
    found += 1
    assert torch.equal(hounsfield, before)


@pytest.mark.seed_defect(14)
def test_no_global_random_state_is_touched(way):
    def states():
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002

    before = states()
    run(Augmenter(AugmentationConfig.all_five(), seed=1), chunks((4, 5, 6)))
    assert states() == before


@pytest.mark.seed_defect(14)
def test_the_order_of_the_batch_and_its_size_change_no_cutout(way):
    hounsfield, augmenter = chunks((4, 5, 6), num=21), Augmenter(AugmentationConfig.all_five(), seed=1)
    found, order = run(augmenter, hounsfield), torch.randperm(21, generator=torch.Generator().manual_seed(0))
    assert_same(way, run(augmenter, hounsfield[order], ids=order), found[order])
    assert_same(way, run(augmenter, hounsfield[7:8], ids=torch.tensor([7])), found[7:8])


@pytest.mark.seed_defect(14)
def test_the_number_of_threads_changes_no_cutout(way):
    hounsfield, augmenter = chunks((4, 5, 6), num=7), Augmenter(AugmentationConfig.all_five(), seed=1)
    num_threads, found = torch.get_num_threads(), []
    try:
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            found.append(run(augmenter, hounsfield))
    finally:
        torch.set_num_threads(num_threads)
    assert_same(way, found[0], found[1])
    assert_same(way, found[0], found[2])


@pytest.mark.seed_defect(14)
@pytest.mark.parametrize(("seed", "epoch", "repeat"), [(2, 1, 0), (1, 2, 0), (1, 1, 1)])
def test_another_seed_epoch_or_repeat_changes_the_same_cutout_otherwise(way, seed, epoch, repeat):
    hounsfield, config = chunks((4, 5, 6)), AugmentationConfig.all_five()
    first = run(Augmenter(config, seed=1), hounsfield)
    second = run(Augmenter(config, seed=seed), hounsfield, epoch=epoch, repeat=repeat)
    assert ((first - second).abs().amax((1, 2, 3, 4)) > 10).all()


@pytest.mark.seed_defect("m")
@pytest.mark.parametrize(
    "part",
    [
        Flip(probability=1.0),
        Offset(probability=1.0),
        Scale(probability=1.0),
        Rotate(probability=1.0),
        Noise(probability=1.0),
    ],
)
def test_each_setting_arrives_by_itself(way, part):
    config = AugmentationConfig(**{"flip": NEVER} | {type(part).__name__.lower(): part})
    hounsfield = chunks((4, 6, 6))
    is_changed = (run(Augmenter(config, seed=1), hounsfield) != hounsfield).flatten(1).any(dim=1)
    assert is_changed.all()


@pytest.mark.seed_defect("m")
def test_strengths_arrive(way):
    config = AugmentationConfig(flip=NEVER, noise=Noise(probability=1.0, std_hu=7.0))
    noise = run(Augmenter(config, seed=1), torch.full((1, 1, 32, 48, 48), -500.0)) + 500
    assert abs(noise.std().item() - 7) < 0.1


def test_a_batch_in_another_order_in_memory_is_changed_the_same(way):
    hounsfield, augmenter = chunks((4, 5, 6)), Augmenter(AugmentationConfig.all_five(), seed=1)
    turned = hounsfield.permute(4, 3, 2, 1, 0).contiguous().permute(4, 3, 2, 1, 0)
    assert not turned.is_contiguous()
    assert_same(way, run(augmenter, turned), run(augmenter, hounsfield))
    layout = hounsfield.to(memory_format=torch.channels_last_3d)
    assert_same(way, run(augmenter, layout), run(augmenter, hounsfield))


@pytest.mark.parametrize("config", [AugmentationConfig(), AugmentationConfig.all_five()])
def test_an_empty_batch_stays_empty(way, config):
    assert run(Augmenter(config, seed=1), chunks((4, 5, 6), num=0)).shape == (0, 1, 4, 5, 6)


@pytest.mark.parametrize(
    ("hounsfield", "error", "message"),
    [
        (torch.zeros(2, 1, 3, 3, 3, dtype=torch.float64), TypeError, "must be float32, got torch.float64"),
        (torch.zeros(2, 3, 3, 3), ValueError, r"must be \(N, 1, I, R, C\), got \(2, 3, 3, 3\)"),
        (torch.zeros(2, 2, 3, 3, 3), ValueError, r"must be \(N, 1, I, R, C\), got \(2, 2, 3, 3, 3\)"),
        (torch.zeros(2, 1, 3, 0, 3), ValueError, r"must be \(N, 1, I, R, C\), got \(2, 1, 3, 0, 3\)"),
        (torch.zeros(2, 1, 3, 3, 3), ValueError, "must have its draw, got 2 cutouts and 1 draws"),
    ],
)
def test_batches_that_do_not_fit_are_refused(way, hounsfield, error, message):
    with pytest.raises(error, match=message):
        augmented(hounsfield, draws_of())


@is_compiled
@pytest.mark.parametrize("wrong", ["shape", "negative", "empty", "maps", "std", "keys", "normal", "out"])
def test_the_compiled_helper_refuses_sizes_that_are_not_those_of_the_arrays(wrong):
    shapes = {"shape": (2, 3, 5), "negative": (-2, -3, 4), "empty": (2, 3, 0)}
    arrays = {
        "maps": np.zeros((2, 3, 4)),
        "std": np.zeros(2, np.float32),
        "keys": np.zeros(2, np.uint64),
        "normal": normal_levels(),
        "out": np.zeros((2, 2, 3, 4), np.float32),
    }
    if wrong in arrays:
        arrays[wrong] = arrays[wrong][:1].copy()
    with pytest.raises(ValueError, match="must have the stated sizes"):
        augmenting.augment_chunks(np.zeros((2, 2, 3, 4), np.float32), shapes.get(wrong, (2, 3, 4)), *arrays.values())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_gives_what_the_cpu_gives():
    hounsfield, augmenter = chunks((32, 48, 48)), Augmenter(AugmentationConfig.all_five(), seed=1)
    ids, repeat = torch.arange(6), torch.zeros(6, dtype=torch.int64)
    found = augmenter(hounsfield.cuda(), ids.cuda(), repeat.cuda(), epoch=1)
    assert found.is_cuda
    torch.testing.assert_close(found.cpu(), augmenter(hounsfield, ids, repeat, epoch=1), rtol=0, atol=0.01)
