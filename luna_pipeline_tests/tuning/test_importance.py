import math

import numpy as np
import pytest

from luna_pipeline.tuning.importance import importances
from luna_pipeline_tests.tuning.made_studies import made_study, made_table

SPACE = {
    "optimizer.learning_rate": {"log_uniform": [1e-4, 1e-2]},
    "network.dropout_rate": {"uniform": [0.0, 0.5]},
    "optimizer.name": {"choices": ["adamw", "sgd"]},
    "network.n_blocks": {"integers": [3, 4]},
}


def drawn(study, number: int) -> list[dict]:
    random = np.random.default_rng(1)
    return [study.space.sample(random) for _ in range(number)]


@pytest.mark.parametrize(
    ("place", "score"),
    [
        ("optimizer.learning_rate", lambda value: 0.5 - 0.1 * (math.log10(value) + 3) ** 2),
        ("network.dropout_rate", lambda value: 0.8 - value),
        ("optimizer.name", {"adamw": 0.8, "sgd": 0.6}.get),
        ("network.n_blocks", {3: 0.6, 4: 0.8}.get),
    ],
)
def test_the_place_that_decides_the_score_has_nearly_all_of_it(place, score):
    study = made_study(SPACE)
    shares = importances(made_table(study, [(changes, score(changes[place])) for changes in drawn(study, 40)]), study)
    assert shares[place] > 0.9
    assert shares.keys() == SPACE.keys()
    assert sum(shares.values()) == pytest.approx(1.0)
    assert list(shares.values()) == sorted(shares.values(), reverse=True)


def test_the_same_table_gives_the_same_shares():
    study = made_study(SPACE)
    table = made_table(study, [(changes, changes["network.dropout_rate"]) for changes in drawn(study, 20)])
    assert importances(table, study) == importances(table, study)


def test_of_fewer_than_four_scores_nothing_is_said():
    study = made_study({"batch_size": {"choices": [4, 8, 16]}})
    tried = [({"batch_size": size}, size / 100) for size in (4, 8, 16, 8)]
    assert importances(made_table(study, tried), study) == {"batch_size": 1.0}
    assert importances(made_table(study, tried[:3]), study) == {}
    assert importances(made_table(study, [*tried[:3], ({"batch_size": 8}, math.nan)]), study) == {}
    assert importances(made_table(study, []), study) == {}


@pytest.mark.parametrize(
    ("place", "domain", "values"),
    [
        # The demo has 8, 0.9 and None.
        ("batch_size", {"choices": [4, 16]}, [4, 16, 16, 4]),
        ("batch_size", {"integers": [16, 64]}, [16, 64, 32, 32]),
        ("scheduler.gamma", {"uniform": [0.5, 0.7]}, [0.5, 0.6, 0.7, 0.6]),
        ("clipping.norm", {"uniform": [0.5, 2.0]}, [0.5, 1.0, 1.5, 2.0]),
        ("early_stopping.patience", {"integers": [2, 4]}, [2, 3, 4, 4]),
    ],
)
def test_a_recipe_outside_of_the_space_says_nothing_of_it(place, domain, values):
    study = made_study({place: domain})
    tried = [({place: value}, value / 100) for value in values]
    assert importances(made_table(study, [({}, 0.9), *tried]), study) == {place: 1.0}
    # Without it three are left, or none that differ.
    assert importances(made_table(study, [({}, 0.9), *tried[:3]]), study) == {}
    assert importances(made_table(study, [({}, 0.9), *((changes, 0.5) for changes, _ in tried)]), study) == {}


def test_of_equal_scores_nothing_is_said():
    study = made_study(SPACE)
    assert importances(made_table(study, [(changes, 0.5) for changes in drawn(study, 10)]), study) == {}


def test_choices_of_tuples_and_nothing_are_told_apart():
    space = {
        "optimizer.betas": {"choices": [[0.9, 0.999], [0.8, 0.9], [0.7, 0.9]]},
        "early_stopping.patience": {"choices": [None, 3]},
    }
    study = made_study(space)
    table = made_table(study, [(changes, changes["optimizer.betas"][0]) for changes in drawn(study, 30)])
    shares = importances(table, study)
    assert shares["optimizer.betas"] > 0.9
    assert shares.keys() == space.keys()
