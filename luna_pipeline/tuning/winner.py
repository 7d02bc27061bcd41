"""The winner of a study: retrained on all folds but the test fold, and compared with the unchanged recipe."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from luna_pipeline.core.cutouts.store import CutoutStore
from luna_pipeline.core.datasets.splits import TrainingSplit
from luna_pipeline.core.evaluation.comparison import PairedDifference, paired_difference
from luna_pipeline.core.evaluation.froc_table import evaluate_models
from luna_pipeline.core.evaluation.intervals import ranking_draws
from luna_pipeline.core.evaluation.reference import Reference
from luna_pipeline.core.evaluation.resampling import patient_groups
from luna_pipeline.core.metrics.binary import area_under_curve
from luna_pipeline.core.storage.files import exists
from luna_pipeline.core.training.checkpoints import Checkpoint
from luna_pipeline.core.training.config import TrainingConfig
from luna_pipeline.launchers.evaluation.scoring import labelled, predict_table
from luna_pipeline.launchers.installation import read_table
from luna_pipeline.launchers.training.classifier import LunaClassificationLauncher
from luna_pipeline.launchers.training.run import RunOptions, TrainedClassifier
from luna_pipeline.launchers.versions import fold_version
from luna_pipeline.settings import Settings
from luna_pipeline.tracking.mlflow_run import OpenMlflowRun
from luna_pipeline.tuning.study import Metric

# Schedulers whose learning rate decays over the whole run, which therefore cannot be shortened.
OVER_THE_WHOLE_RUN = ("cosine", "one_cycle")
TUNED, UNTUNED = "tuned", "untuned"


@dataclass(frozen=True, kw_only=True)
class TunedComparison:
    """Scores of a study's winner and of the unchanged recipe on the test fold, which neither has seen.

    Attributes:
        metric: Score that is compared.
        test_fold: The fold.
        num_scans: Scans of the fold.
        tuned: The winner's score.
        untuned: The recipe's score.
        difference: Winner minus recipe, on the same draws: for the AUC of patients where they are known, else of scans.
    """

    metric: Metric
    test_fold: int
    num_scans: int
    tuned: float
    untuned: float
    difference: PairedDifference

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, with a conclusion in words."""
        return {**asdict(self), "in_words": self.difference.in_words}

    def __str__(self) -> str:
        """Conclusion in words."""
        name = self.metric.upper()
        return (
            f"On fold {self.test_fold}, which neither has seen ({self.num_scans} scans): {name} {self.tuned:.4f} with "
            f"the winner, {self.untuned:.4f} with the recipe as it is; {self.difference}: {self.difference.in_words}. "
            "Research use only."
        )


@dataclass(frozen=True, kw_only=True)
class FinalTraining:
    """Trains configurations of a study on all folds but the test fold, and scores them on it.

    Attributes:
        settings: Paths.
        index: The cutout index.
        store: The cutouts.
        test_fold: Fold that neither the study nor the training uses.
        open_mlflow_run: Opens an MLflow run; None without MLflow.
        report: Called with each line of progress.
    """

    settings: Settings
    index: pd.DataFrame
    store: CutoutStore
    test_fold: int
    open_mlflow_run: OpenMlflowRun | None
    report: Callable[[str], None]

    def run(self, config: TrainingConfig, *, best_epoch: int, prefix: str) -> TrainedClassifier:
        """Train for a fixed number of epochs, since there is no validation fold to select one.

        Args:
            config: Configuration of a trial.
            best_epoch: Its epoch with the highest score.
            prefix: Prefix of the name: ``tuned``.
        """
        launcher = LunaClassificationLauncher(
            self.settings.home,
            local_home=self.settings.local_home,
            tracking_uri=self.settings.mlflow_tracking_uri,
            open_mlflow_run=self.open_mlflow_run,
            options=RunOptions(show_progress=self.report),
        )
        final = config.with_changes(
            name=f"{prefix}_{config.name}",
            version=fold_version(config.version, self.test_fold),
            num_epochs=config.num_epochs if config.scheduler.name in OVER_THE_WHOLE_RUN else best_epoch,
        )
        split = TrainingSplit(test_fold=self.test_fold, validation_fold=None)
        return launcher.fit(final, index=self.index, store=self.store, split=split)

    def compare(
        self,
        tuned: Checkpoint,
        untuned: Checkpoint,
        *,
        metric: Metric,
        reference: Reference | None,
        num_bootstraps: int,
        seed: int,
    ) -> TunedComparison:
        """Compare the winner with the unchanged recipe on the test fold, by a paired bootstrap.

        Args:
            tuned: The retrained winner.
            untuned: The recipe, trained in the same way.
            metric: Score that is compared.
            reference: Annotations of the test fold for the CPM; None for the AUC.
            num_bootstraps: Number of bootstrap samples.
            seed: Seed of the samples.
        """
        is_test = (self.index["fold"] == self.test_fold) & (self.index["source"] == "candidate")
        test = labelled(self.index[is_test], self.store, tuned.config.dataset)
        candidates = read_table(self.settings, "candidates")
        tables = [
            predict_table(checkpoint, test, candidates, self.store, model=name)
            for name, checkpoint in ((TUNED, tuned), (UNTUNED, untuned))
        ]
        predictions = pd.concat(tables, ignore_index=True)
        if reference is None:
            # An index of another origin has no table of folds: its patients are not known.
            has_folds = exists(self.settings.tables_dir / "folds.parquet")
            groups = patient_groups(read_table(self.settings, "folds")) if has_folds else {}
            scores, difference = _by_auc(predictions, groups, num_bootstraps=num_bootstraps, seed=seed)
        else:
            scores, difference = _by_cpm(predictions, reference, num_bootstraps=num_bootstraps, seed=seed)
        return TunedComparison(
            metric=metric,
            test_fold=self.test_fold,
            num_scans=int(test["series_instance_uid"].nunique()),
            tuned=scores[TUNED],
            untuned=scores[UNTUNED],
            difference=difference,
        )


def _by_cpm(
    predictions: pd.DataFrame, reference: Reference, *, num_bootstraps: int, seed: int
) -> tuple[dict[str, float], PairedDifference]:
    results = evaluate_models(predictions, reference, num_bootstraps=num_bootstraps, seed=seed)
    scores = {name: result.curve.comparable_cpm for name, result in results.items()}
    return scores, paired_difference(results[TUNED], results[UNTUNED])


def _by_auc(
    predictions: pd.DataFrame, groups: Mapping[str, str], *, num_bootstraps: int, seed: int
) -> tuple[dict[str, float], PairedDifference]:
    scores, draws = {}, {}
    for name, rows in predictions.groupby("model"):
        labels, values = rows["class"].to_numpy(dtype=np.int64), rows["probability"].to_numpy(dtype=np.float64)
        scores[str(name)] = area_under_curve(labels, values)
        drawn = [groups.get(uid, uid) for uid in rows["series_instance_uid"].astype(str)]
        of_name = ranking_draws(labels, values, drawn, num_bootstraps=num_bootstraps, seed=seed)
        draws[str(name)] = of_name["auc"]
    difference = scores[TUNED] - scores[UNTUNED]
    return scores, PairedDifference.of_draws(difference, draws[TUNED], draws[UNTUNED])
