"""Logs a training run to TensorBoard: scalars, precision-recall curves, histograms of the scores, pictures."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from luna_pipeline.core.events.messages import (
    Handler,
    LogBatch,
    LogMetrics,
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
        folder: Folder of the run, ``<home>/tensorboard/<name>/<version>``.
        first_step: First step of a resumed run; events of the earlier attempt from there on are discarded.
        every_nth_batch: Log the first and then each n-th training batch of an epoch.
    """

    folder: Path
    first_step: int | None = None
    every_nth_batch: int = 10
    _writer: SummaryWriter | None = field(default=None, init=False, repr=False)

    def handlers(self) -> dict[type[Message], Handler]:
        """Return the handlers by message type."""
        return {
            LogParams: self.log_params,
            LogMetrics: self.log_metrics,
            LogBatch: self.log_batch,
            LogResult: self.log_result,
            LogPicture: self.log_picture,
        }

    def log_params(self, message: LogParams) -> None:
        """Log the configuration as a table."""
        rows = [f"| {name} | {value} |" for name, value in message.params.items()]
        self.writer.add_text("configuration", "\n".join(["| parameter | value |", "|---|---|", *rows]))

    def log_metrics(self, message: LogMetrics) -> None:
        """Log the values of an epoch as ``<mode>/<name>``."""
        for name, value in message.values.items():
            self._add_value(f"{message.mode}/{name}", value, message)
        # Make the epoch visible at once.
        self.writer.flush()

    def log_batch(self, message: LogBatch) -> None:
        """Log the values of every n-th training batch, such as loss and gradient norm."""
        for key, value in batch_values(message, every_nth_batch=self.every_nth_batch).items():
            self._add_value(key, value, message)

    def log_result(self, message: LogResult) -> None:
        """Log the precision-recall curve and, per class, the histogram of the scores."""
        step = message.num_samples_seen
        if not np.isfinite(message.scores).all():
            # The trainer ends such a run with its reason; a histogram would fail with another.
            return
        self.writer.add_pr_curve(f"{message.mode}/precision_recall", message.labels, message.scores, step)
        for label, word in enumerate(message.label_names):
            scores = message.scores[message.labels == label]
            if scores.size:
                self.writer.add_histogram(f"{message.mode}/scores_of_{word}", scores, step)

    def log_picture(self, message: LogPicture) -> None:
        """Log a picture as ``<mode>/<name>``."""
        tag = f"{message.mode}/{message.name}"
        self.writer.add_image(tag, message.pixels, message.num_samples_seen, dataformats="HWC")

    def close(self) -> None:
        """Flush and close the files."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    @property
    def writer(self) -> SummaryWriter:
        """The writer, opened on first use: a run without messages leaves no folder."""
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self.folder), purge_step=self.first_step)
        return self._writer

    def _add_value(self, key: str, value: float, message: LogMetrics | LogBatch) -> None:
        self.writer.add_scalar(key, value, message.num_samples_seen, walltime=message.created_at)


def tensorboard_handlers(context: HandlerContext) -> TensorBoardHandlers:
    """Return the handler that writes curves and histograms for TensorBoard."""
    return TensorBoardHandlers(context.folder, first_step=context.first_step)
