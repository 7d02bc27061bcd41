"""Small studies with given results of their trials."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from luna_pipeline.core.training.recipes import demo
from luna_pipeline.tuning.records import FAILED, FINISHED, EpochScore, TrialEnd, TrialProgress
from luna_pipeline.tuning.space import SearchSpace
from luna_pipeline.tuning.study import StudyConfig, Variant
from luna_pipeline.tuning.table import study_table

RATES = {"optimizer.learning_rate": {"log_uniform": [1e-4, 1e-2]}}


def made_study(space: Mapping[str, Any] = RATES, **more: Any) -> StudyConfig:
    """A random study of eight trials of the demo by default."""
    values = {"base": demo(), "num_trials": 8, **more}
    return StudyConfig(space=SearchSpace.from_dict(space), **values)


def scored(epoch: int, score: float, *, seconds: float = 2.0) -> EpochScore:
    return EpochScore(epoch=epoch, score=score, auc=score + 0.01, cpm=score, loss=0.3, seconds=seconds)


def made_table(study: StudyConfig, tried: Sequence[tuple[Mapping[str, Any], float]]) -> pd.DataFrame:
    """The table of a study from pairs of changes and score after one epoch; nan: the trial failed."""
    progress, ended = {}, {}
    for trial, (changes, score) in enumerate(tried):
        has_failed = math.isnan(score)
        epochs = () if has_failed else (scored(1, score),)
        progress[trial] = TrialProgress(variant=Variant(trial, dict(changes)), epochs=epochs)
        ended[trial] = TrialEnd(trial=trial, changes=changes, state=FAILED if has_failed else FINISHED)
    return study_table(study, progress, ended)
