import json
import math
from collections import Counter

import numpy as np
import pytest

from luna_pipeline.tuning.domains import (
    Choices,
    Integers,
    LogUniform,
    Uniform,
    domain_from_plain,
    domain_to_plain,
)

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
    """Draws the ends, where rounding shows."""

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
        # A place for whole numbers refuses these, as it would most between them.
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
