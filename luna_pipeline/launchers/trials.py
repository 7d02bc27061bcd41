"""A trial of a study, in whatever process it runs: trained like any other run, scored on the validation fold."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import pandas as pd

from luna_pipeline.core.datasets.config import DATASETS
from luna_pipeline.core.datasets.splits import TrainingSplit, index_fingerprint, split_index
from luna_pipeline.core.evaluation.reference import Reference
from luna_pipeline.core.files import exists
from luna_pipeline.core.memory import keep_freed_memory
from luna_pipeline.core.messages import LogResult, UndeliveredMessagesError
from luna_pipeline.core.training.checkpoints import CheckpointStore
from luna_pipeline.extensions import load_extensions
from luna_pipeline.launchers.classification import LunaClassificationLauncher
from luna_pipeline.launchers.commands import EXPERIMENT, read_index
from luna_pipeline.launchers.cutting import cutout_store
from luna_pipeline.launchers.folds import read_table
from luna_pipeline.launchers.run_values import RunOptions
from luna_pipeline.launchers.scoring import prediction_rows
from luna_pipeline.launchers.studies import StudyFolder
from luna_pipeline.launchers.trial_runs import PARENT_TAG, STUDY_TAG, TRIAL_TAG, run_of_trial
from luna_pipeline.launchers.trial_scores import CpmOfFold, TrialReporter, reported
from luna_pipeline.settings import Settings
from luna_pipeline.tracking.mlflow_run import MlflowRun, mlflow_run
from luna_pipeline.tuning.records import TrialRecords
from luna_pipeline.tuning.study import StudyConfig, Variant

# What may be otherwise next time: a disk, a server, a lock that a dying process still holds.
PASSING = (OSError, UndeliveredMessagesError)


@dataclass(frozen=True, eq=False, kw_only=True)
class TrialTask:
    """All that a process must know to run trials of a study; small enough to be sent.

    Attributes:
        settings: Where everything lies; the cutouts are mapped from there.
        study: What is searched.
        place: The study's folders, under the same names on all machines.
        split: Which folds stay out of training.
        reference: What the validation fold's scores are held against for a CPM; None where it is not asked for.
        index_digest: Identity of the cutout index, which must be the same wherever a trial runs.
        mlflow_run_id: The study's MLflow run; None for none.
        num_threads: Threads of a trial.
    """

    settings: Settings
    study: StudyConfig
    place: StudyFolder
    split: TrainingSplit
    reference: Reference | None
    index_digest: str
    mlflow_run_id: str | None
    num_threads: int

    def run(self, variant: Variant, report: Callable[[dict[str, Any]], None]) -> None:
        """Try a variant, from its last checkpoint where there is one.

        Args:
            variant: The configuration.
            report: Is handed ``epoch``, ``score`` (the best so far) and ``error`` after each epoch.

        Raises:
            OSError: If something failed that may be otherwise next time; whatever else fails is reported.
        """
        load_extensions()
        keep_freed_memory()
        records = TrialRecords(self.place.folder)
        progress = records.progress(variant)
        if progress.error or records.has_ended(variant.trial):
            report(reported(progress))
            return
        reporter = TrialReporter(records, progress, report)
        try:
            self._train(variant, reporter)
        except PASSING:
            raise
        except Exception as error:
            reporter.fail(f"{type(error).__name__}: {' '.join(str(error).split())}")

    def _train(self, variant: Variant, reporter: "TrialReporter") -> None:
        import torch

        torch.set_num_threads(self.num_threads)
        index = read_index(self.settings)
        if index_fingerprint(index) != self.index_digest:
            msg = (
                f"All trials must see one cutout index, got another (in {self.settings.tables_dir}). Begin a new study."
            )
            raise ValueError(msg)
        config = self.study.config_of(variant)
        reporter.scoring = self._scoring(index, config.use_annotations)
        launcher = LunaClassificationLauncher(
            self.place.folder,
            local_home=self.place.local_folder,
            tracking_uri=self.settings.mlflow_tracking_uri,
            open_mlflow_run=self._open_mlflow_run(variant) if self.mlflow_run_id else None,
            options=RunOptions(show_progress=False, listeners=[reporter.handlers()], registers_model=False),
        )
        unfinished = _unfinished(launcher.checkpoints, config.name, variant.version)
        launcher.fit(
            config, index=index, store=cutout_store(self.settings), split=self.split, resume=unfinished or False
        )
        reporter.finish()

    def _scoring(self, index: pd.DataFrame, use_annotations: bool) -> Callable[[LogResult], float] | None:
        """Return what gives the CPM of the validation fold, where that is asked for."""
        if self.reference is None:
            return None
        _, validation, _ = split_index(index, self.split, use_annotations=use_annotations)
        rows = DATASETS.get(self.study.base.dataset).usable(validation)
        candidates = read_table(self.settings, "candidates")
        return CpmOfFold(prediction_rows(rows, candidates, 0.0, model="trial"), self.reference)

    def _open_mlflow_run(self, variant: Variant) -> Callable[[str, str | None], AbstractContextManager[MlflowRun]]:
        def open_run(_name: str, run_id: str | None) -> AbstractContextManager[MlflowRun]:
            uri, location = self.settings.mlflow_tracking_uri, self.settings.artifact_location
            tags = {STUDY_TAG: str(self.mlflow_run_id), TRIAL_TAG: str(variant.trial)}
            known = run_id or run_of_trial(uri, tags, artifact_location=location)
            return mlflow_run(
                uri,
                experiment=EXPERIMENT,
                artifact_location=location,
                run_id=known,
                system_metrics_seconds=None,
                run_name=f"{self.place.title} {variant.version}",
                tags={**tags, PARENT_TAG: str(self.mlflow_run_id)},
            )

        return open_run


def _unfinished(store: CheckpointStore, name: str, version: str) -> str | None:
    """Return the build of a trial's run that has a checkpoint, if any: one killed before its first has none."""
    builds = (own for own in store.versions(name) if own.partition("+")[0] == version)
    return next((own for own in builds if exists(store.path(name, own, "last"))), None)
