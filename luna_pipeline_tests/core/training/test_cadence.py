import math

import pytest

from luna_pipeline.core.training.cadence import epochs_without_rise, is_better, is_over, is_validation_due


@pytest.mark.seed_defect(38)
@pytest.mark.parametrize(
    ("num_epochs", "cadence", "due"),
    [
        (12, 5, [1, 5, 10, 12]),
        (10, 5, [1, 5, 10]),
        (4, 1, [1, 2, 3, 4]),
        (3, 100, [1, 3]),
        (1, 5, [1]),
        (6, 2, [1, 2, 4, 6]),
    ],
)
def test_the_first_every_cadenceth_and_the_last_epoch_are_validated(num_epochs, cadence, due):
    epochs = range(1, num_epochs + 1)
    assert [e for e in epochs if is_validation_due(e, num_epochs=num_epochs, cadence=cadence)] == due


@pytest.mark.parametrize(("epoch", "cadence"), [(0, 1), (4, 1), (1, 0)])
def test_what_is_no_epoch_or_no_cadence_is_refused(epoch, cadence):
    with pytest.raises(ValueError, match=r"must be (from 1 to 3|at least 1), got"):
        is_validation_due(epoch, num_epochs=3, cadence=cadence)


@pytest.mark.parametrize(
    ("score", "best", "delta", "expected"),
    [
        (0.6, 0.5, 0.0, True),
        (0.5, 0.5, 0.0, False),
        (0.6, 0.5, 0.2, False),
        (0.71, 0.5, 0.2, True),
        (math.nan, 0.5, 0.0, False),
        (0.1, math.nan, 0.5, True),
        (math.nan, math.nan, 0.0, False),
    ],
)
def test_a_score_is_better_by_more_than_the_least_rise(score, best, delta, expected):
    assert is_better(score, best, min_delta=delta) is expected


def test_epochs_without_a_rise_are_counted_and_a_rise_begins_anew():
    counts, best = [0], math.nan
    for score in (0.5, 0.5, math.nan, 0.4, 0.6, 0.55):
        counts.append(epochs_without_rise(counts[-1], score=score, best_score=best, min_delta=0.0))
        best = score if is_better(score, best) else best
    assert counts[1:] == [0, 1, 1, 2, 0, 1]


@pytest.mark.parametrize(
    ("epoch", "without_rise", "patience", "expected"),
    [(0, 0, None, False), (9, 9, None, False), (10, 0, None, True), (4, 2, 3, False), (4, 3, 3, True)],
)
def test_a_run_is_over_after_its_last_epoch_or_when_patience_is_used_up(epoch, without_rise, patience, expected):
    assert is_over(epoch, num_epochs=10, num_without_rise=without_rise, patience=patience) is expected
