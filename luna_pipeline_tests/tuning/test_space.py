import itertools
import json

import numpy as np
import pytest

from luna_pipeline.core.training.config import TrainingConfig
from luna_pipeline.core.training.recipes import recipe_by_name
from luna_pipeline.tuning.domains import Choices, Integers, LogUniform, Uniform
from luna_pipeline.tuning.space import OWN_PLACES, SPACES, SearchSpace, changes_from_plain, read_space

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
    from luna_pipeline.core.models.config import NETWORKS

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
            "The network must be one of luna, resnet, densenet, se_resnet, convnext, multiscale, got 'lunar'. Choose",
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
        # Not even its ends, which are whole, are: nothing between them is.
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
    # More than any memory holds: the size is known without it.
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
        (None, "A search space must be a name or a JSON file, got [Errno 2] No such file or directory: "),
        ("{", "A search space must be a name or a JSON file, got Expecting property name"),
        ("\xff", "A search space must be a name or a JSON file, got 'utf-8' codec can't decode"),
        ("[1]", "A search space must name its places, got [1]. Write a JSON object."),
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
        assert str(refusal.value).endswith(f"({path}). Mend or rename it.")


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
