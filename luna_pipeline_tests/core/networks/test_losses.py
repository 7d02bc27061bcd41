import math

import pytest
import torch
from torch import nn

from luna_pipeline.core.networks.config import LossConfig
from luna_pipeline.core.networks.losses import build_loss


def examples(count=50):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(count, 2, generator=generator) * 4
    return logits.requires_grad_(), torch.randint(0, 2, (count,), generator=generator)


def loss_of(name, **values):
    return build_loss(LossConfig(name=name, **values))


# Scores of class 1 are 0.75 and 0.5.
LOGITS = torch.tensor([[0.0, math.log(3)], [1.0, 1.0]])


@pytest.mark.parametrize(
    ("config", "labels", "expected"),
    [
        ({"name": "cross_entropy"}, [1, 0], [-math.log(0.75), math.log(2)]),
        ({"name": "cross_entropy", "positive_weight": 9.0}, [0, 1], [math.log(4), math.log(2)]),
        ({"name": "weighted_cross_entropy", "positive_weight": 3.0}, [1, 0], [-3 * math.log(0.75), math.log(2)]),
        ({"name": "weighted_cross_entropy", "positive_weight": 3.0}, [0, 1], [math.log(4), 3 * math.log(2)]),
        ({"name": "focal", "focusing": 2.0}, [1, 0], [-math.log(0.75) / 16, math.log(2) / 4]),
        ({"name": "focal", "focusing": 1.0, "positive_weight": 5.0}, [0, 1], [0.75 * math.log(4), 2.5 * math.log(2)]),
    ],
)
def test_losses_are_those_of_paper(config, labels, expected):
    losses = build_loss(LossConfig(**config))(LOGITS, torch.tensor(labels))
    assert losses.tolist() == pytest.approx(expected, rel=1e-5)


def test_cross_entropy_and_its_gradient_are_those_of_torch():
    logits, labels = examples()
    ours = loss_of("weighted_cross_entropy", positive_weight=2.5)(logits, labels)
    theirs = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.5]), reduction="none")(logits, labels)
    assert torch.equal(ours, theirs)
    assert torch.equal(loss_of("cross_entropy")(logits, labels), nn.CrossEntropyLoss(reduction="none")(logits, labels))


@pytest.mark.parametrize("weight", [1.0, 4.0])
def test_focal_without_focusing_is_weighted_cross_entropy(weight):
    logits, labels = examples()
    focal = loss_of("focal", focusing=0.0, positive_weight=weight)(logits, labels)
    plain = loss_of("weighted_cross_entropy", positive_weight=weight)(logits, labels)
    assert torch.allclose(focal, plain, atol=1e-6)
    (gradient,), (expected,) = (torch.autograd.grad(losses.mean(), logits) for losses in (focal, plain))
    assert torch.allclose(gradient, expected, atol=1e-6)


@pytest.mark.parametrize("name", ["weighted_cross_entropy", "focal"])
def test_a_sample_counts_the_same_whichever_others_are_in_its_batch(name):
    logits, labels = examples()
    loss = loss_of(name, positive_weight=3.0)
    parts = torch.cat([loss(logits[part], labels[part]) for part in (slice(0, 7), slice(7, 50))])
    assert torch.allclose(loss(logits, labels), parts)


@pytest.mark.parametrize("focusing", [0.0, 1.0, 2.0])
def test_the_gradient_of_a_sure_sample_is_finite(focusing):
    logits = torch.tensor([[-200.0, 200.0], [-200.0, 200.0]], requires_grad=True)
    loss_of("focal", focusing=focusing)(logits, torch.tensor([1, 0])).sum().backward()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("name", ["cross_entropy", "weighted_cross_entropy"])
def test_a_loss_holds_nothing_that_a_checkpoint_would_need(name):
    assert loss_of(name, positive_weight=2.0).state_dict() == {}
