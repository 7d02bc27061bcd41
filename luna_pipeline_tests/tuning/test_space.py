import itertools
import json
import math
from collections import Counter

import numpy as np
import pytest

from luna_pipeline.core.training.config import TrainingConfig
from luna_pipeline.core.training.recipes import recipe_by_name
from luna_pipeline.tuning.space import (
    OWN_PLACES,
    SPACES,
    Choices,
    Integers,
    LogUniform,
    SearchSpace,
    Uniform,
    changes_from_plain,
    domain_from_plain,
    domain_to_plain,
    read_space,
)

OWN_SPACES = ("learning", "network", "augmentation", "everything", "small_grid")
RECIPES = ("nodule_baseline", "malignancy_baseline", "demo")


@pytest.fixture
def base() -> TrainingConfig:
    return recipe_by_name("nodule_baseline")


def test_these_spaces_have_names():
    assert SPACES.names() == OWN_SPACES


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("name", OWN_SPACES)
def test_whatever_is_drawn_from_a_named_space_is_a_configuration(name, recipe):
    space, config = read_space(name), recipe_by_name(recipe)
    space.check(config)
    random = np.random.default_rng(2)
    for _ in range(200):
        changes = space.sample(random)
        flat = config.with_changes(changes).flat()
        assert {place: flat[place] for place in space.domains} == changes


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("name", OWN_SPACES)
def test_all_extremes_of_what_is_countable_go_together(name, recipe):
    space, config = read_space(name), recipe_by_name(recipe)
    countable = {place: domain for place, domain in space.domains.items() if isinstance(domain, Choices | Integers)}
    for values in itertools.product(*(domain.extremes() for domain in countable.values())):
        changes = dict(zip(countable, values, strict=True))
        flat = config.with_changes(changes).flat()
        assert {place: flat[place] for place in countable} == changes


def test_networks_of_the_network_space_can_be_built(base):
    from luna_pipeline.core.networks.config import NETWORKS

    domains = read_space("network").domains
    names, levels = domains["network.name"].grid(), domains["network.n_blocks"].extremes()
    for name, n_blocks in itertools.product(names, levels):
        config = base.with_changes({"network.name": name, "network.n_blocks": n_blocks, "network.conv_channels": 4})
        assert sum(weights.numel() for weights in NETWORKS.get(name)(config.network).parameters()) > 1000


def test_everything_is_all_of_the_three_others():
    places = [place for name in ("learning", "network", "augmentation") for place in read_space(name).domains]
    assert list(read_space("everything").domains) == places
    assert len(places) == len(set(places)) == 17


def test_the_small_grid_has_nine_combinations_around_the_recipe(base):
    combinations = list(read_space("small_grid").grid())
    assert len(combinations) == 9
    assert {place: base.flat()[place] for place in combinations[0]} in combinations


@pytest.mark.parametrize("place", ["optimizer.lr", "colour", "optimizer", "optimizer.learning_rate.start"])
def test_a_place_that_the_configuration_has_not_is_refused_with_those_it_has(base, place):
    space = SearchSpace({place: Uniform(0.1, 0.2)})
    with pytest.raises(ValueError, match="one of the configuration's values") as refusal:
        space.check(base)
    message = str(refusal.value)
    assert message.startswith(f"A search space's place must be one of the configuration's values, got '{place}'.")
    assert "Choose among model, trainer, network.name, " in message
    assert ("Did you mean 'optimizer.learning_rate'?" in message) == (place == "optimizer.learning_rate.start")
    assert "optimizer.learning_rate, " in message
    assert "\n" not in message


def test_what_a_study_decides_for_itself_is_no_place(base):
    own = [place for place in base.flat() if place.partition(".")[0] in OWN_PLACES]
    assert {"name", "version", "dataset", "num_epochs", "validation_cadence", "use_annotations", "frozen"} < set(own)
    assert {"start.name", "start.version"} < set(own)
    for place in own:
        with pytest.raises(ValueError, match="one of the configuration's values") as refusal:
            SearchSpace({place: Choices((1, 2))}).check(base)
        assert f"got '{place}'" in str(refusal.value)
        assert f" {place}," not in str(refusal.value).partition("Choose among")[2]


def test_all_other_places_can_be_searched(base):
    others = {place: value for place, value in base.flat().items() if place.partition(".")[0] not in OWN_PLACES}
    assert len(others) > 30
    SearchSpace({place: Choices((value,)) for place, value in others.items()}).check(base)


@pytest.mark.parametrize(
    ("place", "domain", "message"),
    [
        (
            "optimizer.learning_rate",
            Uniform(0, 1),
            "optimizer.learning_rate must be in (0, 1], got 0.0. Change optimizer.learning_rate. "
            "(search space, optimizer.learning_rate)",
        ),
        (
            "network.dropout_rate",
            Uniform(0, 1),
            "network.dropout_rate must be in [0, 1), got 1.0. Change network.dropout_rate. "
            "(search space, network.dropout_rate)",
        ),
        (
            "network.name",
            Choices(("luna", "lunar")),
            "The network must be one of luna, resnet, densenet, se_resnet, convnext, multiscale, book_unet, unet3d",
        ),
        (
            "network.n_blocks",
            Integers(4, 9),
            "network.n_blocks must be from 1 to 8, got 9. Change network.n_blocks. (search space, network.n_blocks)",
        ),
    ],
)
def test_a_value_out_of_range_is_refused_with_its_place_in_one_line(base, place, domain, message):
    with pytest.raises(ValueError, match="search space, ") as refusal:
        SearchSpace({place: domain}).check(base)
    assert str(refusal.value).startswith(message)
    assert str(refusal.value).endswith(f"(search space, {place})")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("place", "domain"),
    [
        # Rejected although the ends are whole numbers.
        ("network.n_blocks", Uniform(3, 4)),
        ("batch_size", LogUniform(8, 64)),
        ("optimizer.learning_rate", Choices((0.1, "0.2"))),
        ("compute.channels_last", Choices((True, 0))),
    ],
)
def test_a_value_of_another_kind_is_refused_with_its_place_in_one_line(base, place, domain):
    with pytest.raises(TypeError, match="must be") as refusal:
        SearchSpace({place: domain}).check(base)
    assert str(refusal.value).startswith(place)
    assert str(refusal.value).endswith(f"(search space, {place})")
    assert "\n" not in str(refusal.value)


def test_a_grid_moves_its_last_place_fastest():
    space = SearchSpace({"batch_size": Choices((16, 8)), "network.n_blocks": Integers(3, 4)})
    assert list(space.grid()) == [
        {"batch_size": 16, "network.n_blocks": 3},
        {"batch_size": 16, "network.n_blocks": 4},
        {"batch_size": 8, "network.n_blocks": 3},
        {"batch_size": 8, "network.n_blocks": 4},
    ]


@pytest.mark.parametrize("domain", [Uniform(0.1, 0.2), LogUniform(0.1, 0.2)])
def test_a_range_of_numbers_has_no_grid(domain):
    space = SearchSpace({"batch_size": Choices((8,)), "optimizer.learning_rate": domain})
    with pytest.raises(
        ValueError, match=r"countable values, got a range of numbers \(optimizer\.learning_rate\)\. Give"
    ):
        next(space.grid())


def test_a_grid_ends_at_a_hundred_thousand_combinations():
    space = SearchSpace({"seed": Integers(1, 1000), "batch_size": Integers(1, 100)})
    assert next(space.grid()) == {"seed": 1, "batch_size": 1}
    # Too many for memory: the size is computed without them.
    too_large = SearchSpace({"seed": Integers(0, 2**32 - 1), "batch_size": Integers(1, 2)})
    with pytest.raises(ValueError, match=r"at most 100000 combinations, got 8589934592\. Leave out values or search"):
        next(too_large.grid())
    with pytest.raises(ValueError, match="at most 100000 combinations, got 100100"):
        next(SearchSpace({"seed": Integers(0, 1000), "batch_size": Integers(1, 100)}).grid())


def test_each_place_is_drawn_in_its_domain_and_the_same_again_from_the_same_seed():
    space = read_space("everything")
    drawn = space.sample(np.random.default_rng(3))
    assert list(drawn) == list(space.domains)
    assert all(domain.holds(drawn[place]) for place, domain in space.domains.items())
    assert space.sample(np.random.default_rng(3)) == drawn
    assert space.sample(np.random.default_rng(4)) != drawn


def test_a_space_comes_back_from_json():
    for name in OWN_SPACES:
        space = read_space(name)
        assert SearchSpace.from_dict(json.loads(json.dumps(space.to_dict()))) == space
    assert read_space("small_grid").to_dict() == {
        "optimizer.learning_rate": {"choices": [0.0003, 0.001, 0.003]},
        "scheduler.gamma": {"choices": [0.5, 0.7, 0.9]},
    }


def test_a_space_is_read_from_a_json_file(tmp_path):
    (tmp_path / "mine.json").write_text('{"optimizer.betas": {"choices": [[0.9, 0.99], [0.8, 0.9]]}}')
    space = read_space(str(tmp_path / "mine.json"))
    assert space == SearchSpace({"optimizer.betas": Choices(((0.9, 0.99), (0.8, 0.9)))})


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "A search space must be a name or a JSON file, got no such file ("),
        ("{", "A search space must be a JSON file with an object, got Expecting property name"),
        ("\xff", "A search space must be a JSON file with an object, got bytes that are no UTF-8 at byte 0 ("),
        ("[1]", "A search space must be a JSON file with an object, got a list instead of an object {...} ("),
        ("{}", "A search space must hold at least one place, got none. Name one, such as optimizer.learning_rate."),
        (
            '{"seed": 3}',
            "What is searched must be one of choices, integers, uniform, log_uniform with its values, got 3",
        ),
    ],
)
def test_a_file_without_a_space_is_refused_in_one_line(tmp_path, content, reason):
    path = tmp_path / "mine.json"
    if content is not None:
        path.write_bytes(content.encode("latin-1"))
    with pytest.raises(ValueError, match="must") as refusal:
        read_space(str(path))
    assert str(refusal.value).startswith(reason)
    assert "\n" not in str(refusal.value)
    if reason.startswith("A search space must be a name"):
        assert str(refusal.value).endswith(f"({path}). Fix or rename it.")


def test_an_unknown_name_is_refused_with_the_known_ones():
    known = "The search space must be one of learning, network, augmentation, everything, small_grid, got 'lerning'"
    with pytest.raises(ValueError, match=known):
        read_space("lerning")


@pytest.mark.parametrize("name", ["mine", "mine.v2"])
def test_a_space_of_a_users_own_is_found_by_its_name(name):
    space = SearchSpace({"seed": Integers(0, 9)})
    SPACES.register(name)(lambda: space)
    try:
        assert read_space(name) is space
    finally:
        SPACES.forget(name)


def test_changes_that_json_has_read_have_their_tuples_again():
    changes = {"network.options": ((("levels", 2),)), "optimizer.betas": (0.9, 0.99), "seed": 3}
    assert changes_from_plain(json.loads(json.dumps(changes))) == changes


NESTED = ((("levels", 2),), (("levels", 1), ("width", 3)))


def draws(domain, number: int = 3000) -> list:
    random = np.random.default_rng(5)
    return [domain.sample(random) for _ in range(number)]


def test_each_choice_is_drawn_about_as_often_as_the_others():
    counts = Counter(draws(Choices(("adamw", "sgd", None))))
    # A thousand each; three standard deviations are 77.
    assert counts.keys() == {"adamw", "sgd", None}
    assert all(count == pytest.approx(1000, abs=77) for count in counts.values())


def test_integers_are_drawn_with_both_ends_and_nothing_beside():
    counts = Counter(draws(Integers(-1, 1)))
    assert counts.keys() == {-1, 0, 1}
    assert all(count == pytest.approx(1000, abs=77) for count in counts.values())
    assert all(type(value) is int for value in counts)


def test_uniform_numbers_fill_their_range_evenly():
    values = draws(Uniform(2.0, 6.0))
    counts, _ = np.histogram(values, bins=[2, 3, 4, 5, 6])
    # 750 each; three standard deviations are 71.
    assert counts.tolist() == pytest.approx([750] * 4, abs=71)
    assert counts.sum() == len(values)
    assert type(values[0]) is float


def test_log_uniform_numbers_fall_into_each_order_of_magnitude_alike():
    values = draws(LogUniform(1e-4, 1e-1))
    counts, _ = np.histogram(values, bins=[1e-4, 1e-3, 1e-2, 1e-1])
    assert counts.tolist() == pytest.approx([1000] * 3, abs=77)
    assert counts.sum() == len(values)
    assert type(values[0]) is float


class EndsOnly:
    """Returns an end instead of a random number."""

    def __init__(self, end: int) -> None:
        self.end = end

    def uniform(self, *ends: float) -> float:
        return ends[self.end]


def test_rounding_leads_past_no_end_of_a_log_uniform_range():
    low, high = 0.003, 3.0
    assert math.exp(math.log(low)) < low
    assert math.exp(math.log(high)) > high
    assert [LogUniform(low, high).sample(EndsOnly(end)) for end in (0, 1)] == [low, high]


@pytest.mark.parametrize(
    ("domain", "inside", "outside"),
    [
        (Choices((8, None, (1, 2))), [8, None, (1, 2)], [9, (2, 1), "8"]),
        (Integers(3, 5), [3, 4, 5], [2, 6, 3.5, None, "4"]),
        (Uniform(0.5, 2.0), [0.5, 1, 2.0], [0.49, 2.01, None, "1"]),
        (LogUniform(0.01, 1.0), [0.01, 0.5, 1], [0.009, 1.1, 0, None, "0.5"]),
    ],
)
def test_a_domain_holds_its_ends_and_what_is_between_and_says_no_to_all_else(domain, inside, outside):
    assert [domain.holds(value) for value in inside] == [True] * len(inside)
    assert [domain.holds(value) for value in outside] == [False] * len(outside)


def test_what_is_countable_is_counted_in_its_order():
    assert Choices(("b", "a")).grid() == ("b", "a")
    assert list(Integers(3, 6).grid()) == [3, 4, 5, 6]


def test_counting_takes_no_room():
    assert len(Integers(0, 2**32).grid()) == 2**32 + 1


def test_extremes_are_what_must_be_allowed():
    assert Choices(("b", "a")).extremes() == ("b", "a")
    assert Integers(3, 6).extremes() == (3, 6)
    for domain in (Uniform(1, 2), LogUniform(1, 2)):
        assert domain.extremes() == (1.0, 2.0)
        # Floats, which a place for integers rejects.
        assert [type(end) for end in domain.extremes()] == [float, float]


@pytest.mark.parametrize(
    ("plain", "domain"),
    [
        ({"choices": ["adamw", "sgd"]}, Choices(("adamw", "sgd"))),
        ({"choices": [[0.9, 0.999], [0.8, 0.99]]}, Choices(((0.9, 0.999), (0.8, 0.99)))),
        ({"choices": [[["levels", 2]], [["levels", 1], ["width", 3]]]}, Choices(NESTED)),
        ({"choices": [None, True, 3]}, Choices((None, True, 3))),
        ({"integers": [3, 5]}, Integers(3, 5)),
        ({"uniform": [0, 0.5]}, Uniform(0, 0.5)),
        ({"log_uniform": [1e-4, 1e-2]}, LogUniform(1e-4, 1e-2)),
    ],
)
def test_a_domain_comes_from_its_plain_form_and_goes_back(plain, domain):
    assert domain_from_plain("place", plain) == domain
    assert domain_to_plain(domain) == plain
    assert json.loads(json.dumps(plain)) == plain


ONE_OF = "What is searched must be one of choices, integers, uniform, log_uniform with its values, got "


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        ({"normal": [0, 1]}, ONE_OF + "{'normal': [0, 1]} (a.b). Write"),
        ({"choices": "adamw"}, ONE_OF + "{'choices': 'adamw'} (a.b). Write"),
        ({"uniform": [0, 1], "choices": [1]}, ONE_OF + "{'uniform': [0, 1], 'choices': [1]} (a.b). Write"),
        ([0, 1], ONE_OF + "[0, 1] (a.b). Write"),
        ({"uniform": [0, 1, 2]}, "A range must have a low and a high end, got [0, 1, 2] (a.b). Give two numbers."),
        ({"integers": [1]}, "A range must have a low and a high end, got [1] (a.b). Give two numbers."),
        ({"uniform": [2, 1]}, "A range's low end must be below its high end, got 2 and 1. Exchange or part them."),
        ({"integers": [3, 3]}, "A range's low end must be below its high end, got 3 and 3. Exchange or part them."),
        ({"log_uniform": [0, 1]}, "log_uniform's low end must be in (0, inf), got 0. Change log_uniform's low end."),
        ({"log_uniform": [1, -1]}, "log_uniform's high end must be in (0, inf), got -1."),
        ({"uniform": [0, math.inf]}, "uniform's high end must be in (-inf, inf), got inf."),
        ({"uniform": [math.nan, 1]}, "uniform's low end must be in (-inf, inf), got nan."),
        ({"integers": [0, 2**53 + 1]}, "integers' high end must be from -9007199254740992 to 9007199254740992, got"),
        ({"integers": [-(2**53) - 1, 0]}, "integers' low end must be from -9007199254740992 to 9007199254740992, got"),
        ({"choices": []}, "Choices must hold at least one value, got none. Leave the place out of the search."),
        ({"choices": [4, 8, 4]}, "Choices must hold each value once, got 4 twice. Leave one out."),
    ],
)
def test_what_is_no_domain_is_refused_in_one_line_that_names_the_place(plain, message):
    with pytest.raises(ValueError, match=r"a\.b") as refusal:
        domain_from_plain("a.b", plain)
    assert str(refusal.value).startswith(message)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        ({"uniform": ["0", 1]}, "uniform's low end must be a number in (-inf, inf), got '0'. Give a float."),
        ({"uniform": [0, None]}, "uniform's high end must be a number in (-inf, inf), got None. Give a float."),
        ({"log_uniform": [True, 2]}, "log_uniform's low end must be a number in (0, inf), got True. Give a float."),
        ({"log_uniform": [1, "2"]}, "log_uniform's high end must be a number in (0, inf), got '2'. Give a float."),
        ({"integers": [1.5, 2]}, "integers' low end must be a whole number from -9007199254740992 to "),
        ({"integers": [1, "2"]}, "integers' high end must be a whole number from -9007199254740992 to "),
    ],
)
def test_an_end_of_another_kind_is_refused_in_one_line_that_names_the_place(plain, message):
    with pytest.raises(TypeError, match=r"\(search space, a\.b\)") as refusal:
        domain_from_plain("a.b", plain)
    assert str(refusal.value).startswith(message)
    assert "\n" not in str(refusal.value)
