"""NaN ends a run with its true reason, at the batch where it occurs, and gets into no file."""

import math

import numpy as np
import pytest
import torch

from luna_pipeline.core.distributed import SINGLE_PROCESS
from luna_pipeline.core.events.messages import Mode
from luna_pipeline.core.models.base import SplitResult
from luna_pipeline.core.models.finite import NonFiniteError, check_scores, check_state
from luna_pipeline.core.models.pass_results import BatchResult, PassResults


def batch_result(*, score=0.5, loss=0.7, filler=0.7):
    ids = torch.arange(3)
    return BatchResult(
        ids, ids % 2, torch.tensor([0.5, score, filler]), torch.tensor([0.7, loss, filler]), ids % 2, ids < 2
    )


def results_of(mode=Mode.TRAINING, reported=None):
    return PassResults(2, mode, 9, SINGLE_PROCESS, (reported if reported is not None else []).append)


@pytest.mark.parametrize(
    ("mode", "result", "norm", "message"),
    [
        (Mode.TRAINING, {"loss": math.nan}, 1.0, r"training loss must be finite, got nan \(epoch 2, batch 4 of 9\)"),
        (Mode.TRAINING, {"loss": -math.inf}, 1.0, r"training loss must be finite, got -inf \(epoch 2, batch 4 of 9\)"),
        (Mode.TRAINING, {}, math.nan, r"gradient norm must be finite, got nan \(epoch 2, batch 4 of 9, loss 0\.7\)"),
        (Mode.TRAINING, {}, math.inf, r"gradient norm must be finite, got inf"),
        (Mode.VALIDATION, {"score": math.nan}, None, r"validation scores must be finite, got 1 .* batch 4 of 9\)"),
    ],
)
def test_a_pass_ends_at_the_batch_that_is_not_finite_and_does_not_report_it(mode, result, norm, message):
    reported = []
    results = results_of(mode, reported)
    values = {} if norm is None else {"gradient_norm": torch.tensor(norm)}
    with pytest.raises(NonFiniteError, match=message):
        results.add(3, batch_result(**result), values=values, num_samples_seen=8)
    assert reported == []


def test_what_may_be_infinite_does_not_end_a_pass():
    reported = []
    training, overflowing = results_of(reported=reported), results_of(reported=reported)
    results_of(Mode.VALIDATION).add(0, batch_result(loss=math.inf), values={}, num_samples_seen=0)
    overflowing.may_overflow = True
    training.add(8, batch_result(filler=math.nan), values={}, num_samples_seen=0)
    overflowing.add(8, batch_result(), values={"gradient_norm": torch.tensor(math.inf)}, num_samples_seen=0)
    assert len(reported) == 2


def test_scores_of_another_model_are_checked():
    ones = np.ones(2)
    result = SplitResult(ones, ones, np.array([0.5, math.nan]), ones, ones)
    with pytest.raises(NonFiniteError, match=r"validation scores must be finite, got nan for 1 of 2 samples"):
        check_scores(result, "validation", where="epoch 1")


@pytest.mark.parametrize(
    ("weights", "state", "message"),
    [
        ({"layer.weight": [1.0, math.nan]}, {}, r"Weights must be finite, got nan in layer\.weight \(epoch 3\)"),
        ({"layer.weight": [1.0, -math.inf]}, {}, r"Weights must be finite, got inf in layer\.weight"),
        ({"norm.running_var": [math.nan]}, {}, r"Weights must be finite, got nan in norm\.running_var"),
        ({}, {"state": {0: {"exp_avg": torch.tensor([math.nan])}}}, r"got nan in optimizer\.state\.0\.exp_avg"),
        ({}, {"rows": [torch.tensor(0.0), torch.tensor(math.nan)]}, r"got nan in optimizer\.rows\[1\]"),
    ],
)
def test_nan_in_weights_and_in_the_state_of_the_optimizer_is_named(weights, state, message):
    tensors = {name: torch.tensor(values) for name, values in weights.items()}
    with pytest.raises(NonFiniteError, match=message):
        check_state(tensors, state, where="epoch 3", parameters={"layer.weight"})


def test_a_mask_may_be_infinite_and_a_repeated_axis_is_looked_at_once():
    mask = torch.tensor([0.0, -math.inf])
    wide = torch.zeros(1, 2).expand(10**12, 2)
    count = torch.tensor(3)
    state = {"step": torch.tensor(1.0), "lr": 0.1}
    check_state({"mask": mask, "wide": wide, "count": count}, state, where="epoch 1", parameters={"wide"})
