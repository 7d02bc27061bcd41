"""What MLflow keeps of a training run: parameters, metrics, batch losses, checkpoint and registered model."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from luna_pipeline.core.messages import (
    Handler,
    LogBatch,
    LogMetrics,
    LogModel,
    LogParams,
    LogStart,
    Message,
)
from luna_pipeline.tracking.handlers import BATCH_LOSS_KEY, is_kept

if TYPE_CHECKING:
    from luna_pipeline.tracking.mlflow_run import MlflowRun

INTENDED_USE = "research use only"
# MLflow takes at most so many parameters in one request.
MAX_PARAMS_PER_REQUEST = 100
# A number that cannot be handed over now is handed over later; training does not wait four minutes for it.
HASTY_REQUESTS = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}


@dataclass
class MlflowHandlers:
    """Listens to a training run and keeps it in one MLflow run.

    Metrics have the key ``<mode>/<name>``, batch losses ``training_batch/loss``; the step is always the
    number of training samples seen.

    Attributes:
        run: The MLflow run.
        tags: Tags of the run, for example the digests of configuration and data.
        every_nth_batch: The first and then each n-th training batch of an epoch is kept.
        model_uri: Where the registered model is, once there is one.
    """

    run: MlflowRun
    tags: Mapping[str, str] = field(default_factory=dict)
    every_nth_batch: int = 10
    model_uri: str | None = field(default=None, init=False)

    def handlers(self) -> dict[type[Message], Handler]:
        """Return who takes which type of message."""
        return {
            LogStart: self.log_start,
            LogParams: self.log_params,
            LogMetrics: self.log_metrics,
            LogBatch: self.log_batch,
            LogModel: self.log_model,
        }

    def log_start(self, message: LogStart) -> None:
        """Tag the run with what it is and what it may be used for."""
        from mlflow.entities import RunTag

        tags = {**self.tags, "intended_use": INTENDED_USE, "mlflow.note.content": message.description}
        with _hasty():
            self.run.client.log_batch(self.run.run_id, tags=[RunTag(k, str(v)) for k, v in tags.items()])

    def log_params(self, message: LogParams) -> None:
        """Keep the whole configuration."""
        from mlflow.entities import Param

        params = [Param(key, str(value)) for key, value in message.params.items()]
        with _hasty():
            for start in range(0, len(params), MAX_PARAMS_PER_REQUEST):
                self.run.client.log_batch(self.run.run_id, params=params[start : start + MAX_PARAMS_PER_REQUEST])

    def log_metrics(self, message: LogMetrics) -> None:
        """Keep the values of an epoch."""
        values = {f"{message.mode}/{name}": value for name, value in message.values.items()}
        self._log_values(values, step=message.num_samples_seen)

    def log_batch(self, message: LogBatch) -> None:
        """Keep the loss of a training batch now and then."""
        if is_kept(message, every_nth_batch=self.every_nth_batch):
            self._log_values({BATCH_LOSS_KEY: message.loss}, step=message.num_samples_seen)

    def log_model(self, message: LogModel) -> None:
        """Keep the checkpoint as ``checkpoint/best.pt``, describe the model and register it.

        Raises:
            Exception: Whatever MLflow or the disk refused: a model that is lost must not look kept.
        """
        from luna_pipeline.core.training.checkpoints import save_checkpoint
        from luna_pipeline.tracking.mlflow_model import model_summary, register_model

        with tempfile.TemporaryDirectory(prefix="luna-checkpoint-") as folder:
            path = Path(folder) / "best.pt"
            save_checkpoint(path, message.checkpoint)
            self.run.client.log_artifact(self.run.run_id, str(path), "checkpoint")
        self.run.client.log_text(self.run.run_id, model_summary(message.module), "model_summary.txt")
        tags = {
            **self.tags,
            "intended_use": INTENDED_USE,
            "checkpoint": f"{message.name} {message.version}",
            "threshold": str(message.checkpoint.threshold),
        }
        self.model_uri = register_model(
            self.run, message.module, name=message.name, signature=message.signature, tags=tags
        )

    def _log_values(self, values: Mapping[str, float], *, step: int) -> None:
        from mlflow.entities import Metric

        now_ms = int(time.time() * 1000)
        metrics = [Metric(key, float(value), now_ms, step) for key, value in values.items()]
        with _hasty():
            self.run.client.log_batch(self.run.run_id, metrics=metrics)


@contextlib.contextmanager
def _hasty() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in HASTY_REQUESTS}
    os.environ.update(HASTY_REQUESTS)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
