import json
from dataclasses import fields, replace

import pytest

from luna_pipeline.core.training.recipes import demo, demo_malignancy
from luna_pipeline.tuning.options import TuningOptions
from luna_pipeline.tuning.space import SearchSpace, read_space
from luna_pipeline.tuning.study import StudyConfig, Variant
from luna_pipeline_tests.tuning.made_studies import RATES, made_study

GRID = {"batch_size": {"choices": [4, 16]}, "network.n_blocks": {"integers": [3, 4]}}


def test_a_random_study_tries_the_recipe_and_then_what_is_drawn():
    study = made_study()
    variants = study.variants()
    assert [variant.trial for variant in variants] == list(range(8))
    assert variants[0].changes == {}
    domain = study.space.domains["optimizer.learning_rate"]
    rates = [variant.changes["optimizer.learning_rate"] for variant in variants[1:]]
    assert len(set(rates)) == 7
    assert all(domain.holds(rate) for rate in rates)


def test_the_same_seed_draws_the_same_and_another_one_something_else():
    assert made_study(seed=3).variants() == made_study(seed=3).variants()
    others = made_study(seed=4).variants()
    assert all(one != other for one, other in zip(made_study(seed=3).variants()[1:], others[1:], strict=True))


def test_a_longer_random_study_begins_like_a_shorter_one():
    assert made_study(num_trials=12).variants()[:8] == made_study().variants()


def test_a_grid_tries_the_recipe_and_then_all_combinations_in_order():
    variants = made_study(GRID, searcher="grid", num_trials=None).variants()
    assert variants == [
        Variant(0, {}),
        Variant(1, {"batch_size": 4, "network.n_blocks": 3}),
        Variant(2, {"batch_size": 4, "network.n_blocks": 4}),
        Variant(3, {"batch_size": 16, "network.n_blocks": 3}),
        Variant(4, {"batch_size": 16, "network.n_blocks": 4}),
    ]


def test_what_optuna_tries_is_not_known_beforehand():
    assert made_study(searcher="optuna").variants() is None


def test_a_trial_is_called_by_its_number_and_says_what_it_changes():
    assert Variant(3).version == "trial-0003"
    assert str(Variant(0)) == "the recipe as it is"
    variant = Variant(12, {"optimizer.learning_rate": 0.00123456, "optimizer.name": "sgd", "batch_size": 64})
    assert str(variant) == "optimizer.learning_rate=0.00123, optimizer.name=sgd, batch_size=64"


def test_a_trials_configuration_is_the_recipe_with_its_changes():
    base = demo().with_changes(validation_cadence=3, version="2.0.0", seed=9)
    study = made_study(GRID, base=base, num_epochs=7)
    config = study.config_of(Variant(3, {"batch_size": 4, "network.n_blocks": 3}))
    assert (config.version, config.num_epochs, config.validation_cadence) == ("trial-0003", 7, 1)
    assert (config.batch_size, config.network.n_blocks) == (4, 3)
    # Everything else equals the recipe.
    back = {"version": "2.0.0", "num_epochs": base.num_epochs, "validation_cadence": 3, "batch_size": base.batch_size}
    assert config.with_changes({**back, "network.n_blocks": base.network.n_blocks}) == base


def test_epochs_are_the_recipes_where_the_study_names_none():
    assert made_study().epochs == made_study().config_of(Variant(0)).num_epochs == demo().num_epochs == 5


def test_values_that_do_not_go_together_are_refused_with_the_trial():
    study = made_study(searcher="optuna")
    with pytest.raises(ValueError, match=r"got 12 .*\(trial 2: network.n_blocks=12\)|from 1 to 8, got 12") as refusal:
        study.config_of(Variant(2, {"network.n_blocks": 12}))
    assert str(refusal.value).endswith("(trial 2: network.n_blocks=12)")
    with pytest.raises(TypeError, match=r"whole number .*, got 1.5.*\(trial 2: batch_size=1.5\)"):
        study.config_of(Variant(2, {"batch_size": 1.5}))


def test_combinations_that_are_not_allowed_are_refused_before_anything_starts():
    # A resnet has four levels; each value alone is allowed.
    space = {"network.name": {"choices": ["luna", "resnet"]}, "network.n_blocks": {"choices": [4, 3]}}
    with pytest.raises(ValueError, match=r"n_blocks of a resnet must be 4, got 3.*\(trial 4: network.name=resnet, "):
        made_study(space, searcher="grid", num_trials=None)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"searcher": "hyperopt"}, r"searcher must be one of grid, random, optuna, got 'hyperopt'"),
        ({"scheduler": "pbt"}, r"scheduler must be one of none, asha, got 'pbt'"),
        ({"metric": "f1"}, r"metric must be one of cpm, auc, got 'f1'"),
        ({"searcher": "grid", "num_trials": 4}, "A grid must not be told its trials, got num_trials 4. Leave it out"),
        ({"num_trials": 1}, r"have at least two trials, got num_trials 1. Give 2 or more. \(the first is the recipe"),
        ({"num_trials": None}, "A search must have at least two trials, got num_trials None"),
        ({"num_trials": 1, "searcher": "optuna"}, "A search must have at least two trials, got num_trials 1"),
        ({"num_trials": 0}, "num_trials must be at least 1, got 0"),
        ({"num_epochs": 0}, "num_epochs must be at least 1, got 0"),
        ({"total_epochs": 0}, "total_epochs must be at least 1, got 0"),
        ({"total_seconds": 0}, r"total_seconds must be in \(0, inf\), got 0"),
        ({"grace_epochs": 0}, "grace_epochs must be at least 1, got 0"),
        ({"reduction_factor": 1}, "reduction_factor must be at least 2, got 1"),
        ({"seed": -1}, "seed must be from 0 to 4294967295, got -1"),
        ({"seed": 2**32}, "seed must be from 0 to 4294967295, got 4294967296"),
        (
            {"base": demo().with_changes({"start.name": "older", "start.version": "1"})},
            "A study must begin with new weights, got those of older. Leave start.name out.",
        ),
        ({"base": demo_malignancy()}, "CPM must be of nodules found, got a study of malignant_cutouts. Take"),
        ({"space": SearchSpace.from_dict({"optimizer.lr": {"choices": [1]}})}, "one of the configuration's values"),
        ({"space": SearchSpace.from_dict({"seed": {"integers": [-1, 3]}})}, r"got -1.*\(search space, seed\)"),
    ],
)
def test_a_study_that_is_not_allowed_is_refused_in_one_line(values, message):
    study = made_study()
    with pytest.raises(ValueError, match=message) as refusal:
        replace(study, **values)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("searcher", ["random", "optuna"])
def test_a_rate_that_follows_the_validation_score_is_refused_whoever_searches(searcher):
    message = "learning rate must not follow the validation score, got the scheduler plateau: .*Take another scheduler"
    with pytest.raises(ValueError, match=message):
        made_study(base=demo().with_changes({"scheduler.name": "plateau"}), searcher=searcher)
    # Rejected as a choice, even if it is not drawn.
    space = {"scheduler.name": {"choices": ["cosine", "step", "constant", "exponential", "plateau"]}}
    for seed in range(3):
        with pytest.raises(ValueError, match=message):
            made_study(space, searcher=searcher, num_trials=2, seed=seed)


def test_another_rate_may_be_searched():
    study = made_study({"scheduler.name": {"choices": ["cosine", "step"]}}, searcher="optuna")
    assert study.config_of(Variant(1, {"scheduler.name": "step"})).scheduler.name == "step"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_trials": 2.5}, "num_trials must be a whole number"),
        ({"total_seconds": "9"}, "total_seconds must be a number"),
    ],
)
def test_a_value_of_another_kind_is_refused(values, message):
    with pytest.raises(TypeError, match=message):
        made_study(**values)


CHANGED = {
    "base": demo().with_changes(seed=1),
    "space": read_space("learning"),
    "searcher": "optuna",
    "scheduler": "none",
    "metric": "auc",
    "num_trials": 9,
    "num_epochs": 6,
    "total_epochs": 99,
    "total_seconds": 60.0,
    "grace_epochs": 2,
    "reduction_factor": 4,
    "seed": 1,
}


def test_no_value_of_a_study_is_left_out_here():
    assert set(CHANGED) == {field.name for field in fields(StudyConfig)}


@pytest.mark.parametrize("name", CHANGED)
def test_each_value_changes_the_digest(name):
    assert replace(made_study(), **{name: CHANGED[name]}).digest != made_study().digest


def test_equal_studies_have_equal_digests():
    assert len(made_study().digest) == 64
    assert made_study().digest == made_study().digest
    # 1 equals 1.0, in ranges and choices.
    for kind in ("uniform", "choices"):
        one, other = ({"augmentation.noise.std_hu": {kind: ends}} for ends in ([1, 2], [1.0, 2.0]))
        assert made_study(one) == made_study(other)
        assert made_study(one).digest == made_study(other).digest
    assert made_study(total_seconds=60).digest == made_study(total_seconds=60.0).digest


def test_a_study_is_plain_values_that_json_can_hold():
    space = {"network.options": {"choices": [[], [["blocks_per_level", 2]]]}, **RATES}
    study = made_study(space)
    plain = study.to_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert plain["space"] == space
    assert plain["base"] == demo().to_dict()
    assert (plain["searcher"], plain["num_trials"]) == ("random", 8)


def test_a_study_as_it_is_asked_for_has_defaults():
    study = TuningOptions().study(demo())
    assert (study.num_trials, study.metric, study.scheduler) == (16, "cpm", "asha")
    assert study.space == read_space("learning")
    assert TuningOptions(search="optuna").study(demo()).num_trials == 16
    assert TuningOptions().study(demo_malignancy()).metric == "auc"
    grid = TuningOptions(space="small_grid", search="grid").study(demo())
    assert (grid.num_trials, len(grid.variants())) == (None, 10)


def test_a_study_is_what_is_asked_for():
    study = TuningOptions(metric="auc", trials=3, epochs=2, seed=5).study(demo(), RATES)
    assert study == made_study(metric="auc", num_trials=3, num_epochs=2, seed=5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"trials": 0}, "num_trials must be at least 1, got 0"),
        ({"metric": ""}, "metric must be one of cpm, auc, got ''"),
        ({"space": "nowhere.json"}, "A search space must be a name or a JSON file"),
        ({"search": "grid", "trials": 4}, "A grid must not be told its trials, got num_trials 4"),
    ],
)
def test_what_is_asked_for_is_never_replaced_by_a_default(values, message):
    with pytest.raises(ValueError, match=message):
        TuningOptions(**values).study(demo())
