import numpy as np
import pandas as pd
import pytest

from luna_pipeline.core.candidates.malignancy import is_malignant_by_readers, label_malignancy, parse_ratings


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
