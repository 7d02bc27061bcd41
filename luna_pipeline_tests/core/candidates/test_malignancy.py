import numpy as np
import pandas as pd
import pytest

from luna_pipeline.core.candidates.malignancy import (
    count_labels,
    describe_counts,
    label_malignancy,
    parse_ratings,
)
from luna_pipeline.core.candidates.malignancy_policies import MALIGNANCY_POLICIES, is_malignant_by_readers


@pytest.mark.seed_defect(20)
@pytest.mark.parametrize(
    ("ratings", "expected"),
    [([4, 4], True), ([5, 4, 1, 1], True), ([4, 3, 3, 3], False), ([3, 3, 3, 3], False), ([5], False), ([], False)],
)
def test_two_readers_must_rate_4_or_5(ratings, expected):
    assert is_malignant_by_readers(ratings) is expected


@pytest.mark.parametrize(
    ("text", "ratings"), [("[4, 2, 4, 2]", [4, 2, 4, 2]), ("2 2 4", [2, 2, 4]), ("[5]", [5]), ("", []), ("[]", [])]
)
def test_ratings_are_read_as_written(text, ratings):
    assert parse_ratings(text) == ratings


@pytest.mark.parametrize("text", ["four", "[0, 3]", "[6]", "4.5", "[4, -2]", "nan"])
def test_anything_else_is_refused(text):
    with pytest.raises(ValueError, match="Ratings must be numbers from 1 to 5, got"):
        parse_ratings(text)


@pytest.mark.seed_defect(20)
def test_the_files_label_comes_first_then_the_readers_then_nothing():
    table = pd.DataFrame(
        {
            "is_malignant": ["True", "False", "false", "1", "", ""],
            "ratings": ["[1, 1]", "[5, 5]", "", "", "[4, 5, 1]", ""],
        }
    )
    labels = label_malignancy(table)
    assert labels.is_malignant.tolist() == [True, False, False, True, True, pd.NA]
    np.testing.assert_allclose(labels.malignancy, [1, 5, np.nan, np.nan, 10 / 3, np.nan])


def test_either_column_will_do():
    assert label_malignancy(pd.DataFrame({"is_malignant": ["True"]})).is_malignant.tolist() == [True]
    assert label_malignancy(pd.DataFrame({"ratings": ["[4, 4]"]})).is_malignant.tolist() == [True]
    assert label_malignancy(pd.DataFrame({"x": ["1"]})).is_malignant.tolist() == [pd.NA]


@pytest.mark.parametrize(
    ("ratings", "book", "mean", "median"),
    [
        ([3], False, None, None),
        ([4], False, True, True),
        ([1, 5], False, None, None),
        ([3, 4], False, True, True),
        ([2, 3], False, False, False),
        ([2, 3, 3, 5], False, True, None),
        ([1, 3, 3, 4], False, False, None),
        ([1, 1, 4, 4], True, False, False),
        ([1, 4, 4], True, None, True),
        ([2, 2, 5], False, None, False),
        # The mean of three thirds is 3 exactly.
        ([2, 3, 4], False, None, None),
    ],
)
def test_policies_label_ratings(ratings, book, mean, median):
    labels = {name: MALIGNANCY_POLICIES.get(name)(ratings) for name in ("book", "mean", "median")}
    assert labels == {"book": book, "mean": mean, "median": median}
    assert {name: MALIGNANCY_POLICIES.get(name)(ratings[::-1]) for name in labels} == labels


def test_other_policies_take_ratings_before_the_files_label():
    table = pd.DataFrame({"is_malignant": ["True", "True", ""], "ratings": ["[1, 1, 3]", "", "[3, 3]"]})
    assert label_malignancy(table, "book").is_malignant.tolist() == [True, True, False]
    assert label_malignancy(table, "mean").is_malignant.tolist() == [False, True, pd.NA]


def test_an_unknown_policy_is_refused():
    with pytest.raises(ValueError, match="malignancy policy must be one of book, mean, median, got 'mode'"):
        label_malignancy(pd.DataFrame({"ratings": ["3"]}), "mode")


def test_labels_are_counted_by_policy():
    counts = count_labels([[4, 4, 1], [3, 3], [1, 2], []])
    assert counts.to_numpy().tolist() == [["book", 1, 2, 0], ["mean", 0, 1, 2], ["median", 1, 1, 1]]
    assert describe_counts(counts)[1] == "Malignancy by policy mean: 0 malignant, 1 benign, 2 dropped."
