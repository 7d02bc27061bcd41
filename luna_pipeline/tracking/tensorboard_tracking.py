"""Logs a training run to TensorBoard: scalars, precision-recall curves, histograms, pictures, hyperparameters.

TensorBoard draws curves of one name in one chart, one curve per folder. So the epochs of training and validation are in
the folders ``training`` and ``validation`` below the run's, under the same names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from luna_pipeline.core.events.messages import (
    Handler,
    LogBatch,
    LogMetrics,
    LogModel,
    LogParams,
    LogPicture,
    LogResult,
    Message,
)
from luna_pipeline.tracking.handlers import batch_values

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from luna_pipeline.tracking.handlers import HandlerContext


@dataclass
class TensorBoardHandlers:
    """Logs a training run to one folder; the step is the number of training samples seen.

    Attributes:
        folder: Folder of the run, ``<home>/tensorboard/<name>/<version>``: configuration and batches. The epochs are in
            its folders ``training`` and ``validation``.
        first_step: First step of a resumed run; events of the earlier attempt from there on are discarded.
        every_nth_batch: Log the first and then each n-th training batch of an epoch.
    """

    folder: Path
    first_step: int | None = None
    every_nth_batch: int = 10
    _writers: dict[str, SummaryWriter] = field(default_factory=dict, init=False, repr=False)

    def handlers(self) -> dict[type[Message], Handler]:
        """Return the handlers by message type."""
        return {
            LogParams: self.log_params,
            LogMetrics: self.log_metrics,
            LogBatch: self.log_batch,
            LogResult: self.log_result,
            LogPicture: self.log_picture,
            LogModel: self.log_model,
        }

    def log_params(self, message: LogParams) -> None:
        """Log the configuration as a table, and as the hyperparameters of the run."""
        rows = [f"| {name} | {value} |" for name, value in message.params.items()]
        writer = self.writer()
        writer.add_text("configuration", "\n".join(["| parameter | value |", "|---|---|", *rows]))
        _add_session(writer, message.params)
        writer.flush()

    def log_metrics(self, message: LogMetrics) -> None:
        """Log the values of an epoch as ``epoch/<name>`` of the mode."""
        for name, value in message.values.items():
            self._add_value(self.writer(message.mode), f"epoch/{name}", value, message)
        # Make the epoch visible at once.
        for writer in self._writers.values():
            writer.flush()

    def log_batch(self, message: LogBatch) -> None:
        """Log the values of every n-th training batch, such as loss and gradient norm."""
        for key, value in batch_values(message, every_nth_batch=self.every_nth_batch).items():
            self._add_value(self.writer(), key, value, message)

    def log_result(self, message: LogResult) -> None:
        """Log the precision-recall curve and, per class, the histogram of the scores of the mode."""
        step = message.num_samples_seen
        if not np.isfinite(message.scores).all():
            # The trainer ends such a run with its reason; a histogram would fail with another.
            return
        writer = self.writer(message.mode)
        writer.add_pr_curve("precision_recall", message.labels, message.scores, step)
        for label, word in enumerate(message.label_names):
            scores = message.scores[message.labels == label]
            if scores.size:
                writer.add_histogram(f"scores_of_{word}", scores, step)

    def log_picture(self, message: LogPicture) -> None:
        """Log a picture of the mode."""
        self.writer(message.mode).add_image(message.name, message.pixels, message.num_samples_seen, dataformats="HWC")

    def log_model(self, _message: LogModel) -> None:
        """Mark the run as complete among the hyperparameters."""
        _add_session(self.writer())

    def close(self) -> None:
        """Flush and close the files."""
        while self._writers:
            self._writers.popitem()[1].close()

    def writer(self, mode: str = "") -> SummaryWriter:
        """Return the writer of the run or of a mode, opened on first use: a run without messages leaves no folder."""
        if mode not in self._writers:
            from torch.utils.tensorboard import SummaryWriter

            self._writers[mode] = SummaryWriter(str(self.folder / mode), purge_step=self.first_step)
        return self._writers[mode]

    @staticmethod
    def _add_value(writer: SummaryWriter, key: str, value: float, message: LogMetrics | LogBatch) -> None:
        writer.add_scalar(key, value, message.num_samples_seen, walltime=message.created_at)


def _add_session(writer: SummaryWriter, params: Mapping[str, Any] | None = None) -> None:
    """Begin a run with these values in TensorBoard's table of hyperparameters; without values, end it.

    Without a list of metrics, TensorBoard offers the last values of all curves.
    """
    from torch.utils.tensorboard import summary

    # Neither is typed. SummaryWriter.add_hparams would make a run of its own.
    hparams: Any = summary.hparams
    file_writer: Any = writer.file_writer
    plain = {name: value if type(value) in (int, float) else str(value) for name, value in (params or {}).items()}
    _, start, end = hparams(plain, {})
    file_writer.add_summary(end if params is None else start)


def tensorboard_handlers(context: HandlerContext) -> TensorBoardHandlers:
    """Return the handler that writes curves and histograms for TensorBoard."""
    return TensorBoardHandlers(context.folder, first_step=context.first_step)
