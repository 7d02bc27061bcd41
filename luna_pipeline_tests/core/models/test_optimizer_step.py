import copy
import math

import pytest
import torch
from torch import nn

from luna_pipeline.core.models.optimizer_step import Stepper


class Still:
    """A constant learning rate that counts its steps."""

    def __init__(self):
        self.num_steps = 0

    def after_step(self):
        self.num_steps += 1

    def after_epoch(self, validation_score):
        pass

    def state_dict(self):
        return {"num_steps": self.num_steps}

    def load_state_dict(self, state):
        self.num_steps = state["num_steps"]


def stepper_of(weight, **options):
    """A stepper of rate 1 on a row of weights, whose gradient is the factor of the loss."""
    network = nn.Linear(len(weight), 1, bias=False)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([weight]))
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    return network, Stepper(network, optimizer, Still(), **options)


def learn(network, stepper, gradient):
    with stepper.gradients(is_step=True):
        stepper.backward(network(torch.tensor([gradient])).sum())


def test_a_step_follows_the_gradient_and_tells_its_norm_and_the_learning_rate():
    network, stepper = stepper_of([1.0, 1.0])
    learn(network, stepper, [3.0, 4.0])
    assert stepper.step() == {"gradient_norm": 5.0, "learning_rate": 1.0}
    assert network.weight.tolist() == [[-2.0, -3.0]]
    assert network.weight.grad is None
    assert stepper.schedule.num_steps == 1


def test_the_norm_is_clipped_and_told_as_it_was():
    network, stepper = stepper_of([0.0, 0.0], clip_norm=1.0)
    learn(network, stepper, [3.0, 4.0])
    assert stepper.step()["gradient_norm"] == pytest.approx(5.0)
    assert network.weight.flatten().tolist() == pytest.approx([-0.6, -0.8], abs=1e-5)


def test_a_norm_below_the_limit_is_left_as_it_is():
    network, stepper = stepper_of([0.0, 0.0], clip_norm=5.5)
    learn(network, stepper, [3.0, 4.0])
    stepper.step()
    assert network.weight.tolist() == [[-3.0, -4.0]]


def test_each_value_is_clipped_before_the_norm():
    network, stepper = stepper_of([0.0, 0.0], clip_value=2.0, clip_norm=100.0)
    learn(network, stepper, [1.0, -4.0])
    assert stepper.step()["gradient_norm"] == pytest.approx(math.sqrt(5.0))
    assert network.weight.tolist() == [[-1.0, 2.0]]


def test_gradients_of_several_batches_add_up_to_one_step():
    network, stepper = stepper_of([0.0, 0.0], accumulated_batches=2)
    learn(network, stepper, [1.0, 0.0])
    learn(network, stepper, [0.0, 2.0])
    stepper.step()
    assert network.weight.tolist() == [[-1.0, -2.0]]


@pytest.mark.parametrize(("batches", "steps"), [(1, [0, 1, 2, 3, 4]), (2, [1, 3, 4]), (3, [2, 4]), (9, [4])])
def test_a_step_ends_after_so_many_batches_and_with_the_epoch(batches, steps):
    _, stepper = stepper_of([0.0], accumulated_batches=batches)
    assert [index for index in range(5) if stepper.is_step(index, 5)] == steps


def test_mixed_precision_stays_off_on_a_cpu():
    network, stepper = stepper_of([1.0, 1.0], mixed_precision=True)
    with stepper.autocast():
        assert network(torch.ones(1, 2)).dtype == torch.float32


def test_a_state_that_is_taken_up_goes_on_to_the_same_bits():
    network, stepper = stepper_of([1.0, 1.0])
    stepper.optimizer.param_groups[0]["momentum"] = 0.9
    learn(network, stepper, [1.0, 2.0])
    stepper.step()
    other, resumed = stepper_of(network.weight.tolist()[0])
    resumed.load_state(*copy.deepcopy(stepper.get_state()))
    for each, steps in ((network, stepper), (other, resumed)):
        learn(each, steps, [0.5, 0.5])
        steps.step()
    assert torch.equal(other.weight, network.weight)
    assert resumed.schedule.num_steps == 2


class Overflowing:
    """A gradient scale of float16 that is halved in every step."""

    scale = 2.0**16

    def unscale_(self, optimizer):
        pass

    def get_scale(self):
        return self.scale

    def step(self, optimizer):
        pass

    def update(self):
        self.scale /= 2


def test_float16_gradients_that_overflow_in_every_step_end_the_run():
    network, stepper = stepper_of([1.0])
    stepper._scaler = Overflowing()
    learn_once = torch.ones(1, 1)
    for _ in range(40):
        network.weight.grad = learn_once.clone()
        stepper.step()
    with pytest.raises(FloatingPointError, match="got overflows in 41 steps in a row"):
        stepper.step()
    assert stepper.schedule.num_steps == 0
