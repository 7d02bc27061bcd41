"""Listeners of a training run: its history, and the trackers by their names."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pandas as pd

from luna_pipeline.core.events.messages import Handler, LogMetrics, LogPicture, Message, MessageHandler
from luna_pipeline.core.training.services import ServiceContainer
from luna_pipeline.tracking.handlers import HandlerContext, build_handlers

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from luna_pipeline.launchers.training.run import RunOptions


@dataclass
class History:
    """Records the metrics of each epoch, and the last picture.

    Attributes:
        picture: Pixels of the last picture, uint8 (H, W, 3); None before the first.
    """

    picture: "NDArray[np.uint8] | None" = field(default=None, init=False)
    _rows: dict[int, dict[str, float]] = field(default_factory=dict, init=False)

    def handlers(self) -> Mapping[type[Message], Handler]:
        """Return the handlers by message type."""
        return {LogMetrics: self.record, LogPicture: self.record_picture}

    def record(self, message: LogMetrics) -> None:
        """Record the values of an epoch."""
        row = self._rows.setdefault(message.epoch, {})
        row["num_samples_seen"] = message.num_samples_seen
        row.update({f"{message.mode}/{name}": value for name, value in message.values.items()})

    def record_picture(self, message: LogPicture) -> None:
        """Keep a picture instead of the one before it."""
        self.picture = message.pixels

    def as_table(self) -> pd.DataFrame:
        """Return one row per epoch."""
        return pd.DataFrame([{"epoch": epoch, **row} for epoch, row in sorted(self._rows.items())])


def register_listeners(services: ServiceContainer, context: HandlerContext, options: "RunOptions") -> MessageHandler:
    """Register history, trackers and message handler as services; the message handler is closed first.

    Args:
        services: Closes them.
        context: The run.
        options: Decide which listeners there are.

    Raises:
        ValueError: If a handler's name is unknown.
    """
    history = History()
    services.register_service(History, history)
    names = ["tensorboard"]
    names += ["mlflow"] if context.mlflow_run else []
    names += ["console"] if options.show_progress else []
    return build_handlers(
        [*names, *options.handlers],
        context,
        services,
        also=[history.handlers()],
        after=options.listeners,
        patience_seconds=options.seconds_of_patience,
    )
