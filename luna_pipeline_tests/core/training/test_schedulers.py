import math

import pytest
import torch

from luna_pipeline.core.training.parts import SchedulerConfig
from luna_pipeline.core.training.schedulers import Moment, build_schedule

LEARNING_RATE = 0.1


def schedule_of(num_epochs=4, num_steps=5, **config):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LEARNING_RATE)
    schedule = build_schedule(
        optimizer, SchedulerConfig(**config), num_epochs=num_epochs, num_steps_per_epoch=num_steps
    )
    return optimizer, schedule


def learning_rates(num_epochs=4, num_steps=5, scores=None, **config):
    """Learning rate of each epoch's first step, and after the last."""
    optimizer, schedule = schedule_of(num_epochs, num_steps, **config)
    rates = []
    for epoch in range(num_epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        for _ in range(num_steps):
            optimizer.step()
            schedule.after_step()
        schedule.after_epoch(scores[epoch] if scores else math.nan)
    return [*rates, optimizer.param_groups[0]["lr"]]


def test_constant_stays():
    assert learning_rates(name="constant") == [LEARNING_RATE] * 5


def test_exponential_falls_after_each_epoch():
    assert learning_rates(name="exponential", gamma=0.5) == pytest.approx([0.1, 0.05, 0.025, 0.0125, 0.00625])


def test_step_falls_after_every_few_epochs():
    assert learning_rates(name="step", gamma=0.1, step_epochs=2) == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001])


def test_cosine_falls_with_each_step_to_its_share():
    rates = learning_rates(name="cosine", final_share=0.1)
    expected = [0.01 + 0.09 * (1 + math.cos(math.pi * epoch / 4)) / 2 for epoch in range(5)]
    assert rates == pytest.approx(expected)


def test_one_cycle_rises_from_a_25th_to_the_rate_and_falls_to_its_share():
    optimizer, schedule = schedule_of(name="one_cycle", final_share=0.01)
    rates = [optimizer.param_groups[0]["lr"]]
    for _ in range(20):
        optimizer.step()
        schedule.after_step()
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates[0] == pytest.approx(0.1 / 25)
    assert max(rates) == pytest.approx(0.1, rel=0.03)
    assert rates[-1] == pytest.approx(0.001)


def test_plateau_falls_when_the_score_did_not_rise_for_long_enough():
    scores = [0.5, 0.6, 0.6, 0.6, 0.6, 0.7]
    rates = learning_rates(num_epochs=6, scores=scores, name="plateau", gamma=0.5, step_epochs=2)
    assert rates == pytest.approx([0.1, 0.1, 0.1, 0.1, 0.05, 0.05, 0.05])


def test_plateau_takes_no_note_of_an_epoch_that_was_not_validated():
    scores = [0.5, math.nan, math.nan, math.nan, math.nan, 0.4]
    rates = learning_rates(num_epochs=6, scores=scores, name="plateau", gamma=0.5, step_epochs=1)
    assert rates == pytest.approx([0.1] * 6 + [0.05])


@pytest.mark.parametrize("name", ["constant", "exponential", "step", "cosine", "one_cycle", "plateau"])
def test_a_schedule_that_is_taken_up_goes_on_as_it_would_have(name):
    config = {"name": name, "gamma": 0.5, "step_epochs": 1}
    optimizer, schedule = schedule_of(**config)
    for _ in range(7):
        optimizer.step()
        schedule.after_step()
    schedule.after_epoch(0.5)
    resumed_optimizer, resumed = schedule_of(**config)
    resumed_optimizer.load_state_dict(optimizer.state_dict())
    resumed.load_state_dict(schedule.state_dict())
    for both in ((optimizer, schedule), (resumed_optimizer, resumed)):
        both[0].step()
        both[1].after_step()
        both[1].after_epoch(0.4)
    assert resumed_optimizer.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]


def test_each_says_when_it_moves():
    moments = {name: schedule_of(name=name, gamma=0.5)[1].moment for name in ("exponential", "cosine", "plateau")}
    assert moments == {"exponential": Moment.EPOCH, "cosine": Moment.STEP, "plateau": Moment.VALIDATION}
