import random
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luna_pipeline.core.datasets.augmentation import (
    AugmentationConfig,
    AugmentationDraws,
    Flip,
    Noise,
    Offset,
    Rotate,
    Scale,
    draw_augmentations,
)

IDS = np.arange(-500, 500, dtype=np.int64) * 7_919_000_000_017
ALL_FIVE = AugmentationConfig.all_five()
FIELDS = ("is_flipped_irc", "offset_share_irc", "scale_irc", "angle_rad", "noise_std_hu", "noise_key")
INT64 = st.integers(-(2**63), 2**63 - 1)


def draw(config=ALL_FIVE, *, ids=IDS, repeat=0, seed=3, epoch=1):
    return draw_augmentations(config, ids, np.full(len(ids), repeat), seed=seed, epoch=epoch)


def draws_of(**changes):
    """One cutout that stays as it is but for the changes."""
    still = {
        "is_flipped_irc": np.zeros((1, 3), bool),
        "offset_share_irc": np.zeros((1, 3)),
        "scale_irc": np.ones((1, 3)),
        "angle_rad": np.zeros(1),
        "noise_std_hu": np.zeros(1, np.float32),
        "noise_key": np.zeros(1, np.uint64),
    }
    return AugmentationDraws(**still | {name: np.array([value]) for name, value in changes.items()})


def assert_equal_draws(found, expected, rows=slice(None)):
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(found, field), getattr(expected, field)[rows])


def test_a_draw_belongs_to_seed_epoch_and_candidate_whatever_the_batch():
    assert_equal_draws(draw(), draw())
    assert_equal_draws(draw(ids=IDS[::-1]), draw(), slice(None, None, -1))
    assert_equal_draws(draw(ids=IDS[37:38]), draw(), slice(37, 38))


@pytest.mark.seed_defect(14)
@pytest.mark.parametrize("other", [{"seed": 4}, {"epoch": 2}, {"repeat": 1}, {"repeat": -1}, {"ids": IDS + 1}])
def test_another_seed_epoch_repeat_or_candidate_draws_otherwise(other):
    first, second = draw(), draw(**other)
    assert 0.4 < (first.is_flipped_irc != second.is_flipped_irc).mean() < 0.6
    for field in ("offset_share_irc", "scale_irc", "angle_rad", "noise_key"):
        assert (getattr(first, field) != getattr(second, field)).all(), field


@settings(max_examples=50, deadline=None)
@given(seed=INT64, epoch=st.integers(1, 10**9), candidate_id=INT64, repeat=st.integers(-1, 10**6))
def test_any_candidate_of_any_run_can_be_drawn_again(seed, epoch, candidate_id, repeat):
    ids = np.array([candidate_id, 5])
    first = draw(ids=ids, seed=seed, epoch=epoch, repeat=repeat)
    assert_equal_draws(draw(ids=ids[:1], seed=seed, epoch=epoch, repeat=repeat), first, slice(1))
    assert np.abs(first.offset_share_irc).max() <= 0.1
    assert np.abs(first.scale_irc - 1).max() <= 0.2
    assert np.abs(first.angle_rad).max() <= np.pi


@pytest.mark.seed_defect(14)
def test_drawing_touches_no_global_random_state():
    before = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002 - it is what must not move
    draw()
    assert before == (random.getstate(), np.random.get_state()[1].tolist())  # noqa: NPY002


@pytest.mark.seed_defect(11, "d")
def test_each_axis_is_flipped_as_often_as_said_and_by_itself():
    flips = draw(AugmentationConfig(flip=Flip(probability=0.3))).is_flipped_irc
    # 1,000 draws: four standard deviations are 0.058.
    assert np.abs(flips.mean(axis=0) - 0.3).max() < 0.058
    assert np.abs(np.corrcoef(flips.T) - np.eye(3)).max() < 0.13
    assert len(np.unique(draw().is_flipped_irc, axis=0)) == 8


def test_probability_0_never_and_1_always_flips():
    assert not draw(AugmentationConfig(flip=Flip(probability=0.0))).is_flipped_irc.any()
    assert draw(AugmentationConfig(flip=Flip(probability=1.0))).is_flipped_irc.all()


@pytest.mark.seed_defect("c", "d")
@pytest.mark.parametrize(("field", "middle", "reach"), [("offset_share_irc", 0.0, 0.1), ("scale_irc", 1.0, 0.2)])
def test_offsets_and_scales_are_uniform_and_each_axis_by_itself(field, middle, reach):
    steps = (getattr(draw(), field) - middle) / reach
    assert -1 <= steps.min() < -0.99
    assert 0.99 < steps.max() < 1
    # Standard deviation of the mean 1 / sqrt(3 * 1000), of the mean square sqrt(4 / 45 / 1000): four of each.
    assert np.abs(steps.mean(axis=0)).max() < 0.073
    assert np.abs((steps**2).mean(axis=0) - 1 / 3).max() < 0.038
    assert np.abs(np.corrcoef(steps.T) - np.eye(3)).max() < 0.13


def test_angles_are_uniform_to_both_sides():
    degrees = np.degrees(draw(AugmentationConfig(rotate=Rotate(probability=1.0, degrees=30.0))).angle_rad)
    assert -30 <= degrees.min() < -29.5
    assert 29.5 < degrees.max() < 30
    assert abs(degrees.mean()) < 4 * 30 / np.sqrt(3 * 1000)


def test_each_change_comes_as_often_as_said_and_by_itself():
    config = AugmentationConfig(
        offset=Offset(probability=0.2),
        scale=Scale(probability=0.4),
        rotate=Rotate(probability=0.6),
        noise=Noise(probability=0.8, std_hu=7.0),
    )
    drawn = draw(config)
    is_offset, is_scaled = (drawn.offset_share_irc != 0).all(axis=1), (drawn.scale_irc != 1).all(axis=1)
    happens = np.array([is_offset, is_scaled, drawn.angle_rad != 0, drawn.noise_std_hu == 7])
    assert np.abs(happens.mean(axis=1) - [0.2, 0.4, 0.6, 0.8]).max() < 0.063
    assert np.abs(np.corrcoef(happens) - np.eye(4)).max() < 0.13
    assert set(drawn.noise_std_hu.tolist()) == {0.0, 7.0}


def test_switching_one_change_on_leaves_the_others_as_they_were():
    np.testing.assert_array_equal(draw(AugmentationConfig()).is_flipped_irc, draw().is_flipped_irc)
    only_turned = draw(AugmentationConfig(rotate=Rotate(probability=1.0)))
    np.testing.assert_array_equal(only_turned.angle_rad, draw().angle_rad)
    np.testing.assert_array_equal(only_turned.noise_key, draw().noise_key)


def test_every_draw_has_noise_of_its_own():
    assert len(np.unique([draw().noise_key, draw(epoch=2).noise_key, draw(repeat=1).noise_key])) == 3000


def test_by_default_cutouts_are_mirrored_half_of_the_time_and_nothing_else():
    assert AugmentationConfig() == AugmentationConfig(
        flip=Flip(probability=0.5),
        offset=Offset(probability=0.0),
        scale=Scale(probability=0.0),
        rotate=Rotate(probability=0.0),
        noise=Noise(probability=0.0),
    )
    assert draw(AugmentationConfig()).only_flips


@pytest.mark.seed_defect("m")
def test_all_five_has_the_strengths_of_the_tutorial():
    assert AugmentationConfig.all_five() == AugmentationConfig(
        flip=Flip(probability=0.5),
        offset=Offset(probability=1.0, share=0.1),
        scale=Scale(probability=1.0, share=0.2),
        rotate=Rotate(probability=1.0, degrees=180.0),
        noise=Noise(probability=1.0, std_hu=25.0),
    )


@pytest.mark.parametrize("part", [Flip, Offset, Scale, Rotate, Noise])
def test_a_configuration_changes_nothing_only_if_every_probability_is_0(part):
    never = {"flip": Flip(probability=0.0)}
    assert AugmentationConfig(**never).changes_nothing
    assert not AugmentationConfig(**never | {part.__name__.lower(): part(probability=0.01)}).changes_nothing


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Flip(probability=1.1), r"flip.probability must be in \[0, 1\], got 1.1"),
        (lambda: Offset(probability=-0.1), r"offset.probability must be in \[0, 1\], got -0.1"),
        (lambda: Offset(share=1.5), r"offset.share must be in \[0, 1\], got 1.5"),
        (lambda: Scale(probability=float("nan")), r"scale.probability must be in \[0, 1\], got nan"),
        (lambda: Scale(share=1.0), r"scale.share must be in \[0, 1\), got 1.0"),
        (lambda: Rotate(probability=2.0), r"rotate.probability must be in \[0, 1\], got 2.0"),
        (lambda: Rotate(degrees=181.0), r"rotate.degrees must be in \[0, 180\], got 181.0"),
        (lambda: Noise(probability=2), r"noise.probability must be in \[0, 1\], got 2"),
        (lambda: Noise(std_hu=-1.0), r"noise.std_hu must be in \[0, inf\), got -1.0"),
    ],
)
def test_what_lies_outside_its_range_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_repeats_must_be_those_of_the_candidates():
    with pytest.raises(ValueError, match=r"Each candidate must have its repeat, got \(2,\) candidates and \(3,\)"):
        draw_augmentations(ALL_FIVE, np.arange(2), np.arange(3), seed=1, epoch=1)


def test_nothing_drawn_is_the_identity_map():
    np.testing.assert_array_equal(draws_of().input_maps((4, 5, 6))[0], np.eye(3, 4))


def test_flips_count_from_the_other_end():
    (found,) = draws_of(is_flipped_irc=[True, False, True]).input_maps((4, 5, 6))
    np.testing.assert_array_equal(found, [[-1, 0, 0, 3], [0, 1, 0, 0], [0, 0, -1, 5]])


@pytest.mark.seed_defect("c")
def test_an_offset_of_a_share_is_that_of_half_the_cutout():
    (found,) = draws_of(offset_share_irc=[0.5, -0.25, 0.0]).input_maps((8, 16, 6))
    np.testing.assert_array_equal(found, [[1, 0, 0, 2], [0, 1, 0, -2], [0, 0, 1, 0]])


def test_scaling_keeps_the_middle_where_it_is():
    (found,) = draws_of(scale_irc=[2.0, 1.0, 0.5]).input_maps((3, 5, 5))
    # Slice 1 of three is the middle: 0 comes from -1, 1 from 1, 2 from 3. Col 0 of five comes from col 1.
    np.testing.assert_array_equal(found, [[2, 0, 0, -1], [0, 1, 0, 0], [0, 0, 0.5, 1]])


def test_a_quarter_turn_swaps_rows_and_cols_about_the_middle():
    (found,) = draws_of(angle_rad=np.pi / 2).input_maps((2, 4, 6))
    # The middle is row 1.5, col 2.5: row = 1.5 + (col - 2.5), col = 2.5 - (row - 1.5).
    np.testing.assert_allclose(found, [[1, 0, 0, 0], [0, 0, 1, -1], [0, -1, 0, 4]], atol=1e-15)


def test_what_is_turned_is_scaled_and_mirrored_afterwards():
    changes = {"is_flipped_irc": [False, True, False], "scale_irc": [1.0, 2.0, 1.0], "angle_rad": np.pi / 2}
    (found,) = draws_of(**changes).input_maps((2, 4, 4))
    # The quarter turn's row = 1.5 + (col - 1.5) is doubled and mirrored: row = 1.5 - 2 * (col - 1.5).
    np.testing.assert_allclose(found[1], [0, 0, -2, 4.5], atol=1e-15)


def test_configuration_and_drawing_need_no_torch():
    code = "import sys, luna_pipeline.core.datasets.augmentation; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
