"""What a trial is worth, epoch by epoch: scored on the validation fold, kept, and reported."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from luna_pipeline.core.evaluation.froc_table import evaluate_models
from luna_pipeline.core.evaluation.reference import Reference
from luna_pipeline.core.messages import Handler, LogCheckpoint, LogEpoch, LogMetrics, LogResult, Message, Mode
from luna_pipeline.tuning.records import EpochScore, TrialProgress, TrialRecords

# What a failed trial is worth to the search: nothing, so that it keeps away.
SCORE_OF_FAILED = 0.0


@dataclass(frozen=True, eq=False)
class CpmOfFold:
    """LUNA16's score of the validation fold, from the scores of its candidates.

    Attributes:
        rows: The fold's candidates in the order in which they are validated, as rows of the table of predictions.
        reference: What they are held against.
    """

    rows: pd.DataFrame
    reference: Reference

    def __call__(self, message: LogResult) -> float:
        """Return the CPM; 0 where no nodule is found.

        Raises:
            ValueError: If these are scores of other candidates.
        """
        if not np.array_equal(self.rows["class"].to_numpy(dtype=np.int64), message.labels):
            msg = f"Scores must be of the {len(self.rows)} candidates of the validation fold, got {len(message.labels)}"
            raise ValueError(f"{msg} of others. Begin a new study.")
        scored = self.rows.assign(probability=message.scores)
        return evaluate_models(scored, self.reference, num_bootstraps=0, seed=0)["trial"].curve.comparable_cpm


@dataclass
class TrialReporter:
    """Listens to a trial's training; keeps what each epoch is worth and, once its checkpoint is there, reports it.

    Attributes:
        records: Where it is kept.
        progress: How far the trial is.
        report: Is handed what is reported.
        scoring: Gives the CPM; None where the AUC is the score.
        clock: Seconds that only grow.
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
        """Return who takes which type of message."""
        return {
            LogEpoch: self.begin_epoch,
            LogMetrics: self.take_metrics,
            LogResult: self.take_result,
            LogCheckpoint: self.hand_over,
        }

    def begin_epoch(self, _message: LogEpoch) -> None:
        """Start the clock of an epoch."""
        self._began = self.clock()

    def take_metrics(self, message: LogMetrics) -> None:
        """Remember what the validation fold's AUC and loss are."""
        if message.mode == Mode.VALIDATION:
            self._metrics = message.values

    def take_result(self, message: LogResult) -> None:
        """Keep what the epoch is worth, before its checkpoint is written: after it nobody would do it again."""
        if message.mode == Mode.VALIDATION:
            self._result = message
            self._keep(message)

    def hand_over(self, message: LogCheckpoint) -> None:
        """Report an epoch that is kept; this may be the trial's end."""
        last = self.progress.epochs[-1].epoch if self.progress.epochs else 0
        if self._result is not None and last != message.epoch:
            # It was refused above, where a run goes on all the same; here it fails, and says why.
            self._keep(self._result)
        self._reported = message.epoch
        self.report({**reported(self.progress), "checkpoint": message.path})

    def finish(self) -> None:
        """Report the last epoch, if its process was lost before it could."""
        if self._reported < self.progress.epochs[-1].epoch:
            self.report(reported(self.progress))

    def fail(self, error: str) -> None:
        """Keep and report why the trial failed."""
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
    """Return what Ray is told of a trial: how far it is, the best score so far, and why it failed."""
    best = progress.best()
    epoch = progress.epochs[-1].epoch if progress.epochs else 0
    score = SCORE_OF_FAILED if best is None or progress.error else best.score
    return {"epoch": epoch, "score": score, "error": progress.error}
