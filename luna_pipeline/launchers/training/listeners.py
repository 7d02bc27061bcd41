"""Who listens to a run: the history for whoever asked, and the trackers by their names."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from luna_pipeline.core.events.messages import Handler, LogMetrics, Message, MessageHandler
from luna_pipeline.core.training.checkpoints import Checkpoint
from luna_pipeline.core.training.services import ServiceContainer
from luna_pipeline.tracking.handlers import HandlerContext, build_handlers
from luna_pipeline.tracking.mlflow_run import MlflowRun

if TYPE_CHECKING:
    from luna_pipeline.launchers.training.run import RunOptions


@dataclass
class History:
    """Remembers the metrics of each epoch."""

    _rows: dict[int, dict[str, float]] = field(default_factory=dict, init=False)

    def handlers(self) -> dict[type[Message], Handler]:
        """Return who takes which type of message."""
        return {LogMetrics: self.remember}

    def remember(self, message: LogMetrics) -> None:
        """Keep the values of an epoch."""
        row = self._rows.setdefault(message.epoch, {})
        row["num_samples_seen"] = message.num_samples_seen
        row.update({f"{message.mode}/{name}": value for name, value in message.values.items()})

    def as_table(self) -> pd.DataFrame:
        """Return one row an epoch."""
        return pd.DataFrame([{"epoch": epoch, **row} for epoch, row in sorted(self._rows.items())])


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run as its listeners know it.

    Attributes:
        name: What is trained.
        version: Its version.
        folder: Its TensorBoard log.
        mlflow_run: Its MLflow run, where there is one.
        previous: The checkpoint that it goes on from, where it was ended before its time.
        tags: What identifies it: digests of configuration and data.
    """

    name: str
    version: str
    folder: Path
    mlflow_run: MlflowRun | None
    previous: Checkpoint | None
    tags: Mapping[str, str]


def register_listeners(services: ServiceContainer, run: Run, options: "RunOptions") -> MessageHandler:
    """Register history and trackers; what hands messages to them comes last, so that it is closed first.

    Args:
        services: Close them.
        run: What they listen to.
        options: Which of them there are.

    Raises:
        ValueError: If a handler's name is unknown.
    """
    history = History()
    services.register_service(History, history)
    context = HandlerContext(
        name=run.name,
        version=run.version,
        folder=run.folder,
        mlflow_run=run.mlflow_run,
        write_line=_writer(options.show_progress),
        first_step=_first_step(run.previous) if run.previous else None,
        tags=run.tags,
        registers_model=options.registers_model,
    )
    names = ["tensorboard"]
    names += ["mlflow"] if run.mlflow_run else []
    names += ["console"] if options.show_progress else []
    return build_handlers(
        [*names, *options.handlers],
        context,
        services,
        also=[history.handlers()],
        after=options.listeners,
        patience_seconds=options.seconds_of_patience,
    )


def _first_step(previous: Checkpoint) -> int:
    """Where a run goes on; metrics of a pass that was done when it ended are said again."""
    return previous.num_samples_seen + (0 if previous.progress.num_batches else 1)


def _writer(show_progress: bool | Callable[[str], None]) -> Callable[[str], None] | None:
    return None if isinstance(show_progress, bool) else show_progress
