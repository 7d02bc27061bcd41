"""Names of sets of folds."""

import pytest

from luna_pipeline.core.evaluation.fold_names import folds_in_words


@pytest.mark.parametrize(
    ("folds", "num_folds", "words"),
    [
        ((0,), 5, "fold 0 of 5"),
        ((3, 1, 1), 5, "folds 1, 3 of 5"),
        ((0, 1), 2, "all 2 folds"),
        ((0,), 1, "fold 0 of 1"),
        ((), 5, "no fold"),
    ],
)
def test_folds_in_words(folds, num_folds, words):
    assert folds_in_words(folds, num_folds) == words
