"""Input and result of a study."""

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
    """A study, its folds, and how it is run.

    Attributes:
        study: Configuration of the study.
        test_fold: Not used by the search; None for the first fold.
        validation_fold: Fold that scores the trials; None for the fold after the test fold.
        resources: Resources of each trial.
        address: Head of a Ray cluster; None for RAY_ADDRESS, else this machine.
        has_dashboard: Whether Ray on this machine starts its dashboard, on 127.0.0.1.
        resume: Whether an unfinished study with the same configuration is resumed.
        uses_mlflow: Whether runs are logged to MLflow.
        trains_winner: Whether the winner is retrained and compared with the unchanged recipe.
        num_bootstraps: Bootstrap samples of scans for that comparison.
        report: Called with each line of progress.
        tags: Further tags of the MLflow runs of the study and of its winner.
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
    """Result of a study.

    Attributes:
        title: Name and version: ``nodule_classifier 0.0.1-fold0``.
        place: Folder of the study.
        table: One row per trial, see ``study_table``.
        winner: The best trial.
        config: The winner's configuration, as ``--config`` takes it.
        pictures: PNG files by name.
        classifier: The winner retrained on all folds but the test fold; None without retraining.
        comparison: The winner compared with the unchanged recipe; None without retraining, or if the recipe won.
        mlflow_run_id: The study's MLflow run; None without MLflow.
    """

    title: str
    place: StudyFolder
    table: pd.DataFrame
    winner: Variant
    config: TrainingConfig
    pictures: Mapping[str, bytes]
    classifier: TrainedClassifier | None = None
    comparison: TunedComparison | None = None
    mlflow_run_id: str | None = None

    @property
    def conclusion(self) -> str:
        """Result in one or two sentences."""
        if self.winner.trial == 0:
            return "No trial was better than the recipe as it is on the validation fold. Research use only."
        found = f"Trial {self.winner.trial} won ({self.winner})."
        return f"{found} {self.comparison or 'Research use only.'}"
