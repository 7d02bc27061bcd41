"""Search algorithms and schedulers; Ray is imported but not started."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import ray
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from luna_pipeline.tuning.ray.search import (
    EpochBudget,
    PromisingSearch,
    asked_of_ray,
    decoded,
    distribution_of,
    encoded,
    plain_variant,
    scheduler_of,
    variant_of,
)
from luna_pipeline.tuning.records import FINISHED, TrialEnd, TrialProgress, TrialRecords
from luna_pipeline.tuning.space import Choices, Integers, LogUniform, SearchSpace, Uniform
from luna_pipeline.tuning.study import Variant
from luna_pipeline_tests.tuning.made_studies import made_study

SPACE = SearchSpace(
    {
        "optimizer.learning_rate": LogUniform(1e-4, 1e-2),
        "network.dropout_rate": Uniform(0.0, 0.5),
        "optimizer.betas": Choices(((0.9, 0.999), (0.8, 0.9))),
        "network.n_blocks": Integers(3, 4),
    }
)
CORNER = SearchSpace({"network.dropout_rate": Uniform(0.0, 0.5), "augmentation.noise.std_hu": Uniform(0.0, 50.0)})


@pytest.fixture(autouse=True)
def _no_cluster():
    yield
    assert not ray.is_initialized()


def asked(search: PromisingSearch, number: int, *, score=lambda _changes: 0.5, begin: int = 0) -> list[Variant]:
    """Ask for trials one after the other; each reaches its score in two epochs."""
    variants = []
    for position in range(begin, begin + number):
        variants.append(variant_of(search.suggest(f"ray-{position}")))
        value = score(variants[-1].changes)
        for epoch in (1, 2):
            result = {"epoch": epoch, "score": value * epoch / 2, "error": "", "training_iteration": epoch}
            search.on_trial_result(f"ray-{position}", result)
        search.on_trial_complete(f"ray-{position}", {"score": value})
    return variants


def test_the_first_trial_is_the_recipe_and_the_others_are_numbered_and_in_the_space():
    variants = asked(PromisingSearch(SPACE, seed=0), 30)
    assert [variant.trial for variant in variants] == list(range(30))
    assert variants[0].changes == {}
    for variant in variants[1:]:
        assert list(variant.changes) == list(SPACE.domains)
        assert all(domain.holds(variant.changes[place]) for place, domain in SPACE.domains.items())


def test_what_a_lost_driver_had_asked_for_and_not_noted_keeps_its_number(tmp_path):
    records = TrialRecords(tmp_path)
    search = PromisingSearch(SPACE, seed=0, records=records)
    assert [variant.trial for variant in asked(search, 2)] == [0, 1]
    search.save(str(tmp_path / "notes"))
    # Two more were started after the state was saved, and one of them has ended.
    records.keep(TrialProgress(variant=Variant(2, {"network.n_blocks": 3})))
    records.end(TrialEnd(trial=3, changes={"network.n_blocks": 4}, state=FINISHED))
    again = PromisingSearch(SPACE, seed=0, records=records)
    again.restore(str(tmp_path / "notes"))
    assert [variant.trial for variant in asked(again, 2, begin=2)] == [4, 5]


@pytest.mark.parametrize("place", ["optimizer.betas", "network.n_blocks"])
def test_all_that_is_countable_is_tried(place):
    tried = {variant.changes[place] for variant in asked(PromisingSearch(SPACE, seed=0), 20)[1:]}
    assert tried == set(SPACE.domains[place].grid())


def test_the_same_seed_asks_for_the_same_and_another_for_something_else():
    one, same, other = (asked(PromisingSearch(SPACE, seed=seed), 15) for seed in (3, 3, 4))
    assert one == same
    assert all(variant != another for variant, another in zip(one[1:], other[1:], strict=True))


def corner_distance(changes) -> float:
    """Distance of a trial from no dropout and full noise, in sides of the space."""
    if not changes:
        return 1.0
    return math.hypot(changes["network.dropout_rate"] / 0.5, 1 - changes["augmentation.noise.std_hu"] / 50)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_search_moves_to_where_scores_are_high(seed):
    variants = asked(PromisingSearch(CORNER, seed=seed), 40, score=lambda changes: 1 - corner_distance(changes))
    distances = [corner_distance(variant.changes) for variant in variants[1:]]
    # The first ten are uniform draws.
    assert np.mean(distances[-15:]) < 0.7 * np.mean(distances[:10])


def test_a_search_that_is_told_nothing_better_moves_nowhere():
    variants = asked(PromisingSearch(CORNER, seed=0), 60)
    # The mean distance of uniform draws from a corner is 0.765.
    assert np.mean([corner_distance(variant.changes) for variant in variants[-30:]]) == pytest.approx(0.765, abs=0.2)


def test_what_the_recipe_reached_is_not_told_to_optuna():
    search = PromisingSearch(CORNER, seed=0)
    asked(search, 1)
    # Optuna's own trials are reported, failed or not.
    search.suggest("ray-1")
    search.on_trial_complete("ray-1", error=True)
    # No other trial was suggested.
    with pytest.raises(KeyError):
        search.on_trial_complete("ray-2", {"score": 0.5})
    with pytest.raises(KeyError):
        search.on_trial_result("ray-2", {"score": 0.5, "training_iteration": 1})


def test_a_search_that_is_taken_up_again_goes_on_with_its_numbers_and_its_draws(tmp_path):
    search = PromisingSearch(CORNER, seed=0)
    search.suggest("ray-0")
    before = [variant_of(search.suggest(f"ray-{position}")) for position in range(1, 5)]
    search.save(str(tmp_path / "state"))
    again = PromisingSearch(CORNER, seed=99)
    again.restore(str(tmp_path / "state"))
    # The recipe ends only now, and is still not reported to Optuna.
    for restored in (search, again):
        restored.on_trial_complete("ray-0", {"score": 0.5})
        for position in range(1, 5):
            restored.on_trial_complete(f"ray-{position}", {"score": 0.1 * position})
    after = asked(again, 12, begin=5)
    assert [variant.trial for variant in after] == list(range(5, 17))
    assert after == asked(search, 12, begin=5)
    assert not any(variant.changes == old.changes for variant in after for old in before)


def test_nothing_to_try_is_no_trial(monkeypatch):
    from ray.tune.search.optuna import OptunaSearch

    search = PromisingSearch(CORNER, seed=0)
    asked(search, 1)
    monkeypatch.setattr(OptunaSearch, "suggest", lambda *_: None)
    assert search.suggest("ray-1") is None
    monkeypatch.undo()
    assert variant_of(search.suggest("ray-1")).trial == 1


def test_domains_are_optunas_distributions():
    rate = distribution_of(LogUniform(1e-4, 1e-2))
    assert (rate.low, rate.high, rate.log) == (1e-4, 1e-2, True)
    share = distribution_of(Uniform(0, 1))
    assert (share.low, share.high, share.log) == (0.0, 1.0, False)
    blocks = distribution_of(Integers(3, 5))
    assert (blocks.low, blocks.high, blocks.step, blocks.log) == (3, 5, 1, False)
    assert distribution_of(Choices(("a", (1, 2), None))).choices == (0, 1, 2)


@pytest.mark.parametrize("value", ["a", (1, 2), None])
def test_optuna_knows_choices_by_their_places(value):
    domain = Choices(("a", (1, 2), None))
    assert encoded(domain, value) == ["a", (1, 2), None].index(value)
    assert decoded(domain, encoded(domain, value)) == value


@pytest.mark.parametrize("domain", [Integers(3, 5), Uniform(1, 9), LogUniform(1, 9)])
def test_optuna_knows_numbers_as_they_are(domain):
    assert encoded(domain, 4) == decoded(domain, 4) == 4


def test_an_epoch_budget_counts_epochs_of_all_trials_and_no_failures():
    budget = EpochBudget(3)
    results = [("a", ""), ("b", ""), ("b", "ValueError: no"), ("c", "OSError: full")]
    for trial, error in results:
        # A single trial is not stopped.
        assert budget(trial, {"epoch": 9, "score": 0.0, "error": error}) is False
        assert not budget.stop_all()
    assert budget("a", {"epoch": 2, "score": 0.5}) is False
    assert budget.stop_all()


def told(scheduler: TrialScheduler, trials: dict[str, float], epoch: int) -> dict[str, str]:
    """Decisions on trials that reach these scores at an epoch, in order."""
    return {
        name: scheduler.on_trial_result(None, SimpleNamespace(trial_id=name), {"epoch": epoch, "score": score})
        for name, score in trials.items()
    }


def asha(**more) -> TrialScheduler:
    scheduler = scheduler_of(made_study(scheduler="asha", **more))
    for name in "abcd":
        scheduler.on_trial_add(None, SimpleNamespace(trial_id=name))
    return scheduler


def test_without_a_scheduler_nobody_is_stopped():
    scheduler = scheduler_of(made_study(scheduler="none"))
    assert isinstance(scheduler, FIFOScheduler)
    assert told(scheduler, {"a": 0.9, "b": 0.0}, 5) == {"a": "CONTINUE", "b": "CONTINUE"}


def test_asha_lets_the_better_part_go_on_and_ends_all_at_the_last_epoch():
    scheduler = asha(num_epochs=9, reduction_factor=2)
    # The lower half is stopped: scores below the median of the earlier ones.
    assert told(scheduler, {"a": 0.9, "b": 0.5, "c": 0.8, "d": 0.7}, 1) == {
        "a": "CONTINUE",
        "b": "STOP",
        "c": "CONTINUE",
        "d": "STOP",
    }
    assert told(scheduler, {"a": 0.9}, 8) == {"a": "CONTINUE"}
    assert told(scheduler, {"a": 0.9, "c": 0.9}, 9) == {"a": "STOP", "c": "STOP"}


def test_asha_takes_the_reduction_factor_of_the_study():
    # The third after 0.9 and 0.3: the upper half starts at 0.6, the upper third at 0.7.
    for factor, decision in ((2, "CONTINUE"), (3, "STOP")):
        scheduler = asha(num_epochs=9, reduction_factor=factor)
        assert told(scheduler, {"a": 0.3, "b": 0.9, "c": 0.65}, 1)["c"] == decision


def test_asha_stops_nobody_within_the_grace_epochs():
    scheduler = asha(num_epochs=9, grace_epochs=4)
    for epoch in (1, 2, 3):
        assert told(scheduler, {"a": 0.9, "b": 0.1}, epoch) == {"a": "CONTINUE", "b": "CONTINUE"}
    assert told(scheduler, {"a": 0.9, "b": 0.1}, 4) == {"a": "CONTINUE", "b": "STOP"}


def test_more_grace_than_epochs_is_grace_to_the_end():
    scheduler = asha(num_epochs=3, grace_epochs=20)
    for epoch in (1, 2):
        assert told(scheduler, {"a": 0.9, "b": 0.1}, epoch) == {"a": "CONTINUE", "b": "CONTINUE"}
    assert told(scheduler, {"a": 0.9, "b": 0.1}, 3) == {"a": "STOP", "b": "STOP"}


def test_ray_goes_through_what_is_known_beforehand():
    study = made_study()
    space, searcher = asked_of_ray(study)
    assert searcher is None
    assert list(space) == ["variant"]
    assert [variant_of({"variant": plain}) for plain in space["variant"]["grid_search"]] == study.variants()


def test_ray_asks_optuna_for_what_is_not():
    study = made_study(searcher="optuna", seed=5)
    space, searcher = asked_of_ray(study)
    assert space == {}
    assert asked(searcher, 5) == asked(PromisingSearch(study.space, seed=5), 5)


def test_a_variant_goes_to_ray_and_back():
    variant = Variant(7, {"optimizer.betas": (0.9, 0.99)})
    assert plain_variant(variant) == {"trial": 7, "changes": {"optimizer.betas": (0.9, 0.99)}}
    assert variant_of({"variant": plain_variant(variant)}) == variant
