import math

import pytest
import torch

from luna_pipeline.core.networks.config import LossConfig
from luna_pipeline.core.networks.losses import build_loss

ONE_OF_FOUR = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])


def test_dice_of_even_scores_by_hand():
    loss = build_loss(LossConfig(name="dice"))(torch.zeros(1, 1, 2, 2), ONE_OF_FOUR)
    # Scores 0.5: intersection 0.5, sums 2 and 1; a voxel is added to both sides.
    assert loss.tolist() == pytest.approx([1 - (2 * 0.5 + 1) / (2 + 1 + 1)])


def test_dice_of_a_crop_without_nodule_falls_with_its_false_voxels():
    loss = build_loss(LossConfig(name="dice"))
    logits = torch.full((1, 1, 2, 2, 2), -2.0, requires_grad=True)
    value = loss(logits, torch.zeros(1, 1, 2, 2, 2))
    assert value.item() == pytest.approx(1 - 1 / (8 / (1 + math.exp(2)) + 1))
    value.sum().backward()
    assert (logits.grad > 0).all()


@pytest.mark.parametrize(("focusing", "weight"), [(2.0, 1.0), (0.0, 3.0)])
def test_dice_focal_adds_the_weighted_focal_loss(focusing, weight):
    logits = torch.tensor([[[[1.0, -1.0], [0.5, -3.0]]]])
    config = LossConfig(name="dice_focal", focusing=focusing, positive_weight=weight)
    added = build_loss(config)(logits, ONE_OF_FOUR) - build_loss(LossConfig(name="dice"))(logits, ONE_OF_FOUR)
    right = [1 / (1 + math.exp(-1)), 1 / (1 + math.exp(-1)), 1 / (1 + math.exp(0.5)), 1 / (1 + math.exp(-3))]
    focal = [-((1 - p) ** focusing) * math.log(p) * (weight if n == 0 else 1) for n, p in enumerate(right)]
    assert added.item() == pytest.approx(20 * sum(focal) / 4, rel=1e-5)


@pytest.mark.parametrize("name", ["dice", "dice_focal"])
def test_the_loss_of_a_sample_does_not_depend_on_its_batch(name):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 1, 4, 4, 4, generator=generator)
    masks = (torch.rand(3, 1, 4, 4, 4, generator=generator) > 0.7).float()
    loss = build_loss(LossConfig(name=name))
    together = loss(logits, masks)
    assert together.shape == (3,)
    alone = torch.cat([loss(logits[i : i + 1], masks[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone)
