"""A trial of a study: a training run that is scored on the validation fold after each epoch."""

import math
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from luna_pipeline.core.datasets.config import DATASETS
from luna_pipeline.core.datasets.splits import TrainingSplit, index_fingerprint, split_index
from luna_pipeline.core.evaluation.froc_table import evaluate_models
from luna_pipeline.core.evaluation.reference import Reference
from luna_pipeline.core.events.messages import Handler, LogCheckpoint, LogEpoch, LogMetrics, LogResult, Message, Mode
from luna_pipeline.core.malloc import keep_freed_memory
from luna_pipeline.core.storage.files import exists
from luna_pipeline.core.training.checkpoints import CheckpointStore
from luna_pipeline.extensions import load_extensions
from luna_pipeline.launchers.evaluation.scoring import prediction_rows
from luna_pipeline.launchers.installation import cutout_store, open_mlflow_run, read_index, read_table
from luna_pipeline.launchers.training.classifier import LunaClassificationLauncher
from luna_pipeline.launchers.training.run import RunOptions
from luna_pipeline.settings import Settings
from luna_pipeline.tracking.mlflow_run import MlflowRun
from luna_pipeline.tracking.outbox import UndeliveredMessagesError
from luna_pipeline.tuning.mlflow_runs import PARENT_TAG, STUDY_TAG, TRIAL_TAG, run_of_trial
from luna_pipeline.tuning.records import EpochScore, TrialProgress, TrialRecords
from luna_pipeline.tuning.study import StudyConfig, Variant
from luna_pipeline.tuning.study_folder import StudyFolder

# Errors after which a trial is retried: of a disk, a server, or a lock that a dying process still holds.
PASSING = (OSError, UndeliveredMessagesError)
# A failed trial has the lowest score, so that the search avoids its region.
SCORE_OF_FAILED = 0.0


@dataclass(frozen=True, eq=False, kw_only=True)
class TrialTask:
    """Runs trials of a study in any process; small enough to be sent to it.

    Attributes:
        settings: Paths, the same on all machines.
        study: Configuration of the study.
        place: Folders of the study.
        split: Held-out folds.
        reference: Annotations of the validation fold for the CPM; None if the score is the AUC.
        index_digest: Digest of the cutout index, which must be the same in every process.
        mlflow_run_id: The study's MLflow run; None without MLflow.
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
        """Train a variant, from its last checkpoint if there is one.

        Args:
            variant: The configuration.
            report: Called after each epoch with ``epoch``, ``score`` (the best so far) and ``error``.

        Raises:
            OSError: If the trial can be retried. Other errors are reported as the trial's result.
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
            msg = f"All trials must see one cutout index, got another (in {self.settings.tables_dir})."
            raise ValueError(f"{msg} Begin a new study.")
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
        """Return the function that computes the CPM of the validation fold; None if the score is the AUC."""
        if self.reference is None:
            return None
        _, validation, _ = split_index(
            index, self.split, use_annotations=use_annotations, dataset=self.study.base.dataset
        )
        rows = DATASETS.get(self.study.base.dataset).usable(validation)
        candidates = read_table(self.settings, "candidates")
        return CpmOfFold(prediction_rows(rows, candidates, 0.0, model="trial"), self.reference)

    def _open_mlflow_run(self, variant: Variant) -> Callable[[str, str | None], AbstractContextManager[MlflowRun]]:
        def open_run(_name: str, run_id: str | None) -> AbstractContextManager[MlflowRun]:
            uri, location = self.settings.mlflow_tracking_uri, self.settings.artifact_location
            tags = {STUDY_TAG: str(self.mlflow_run_id), TRIAL_TAG: str(variant.trial)}
            known = run_id or run_of_trial(uri, tags, artifact_location=location)
            return open_mlflow_run(
                self.settings,
                source=f"trial {variant.trial} of {self.place.title}",
                run_id=known,
                system_metrics_seconds=None,
                run_name=f"{self.place.title} {variant.version}",
                tags={**tags, PARENT_TAG: str(self.mlflow_run_id)},
            )

        return open_run


def _unfinished(store: CheckpointStore, name: str, version: str) -> str | None:
    """Return the build of a trial's run that has a checkpoint."""
    builds = (own for own in store.versions(name) if own.partition("+")[0] == version)
    return next((own for own in builds if exists(store.path(name, own, "last"))), None)


@dataclass(frozen=True, eq=False)
class CpmOfFold:
    """Computes LUNA16's CPM of the validation fold.

    Attributes:
        rows: The fold's candidates in validation order, as rows of a table of predictions.
        reference: Annotations of the fold.
    """

    rows: pd.DataFrame
    reference: Reference

    def __call__(self, message: LogResult) -> float:
        """Return the CPM; 0 if no nodule is found.

        Raises:
            ValueError: If the scores are of other candidates.
        """
        if not np.array_equal(self.rows["class"].to_numpy(dtype=np.int64), message.labels):
            msg = f"Scores must be of the {len(self.rows)} candidates of the validation fold, got {len(message.labels)}"
            raise ValueError(f"{msg} of others. Begin a new study.")
        scored = self.rows.assign(probability=message.scores)
        return evaluate_models(scored, self.reference, num_bootstraps=0, seed=0)["trial"].curve.comparable_cpm


@dataclass
class TrialReporter:
    """Handles the messages of a trial's training: saves the score of each epoch, and reports it after its checkpoint.

    Attributes:
        records: Files of the trials.
        progress: Scores so far.
        report: Called with ``reported(progress)``.
        scoring: Computes the CPM; None if the AUC is the score.
        clock: Monotonic time in seconds.
    """

    records: TrialRecords
    progress: TrialProgress
    report: Callable[[dict[str, Any]], None]
    scoring: Callable[[LogResult], float] | None = None
    clock: Callable[[], float] = time.monotonic
    _began: float = field(default=0.0, init=False)
    _metrics: Mapping[str, float] = field(default_factory=dict, init=False)
    _result: LogResult | None = field(default=None, init=False)
    _reported: int = field(default=0, init=False)

    def handlers(self) -> Mapping[type[Message], Handler]:
        """Return the handler of each message type."""
        return {
            LogEpoch: self.begin_epoch,
            LogMetrics: self.take_metrics,
            LogResult: self.take_result,
            LogCheckpoint: self.hand_over,
        }

    def begin_epoch(self, _message: LogEpoch) -> None:
        """Note the start time of an epoch."""
        self._began = self.clock()

    def take_metrics(self, message: LogMetrics) -> None:
        """Note AUC and loss of the validation fold."""
        if message.mode == Mode.VALIDATION:
            self._metrics = message.values

    def take_result(self, message: LogResult) -> None:
        """Save the score before the checkpoint: a resumed trial does not validate this epoch again."""
        if message.mode == Mode.VALIDATION:
            self._result = message
            self._keep(message)

    def hand_over(self, message: LogCheckpoint) -> None:
        """Report an epoch whose checkpoint is written; the scheduler may stop the trial here."""
        last = self.progress.epochs[-1].epoch if self.progress.epochs else 0
        if self._result is not None and last != message.epoch:
            # Saving failed above, where handlers' errors do not stop a run; here the error fails the trial.
            self._keep(self._result)
        self._reported = message.epoch
        self.report({**reported(self.progress), "checkpoint": message.path})

    def finish(self) -> None:
        """Report the last epoch if its process died before reporting it."""
        if self._reported < self.progress.epochs[-1].epoch:
            self.report(reported(self.progress))

    def fail(self, error: str) -> None:
        """Save and report the error of the trial."""
        self.progress = replace(self.progress, error=error)
        self.records.keep(self.progress)
        self.report(reported(self.progress))

    def _keep(self, message: LogResult) -> None:
        auc, loss = self._metrics["auc"], self._metrics["loss"]
        cpm = math.nan if self.scoring is None else self.scoring(message)
        reached = EpochScore(
            epoch=message.epoch,
            score=auc if self.scoring is None else cpm,
            auc=auc,
            cpm=cpm,
            loss=loss,
            seconds=self.clock() - self._began,
        )
        self.progress = self.progress.with_epoch(reached)
        self.records.keep(self.progress)


def reported(progress: TrialProgress) -> dict[str, Any]:
    """Return the values reported to Ray: last epoch, best score so far, and the error."""
    best = progress.best()
    epoch = progress.epochs[-1].epoch if progress.epochs else 0
    score = SCORE_OF_FAILED if best is None or progress.error else best.score
    return {"epoch": epoch, "score": score, "error": progress.error}
