"""`evaluate` makes the baselines that are missing before it scores the folds."""

from types import SimpleNamespace

import dagster as dg
import pytest

from luna_pipeline.jobs import fold_jobs
from luna_pipeline.launchers import cross_validation
from luna_pipeline.launchers.evaluation import missing_inputs
from luna_pipeline.launchers.evaluation.missing_inputs import MissingBaseline

POOLED = SimpleNamespace(folds=[0, 3], title="folds 0, 3 of 5", left_out={}, classifiers=())
MISSING = [
    MissingBaseline(asset="zero_rule_baseline", fold=3, validation_fold=1, reason="it is missing"),
    MissingBaseline(asset="feature_baseline", fold=3, validation_fold=None, reason="it is of other cutouts"),
]


@pytest.mark.parametrize("missing", [MISSING, []])
def test_only_missing_baselines_are_made_and_before_the_predictions(monkeypatch, missing):
    made = []
    monkeypatch.setattr(
        fold_jobs, "_make", lambda _, assets, folds, config, *keys: made.append((assets, folds, config))
    )
    monkeypatch.setattr(fold_jobs, "_pooled", lambda *_: POOLED)
    monkeypatch.setattr(cross_validation, "uses_current_index", lambda *_: True)
    monkeypatch.setattr(missing_inputs, "missing_baselines", lambda *_: iter(missing))
    with dg.build_op_context(resources={"cutting": None}) as context:
        fold_jobs.predict_nodules(context, fold_jobs.PredictionConfig())
    expected = [
        (["zero_rule_baseline"], [3], {"validation_fold": 1}),
        (["feature_baseline"], [3], {}),
    ]
    assert made[:-1] == expected[: len(missing)]
    assert made[-1][:2] == (["nodule_predictions"], [0, 3])
