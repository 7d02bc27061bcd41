"""What a study is given and what it returns."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pandas as pd

from luna_pipeline.core.training.config import TrainingConfig
from luna_pipeline.launchers.training.run import TrainedClassifier
from luna_pipeline.tuning.resources import TrialResources
from luna_pipeline.tuning.study import StudyConfig, Variant
from luna_pipeline.tuning.study_folder import StudyFolder
from luna_pipeline.tuning.winner import TunedComparison


@dataclass(frozen=True, kw_only=True)
class TuningRequest:
    """A study, on which folds, how.

    Attributes:
        study: What is searched.
        test_fold: Untouched; None for the first.
        validation_fold: Whose score is to rise; None for the one after the test fold.
        resources: What each trial gets.
        address: The Ray cluster's head; None for the one that RAY_ADDRESS names, else this machine.
        has_dashboard: Whether a Ray of this machine shows its dashboard, on 127.0.0.1.
        resume: Whether an unfinished study of the same kind is gone on with.
        uses_mlflow: Whether there are MLflow runs.
        trains_winner: Whether the winner is trained again and held against the recipe as it is.
        num_bootstraps: Draws of scans by which that is done.
        report: Is handed each line of progress.
        tags: Of the study's MLflow run.
    """

    study: StudyConfig
    test_fold: int | None = None
    validation_fold: int | None = None
    resources: TrialResources = field(default_factory=TrialResources)
    address: str | None = None
    has_dashboard: bool = False
    resume: bool = True
    uses_mlflow: bool = True
    trains_winner: bool = True
    num_bootstraps: int = 1000
    report: Callable[[str], None] = print
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False, kw_only=True)
class TunedParameters:
    """What a study comes to.

    Attributes:
        title: What it is called: ``nodule_classifier 0.0.1-fold0``.
        place: Its folder, and the files in it.
        table: A row a trial, see ``study_table``.
        winner: What won.
        config: The winner's configuration, as ``--config`` takes it.
        pictures: PNG files by name.
        classifier: The winner trained again on all but the test fold, where that was asked for.
        comparison: The winner against the recipe as it is; None where that was not asked for, or is the winner.
        mlflow_run_id: The study's MLflow run, where there is one.
    """

    title: str
    place: StudyFolder
    table: pd.DataFrame
    winner: Variant
    config: TrainingConfig
    pictures: Mapping[str, bytes]
    classifier: TrainedClassifier | None
    comparison: TunedComparison | None
    mlflow_run_id: str | None

    @property
    def conclusion(self) -> str:
        """What the study found, in a sentence or two."""
        if self.winner.trial == 0:
            return "No trial was better than the recipe as it is on the validation fold. Research use only."
        found = f"Trial {self.winner.trial} won ({self.winner})."
        return f"{found} {self.comparison or 'Research use only.'}"
