import numpy as np
import pytest

from luna_pipeline.core.datasets.augmentation import draw_flips, flipped

IDS = np.arange(-500, 500, dtype=np.int64) * 7_919_000_000_017


def draw(ids=IDS, *, seed=3, epoch=1, probability=0.5):
    return draw_flips(ids, seed=seed, epoch=epoch, probability=probability)


def test_a_draw_belongs_to_seed_epoch_and_candidate():
    assert np.array_equal(draw(), draw())
    assert np.array_equal(draw(IDS[::-1]), draw()[::-1])
    assert np.array_equal(draw(IDS[37:38]), draw()[37:38])


@pytest.mark.seed_defect(14)
@pytest.mark.parametrize("other", [{"seed": 4}, {"epoch": 2}])
def test_another_seed_or_epoch_draws_otherwise(other):
    assert 0.4 < (draw() != draw(**other)).mean() < 0.6


@pytest.mark.seed_defect(11, "d")
def test_each_axis_is_flipped_as_often_as_said_and_by_itself():
    flips = draw(probability=0.3)
    # 1,000 draws: four standard deviations are 0.058.
    assert np.abs(flips.mean(axis=0) - 0.3).max() < 0.058
    assert np.abs(np.corrcoef(flips.T) - np.eye(3)).max() < 0.13
    assert len(np.unique(draw(), axis=0)) == 8


def test_probability_0_never_and_1_always_flips():
    assert not draw(probability=0.0).any()
    assert draw(probability=1.0).all()


@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 2), (0, 1, 2), ()])
def test_flipping_agrees_with_numpy_and_undoes_itself(axes):
    chunk = np.random.default_rng(0).integers(-1000, 1000, size=(3, 4, 5), dtype=np.int16)
    is_flipped = np.isin(np.arange(3), axes)
    assert np.array_equal(flipped(chunk, is_flipped), np.flip(chunk, axes))
    assert np.array_equal(flipped(flipped(chunk, is_flipped), is_flipped), chunk)


@pytest.mark.seed_defect(13)
def test_flipping_leaves_its_argument_alone():
    chunk = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    chunk.setflags(write=False)
    flipped(chunk, np.array([True, True, True]))
    assert np.array_equal(chunk.ravel(), np.arange(24))
