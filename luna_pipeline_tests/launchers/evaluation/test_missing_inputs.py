"""Missing inputs are named all at once, and the baselines that are missing are those of the folds to be scored."""

import pytest

from luna_pipeline.launchers.cross_validation import pooled_folds
from luna_pipeline.launchers.evaluation.missing_inputs import missing_baselines, missing_inputs
from luna_pipeline.launchers.installation import read_table
from luna_pipeline_tests.launchers.evaluated import FOLDS, NODULE_CLASSIFIER, evaluated, evaluated_source

__all__ = ["evaluated", "evaluated_source"]


def to_make(evaluated) -> list[tuple[str, int, int | None, str]]:
    found = missing_baselines(evaluated.settings, pooled_folds(evaluated.settings, NODULE_CLASSIFIER))
    return [(each.asset, each.fold, each.validation_fold, each.reason) for each in found]


def write_baselines(evaluated, fold: int, **changes) -> None:
    """Write tables of baselines, with another table in their place: only what is read of them counts."""
    table = read_table(evaluated.settings, "nodule_models", fold).assign(**changes)
    for name in ("zero_rule_baseline", "feature_baseline", "feature_baseline_models"):
        evaluated.write_table(f"{name}/{fold}", table)


def test_missing_baselines_are_of_the_pooled_folds_and_of_their_classifiers_validation_fold(evaluated):
    missing = "it is missing"
    assert to_make(evaluated) == [
        ("zero_rule_baseline", 0, 1, missing),
        ("feature_baseline", 0, 1, missing),
        ("zero_rule_baseline", 1, 2, missing),
        ("feature_baseline", 1, 2, missing),
    ]
    for fold in FOLDS:
        write_baselines(evaluated, fold)
    assert to_make(evaluated) == []


def test_a_baseline_of_other_cutouts_or_without_its_models_is_made_again(evaluated):
    write_baselines(evaluated, 0, fold_digest="another")
    write_baselines(evaluated, 1)
    (evaluated.settings.tables_dir / "feature_baseline_models/1.parquet").unlink()
    assert to_make(evaluated) == [
        ("feature_baseline", 0, 1, "it is of other cutouts"),
        ("feature_baseline", 1, 2, "its table of models is missing"),
    ]


def test_folds_without_predictions_are_named_in_one_line(evaluated):
    for fold in FOLDS:
        (evaluated.settings.tables_dir / f"nodule_predictions/{fold}.parquet").unlink()
    with pytest.raises(FileNotFoundError, match=r"got no `nodule_predictions` of folds 0, 1 .*job `evaluate`"):
        _ = evaluated.pooled


def test_all_inputs_that_are_missing_are_named(evaluated):
    names = ["cutout_index", "nodule_classifier", "zero_rule_baseline", "feature_baseline"]
    assert "got no `zero_rule_baseline`, `feature_baseline` of fold 0 " in str(
        missing_inputs(evaluated.settings, names, 0)
    )
    assert "got no `nodule_classifier`, `zero_rule" in str(missing_inputs(evaluated.settings, names, 3))
    assert missing_inputs(evaluated.settings, names[:2], 1) is None
    assert "got no `leaderboard` (in " in str(missing_inputs(evaluated.settings, ["cutout_index", "leaderboard"], None))
