import json
import math

import numpy as np
import pandas as pd
import pytest

from luna_pipeline.core.training.recipes import demo
from luna_pipeline.tuning.records import FAILED, FINISHED, STOPPED_EARLY, TrialEnd, TrialProgress
from luna_pipeline.tuning.study import Variant
from luna_pipeline.tuning.table import STUDY_COLUMNS, importances, study_table, tried_values, winner_of
from luna_pipeline_tests.tuning.made_studies import made_study, made_table, scored

SPACE = {
    "optimizer.learning_rate": {"log_uniform": [1e-4, 1e-2]},
    "optimizer.name": {"choices": ["adamw", "sgd"]},
    "optimizer.betas": {"choices": [[0.9, 0.999], [0.8, 0.9]]},
}
STUDY = made_study(SPACE)
SECOND = {"optimizer.learning_rate": 0.002, "optimizer.name": "sgd", "optimizer.betas": (0.8, 0.9)}
THIRD = {"optimizer.learning_rate": 0.004, "optimizer.name": "adamw", "optimizer.betas": (0.9, 0.999)}


@pytest.fixture
def table() -> pd.DataFrame:
    """Three trials: trained to the end, stopped early, and failed after an epoch."""
    progress = {
        2: TrialProgress(variant=Variant(2, THIRD), epochs=(scored(1, 0.9, seconds=5.0),), error="ValueError: no"),
        0: TrialProgress(variant=Variant(0), epochs=(scored(1, 0.5), scored(2, 0.7, seconds=3.5), scored(3, 0.6))),
        1: TrialProgress(variant=Variant(1, SECOND), epochs=(scored(1, 0.4),)),
        # A trial that has not ended has no row.
        3: TrialProgress(variant=Variant(3, THIRD), epochs=(scored(1, 0.95),)),
    }
    ended = {
        2: TrialEnd(trial=2, changes=THIRD, state=FAILED, error="ValueError: no"),
        0: TrialEnd(trial=0, changes={}, state=FINISHED),
        1: TrialEnd(trial=1, changes=SECOND, state=STOPPED_EARLY, num_restarts=2),
    }
    return study_table(STUDY, progress, ended)


def test_the_columns_are_those_of_all_studies_and_then_the_places(table):
    assert tuple(table.columns) == (*STUDY_COLUMNS, *SPACE)


@pytest.mark.parametrize(
    ("trial", "row"),
    [
        (
            0,
            {
                "trial": 0,
                "rank": 1,
                "state": "finished",
                "score": 0.7,
                "cpm": 0.7,
                "auc": 0.71,
                "best_epoch": 2,
                "num_epochs": 3,
                "num_restarts": 0,
                "changes": "{}",
                "error": "",
                "seconds": 7.5,
                "optimizer.learning_rate": 0.001,
                "optimizer.name": "adamw",
                "optimizer.betas": "(0.9, 0.999)",
            },
        ),
        (
            1,
            {
                "trial": 1,
                "rank": 2,
                "state": "stopped_early",
                "score": 0.4,
                "cpm": 0.4,
                "auc": 0.41,
                "best_epoch": 1,
                "num_epochs": 1,
                "num_restarts": 2,
                "error": "",
                "seconds": 2.0,
                "changes": '{"optimizer.learning_rate": 0.002, "optimizer.name": "sgd", "optimizer.betas": [0.8, 0.9]}',
                "optimizer.learning_rate": 0.002,
                "optimizer.name": "sgd",
                "optimizer.betas": "(0.8, 0.9)",
            },
        ),
        (
            2,
            {
                "trial": 2,
                "rank": None,
                "state": "failed",
                "score": None,
                "cpm": None,
                "auc": None,
                "best_epoch": 0,
                "num_epochs": 1,
                "num_restarts": 0,
                "error": "ValueError: no",
                "seconds": 5.0,
                "changes": json.dumps(THIRD),
                "optimizer.learning_rate": 0.004,
                "optimizer.name": "adamw",
                "optimizer.betas": "(0.9, 0.999)",
            },
        ),
    ],
)
def test_a_row_says_what_became_of_a_trial(table, trial, row):
    assert len(table) == 3
    found = table.loc[trial].to_dict()
    assert {name: None if pd.isna(value) else value for name, value in found.items()} == pytest.approx(row)


def test_columns_hold_numbers_or_words(table):
    kinds = {name: pd.api.types.is_numeric_dtype(table[name]) for name in table}
    words = {name for name, is_number in kinds.items() if not is_number}
    assert words == {"state", "changes", "error", "optimizer.name", "optimizer.betas"}
    assert str(table["rank"].dtype) == "Int64"


def test_equal_scores_are_ranked_by_the_lower_number_and_failures_not_at_all():
    tried = [(THIRD, score) for score in (0.5, 0.7, math.nan, 0.7, 0.6)]
    table = made_table(STUDY, tried)
    assert table["rank"].fillna(0).tolist() == [4, 1, 0, 2, 3]
    assert table.loc[table["state"] == FAILED, ["rank", "score", "cpm", "auc"]].isna().all(axis=None)


def test_whole_numbers_are_numbers_and_truth_and_mixtures_are_words():
    space = {
        "batch_size": {"choices": [4, 8]},
        "compute.channels_last": {"choices": [True, False]},
        "early_stopping.patience": {"choices": [None, 3]},
    }
    tried = {"batch_size": 4, "compute.channels_last": False, "early_stopping.patience": 3}
    table = made_table(made_study(space), [({}, 0.5), (tried, 0.6)])
    assert table["batch_size"].tolist() == [8.0, 4.0]
    assert table["batch_size"].dtype == "float64"
    assert table["compute.channels_last"].tolist() == ["True", "False"]
    assert table["early_stopping.patience"].tolist() == ["None", "3"]


def test_a_range_is_a_column_of_numbers_even_where_the_recipe_has_none():
    study = made_study({"clipping.norm": {"uniform": [0.5, 2.0]}})
    table = made_table(study, [({}, 0.5), ({"clipping.norm": 1.5}, 0.6)])
    assert table["clipping.norm"].dtype == "float64"
    assert table["clipping.norm"].fillna(-1).tolist() == [-1, 1.5]


def test_what_was_tried_is_the_recipes_where_a_trial_changed_nothing():
    study = made_study(SPACE, base=demo().with_changes({"optimizer.learning_rate": 0.005}))
    changes = '{"optimizer.name": "sgd", "optimizer.betas": [0.8, 0.9]}'
    assert tried_values(study, changes) == {
        "optimizer.learning_rate": 0.005,
        "optimizer.name": "sgd",
        "optimizer.betas": (0.8, 0.9),
    }


def test_the_winner_is_the_first_rank_with_its_best_epoch(table):
    assert winner_of(table) == (Variant(0), 2)


def test_a_winner_can_be_tried_again():
    table = made_table(STUDY, [({}, 0.5), (THIRD, 0.6), (SECOND, 0.8)])
    variant, best_epoch = winner_of(table)
    assert (variant, best_epoch) == (Variant(2, SECOND), 1)
    assert STUDY.config_of(variant).optimizer.betas == (0.8, 0.9)


def test_a_study_of_failures_has_no_winner_and_says_why():
    errors = ["ValueError: b", "OSError: a", "ValueError: b"]
    ended = {trial: TrialEnd(trial=trial, changes={}, state=FAILED, error=error) for trial, error in enumerate(errors)}
    with pytest.raises(ValueError, match="a trial with a score") as refusal:
        winner_of(study_table(STUDY, {}, ended))
    assert str(refusal.value) == (
        "A study must have a trial with a score, got 3 trials without (OSError: a; ValueError: b). "
        "Fix the cause and begin a new study."
    )


def test_a_study_that_was_ended_before_its_first_epoch_has_no_winner():
    with pytest.raises(ValueError, match=r"got 0 trials without \(none was started\)"):
        winner_of(study_table(STUDY, {}, {}))
    ended = {0: TrialEnd(trial=0, changes={}, state=STOPPED_EARLY)}
    progress = {0: TrialProgress(variant=Variant(0))}
    for known in ({}, progress):
        with pytest.raises(ValueError, match=r"got 1 trials without"):
            winner_of(study_table(STUDY, known, ended))


DRAWN_SPACE = {
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
    study = made_study(DRAWN_SPACE)
    shares = importances(made_table(study, [(changes, score(changes[place])) for changes in drawn(study, 40)]), study)
    assert shares[place] > 0.9
    assert shares.keys() == DRAWN_SPACE.keys()
    assert sum(shares.values()) == pytest.approx(1.0)
    assert list(shares.values()) == sorted(shares.values(), reverse=True)


def test_the_same_table_gives_the_same_shares():
    study = made_study(DRAWN_SPACE)
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
    # Without it, three trials are left, or all scores are equal.
    assert importances(made_table(study, [({}, 0.9), *tried[:3]]), study) == {}
    assert importances(made_table(study, [({}, 0.9), *((changes, 0.5) for changes, _ in tried)]), study) == {}


def test_of_equal_scores_nothing_is_said():
    study = made_study(DRAWN_SPACE)
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
