"""Logs a training run to MLflow: parameters, metrics, batch losses, checkpoint and registered model."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from luna_pipeline.core.events.messages import (
    Handler,
    LogBatch,
    LogMetrics,
    LogModel,
    LogParams,
    LogPicture,
    LogStart,
    Message,
)
from luna_pipeline.tracking.handlers import batch_values
from luna_pipeline.tracking.mlflow_inputs import DataInput, log_inputs
from luna_pipeline.tracking.mlflow_requests import FEW_RETRIES, HASTY, is_outage, mlflow_requests
from luna_pipeline.tracking.mlflow_run import NOTE_TAG

if TYPE_CHECKING:
    from luna_pipeline.tracking.handlers import HandlerContext
    from luna_pipeline.tracking.mlflow_run import MlflowRun

INTENDED_USE = "research use only"
# Artifact of the checkpoint, and the tag of a registered version with the checkpoint's name and version.
CHECKPOINT_FOLDER, CHECKPOINT_FILE, CHECKPOINT_TAG = "checkpoint", "best.pt", "checkpoint"
# MLflow's limit.
MAX_PARAMS_PER_REQUEST = 100


@dataclass
class MlflowHandlers:
    """Logs a training run to an MLflow run.

    Metrics have the key ``<mode>/<name>``, batch losses ``training_batch/loss``; the step is the number of training
    samples seen.

    Attributes:
        run: The MLflow run.
        tags: Tags of the run, such as the digests of configuration and data.
        every_nth_batch: Log the first and then each n-th training batch of an epoch.
        registers_model: Whether to log the checkpoint and register the model.
        inputs: Data sets that the run reads.
        first_step: First step of a resumed run; values that an earlier attempt logged from there on are not repeated.
        model_uri: URI of the registered model; None before it is registered.
    """

    run: MlflowRun
    tags: Mapping[str, str] = field(default_factory=dict)
    every_nth_batch: int = 10
    registers_model: bool = True
    inputs: Sequence[DataInput] = ()
    first_step: int | None = None
    model_uri: str | None = field(default=None, init=False)
    _earlier_steps: dict[str, set[int]] = field(default_factory=dict, init=False, repr=False)

    def handlers(self) -> dict[type[Message], Handler]:
        """Return the handlers by message type."""
        handlers: dict[type[Message], Handler] = {
            LogStart: self.log_start,
            LogParams: self.log_params,
            LogMetrics: self.log_metrics,
            LogBatch: self.log_batch,
            LogPicture: self.log_picture,
        }
        return handlers | ({LogModel: self.log_model} if self.registers_model else {})

    def log_start(self, message: LogStart) -> None:
        """Tag the run with its identity, description and intended use, and name the data that it reads."""
        from mlflow.entities import RunTag

        note = "\n\n".join(filter(None, [message.description, f"{INTENDED_USE.capitalize()}.", self.run.note]))
        tags = {**self.tags, "intended_use": INTENDED_USE, NOTE_TAG: note}
        with mlflow_requests(HASTY):
            self.run.client.log_batch(self.run.run_id, tags=[RunTag(k, str(v)) for k, v in tags.items()])
            log_inputs(self.run, self.inputs)

    def log_params(self, message: LogParams) -> None:
        """Log the complete configuration."""
        from mlflow.entities import Param

        params = [Param(key, str(value)) for key, value in message.params.items()]
        with mlflow_requests(HASTY):
            for start in range(0, len(params), MAX_PARAMS_PER_REQUEST):
                self.run.client.log_batch(self.run.run_id, params=params[start : start + MAX_PARAMS_PER_REQUEST])

    def log_metrics(self, message: LogMetrics) -> None:
        """Log the values of an epoch."""
        values = {f"{message.mode}/{name}": value for name, value in message.values.items()}
        self._log_values(values, message)

    def log_batch(self, message: LogBatch) -> None:
        """Log the values of every n-th training batch, such as loss and gradient norm."""
        if values := batch_values(message, every_nth_batch=self.every_nth_batch):
            self._log_values(values, message)

    def log_picture(self, message: LogPicture) -> None:
        """Log a picture as ``pictures/<mode>_<name>_epoch_<epoch>.png``."""
        file = f"pictures/{message.mode}_{message.name}_epoch_{message.epoch:03d}.png"
        with mlflow_requests(HASTY):
            self.run.client.log_image(self.run.run_id, message.pixels, file)

    def log_model(self, message: LogModel) -> None:
        """Log the checkpoint as ``checkpoint/best.pt`` and a summary of the model, and register it once per run.

        Raises:
            TrackerUnavailableError: If MLflow is unavailable; the call can be repeated.
            Exception: Any other error of MLflow or the disk.
        """
        from luna_pipeline.tracking.mlflow_model import model_summary, register_model
        from luna_pipeline.tracking.mlflow_run import artifacts_error

        tags = {
            **self.tags,
            "intended_use": INTENDED_USE,
            CHECKPOINT_TAG: f"{message.name} {message.version}",
            "threshold": str(message.checkpoint.threshold),
        }
        with mlflow_requests(FEW_RETRIES):
            try:
                self._log_checkpoint(message)
                self.run.client.log_text(self.run.run_id, model_summary(message.module), "model_summary.txt")
                self.model_uri = register_model(
                    self.run, message.module, name=message.name, signature=message.signature, tags=tags
                )
            except OSError as error:
                if error.errno is None or is_outage(error):
                    raise
                raise artifacts_error(error, self.run.run_id) from error

    def close(self) -> None:
        """Do nothing: nothing is open between two calls."""

    def _log_checkpoint(self, message: LogModel) -> None:
        from luna_pipeline.core.training.checkpoints import save_checkpoint

        with tempfile.TemporaryDirectory(prefix="luna-checkpoint-") as folder:
            path = Path(folder) / CHECKPOINT_FILE
            save_checkpoint(path, message.checkpoint)
            self.run.client.log_artifact(self.run.run_id, str(path), CHECKPOINT_FOLDER)

    def _log_values(self, values: Mapping[str, float], message: LogMetrics | LogBatch) -> None:
        from mlflow.entities import Metric

        # The time of the message: MLflow recognizes the values of a repeated request by it.
        created_at_ms, step = int(message.created_at * 1000), message.num_samples_seen
        with mlflow_requests(HASTY):
            new = {key: value for key, value in values.items() if not self._is_logged(key, step)}
            metrics = [Metric(key, float(value), created_at_ms, step) for key, value in new.items()]
            if metrics:
                self.run.client.log_batch(self.run.run_id, metrics=metrics)

    def _is_logged(self, key: str, step: int) -> bool:
        """Return whether an earlier attempt of a resumed run logged a value: repeated steps have equal values."""
        if self.first_step is None or step < self.first_step:
            return False
        if key not in self._earlier_steps:
            history = self.run.client.get_metric_history(self.run.run_id, key)
            self._earlier_steps[key] = {point.step for point in history}
        return step in self._earlier_steps[key]


def mlflow_handlers(context: HandlerContext) -> MlflowHandlers:
    """Return the handler that records parameters, metrics and the model in MLflow.

    Raises:
        ValueError: If there is no MLflow run.
    """
    if context.mlflow_run is None:
        msg = f"The handler mlflow must have an MLflow run, got none ({context.name} {context.version})."
        raise ValueError(f"{msg} Open one with `mlflow_run`, or leave the handler out.")
    return MlflowHandlers(
        context.mlflow_run,
        tags=context.tags,
        registers_model=context.registers_model,
        inputs=context.inputs,
        first_step=context.first_step,
    )
