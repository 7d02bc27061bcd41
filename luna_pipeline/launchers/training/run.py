"""What a training run is asked for and what it leaves, as values."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from luna_pipeline.core.events.messages import PATIENCE_SECONDS, Handler, Message
from luna_pipeline.core.storage.files import AnyPath
from luna_pipeline.core.training.checkpoints import Checkpoint
from luna_pipeline.core.training.trainer import SECONDS_BETWEEN_CHECKPOINTS


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainedClassifier:
    """What a training run leaves.

    Attributes:
        checkpoint: The chosen epoch.
        path: Its file.
        version: Its version; the one asked for or a later build of it.
        history: One row an epoch of this process: ``epoch``, ``num_samples_seen``, and ``<mode>/<name>`` of every
            metric (nan where an epoch was not validated). A continued run's earlier epochs are in the trackers.
        tensorboard_dir: Folder of the run's TensorBoard events.
        seconds: Wall time.
        index_digest: Identity of the whole cutout index, all folds of it; empty where it was not trained on one.
        model_uri: The registered model, where there is an MLflow run.
        mlflow_run_id: The MLflow run, where there is one.
    """

    checkpoint: Checkpoint
    path: AnyPath
    version: str
    history: pd.DataFrame
    tensorboard_dir: Path
    seconds: float
    index_digest: str = ""
    model_uri: str | None = None
    mlflow_run_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a run is carried out; nothing here changes what comes out of it.

    Attributes:
        show_progress: True says on standard error what happens, False nothing, a function is handed each line.
        num_workers: Processes that load cutouts; 0 loads in the one that trains.
        seconds_between_checkpoints: How much of an epoch may be lost when a machine dies.
        is_profiled: Whether some training steps are traced.
        handlers: More who listen, by name (``tracking.handlers.HANDLERS``).
        listeners: More who listen after all these, as they are: who takes which type of message.
        registers_model: Whether the trained model goes to MLflow's registry, where there is an MLflow run.
        seconds_of_patience: How long the end of a run waits for a tracker that is away.
    """

    show_progress: bool | Callable[[str], None] = True
    num_workers: int = 0
    seconds_between_checkpoints: float = SECONDS_BETWEEN_CHECKPOINTS
    is_profiled: bool = False
    handlers: Sequence[str] = field(default_factory=tuple)
    listeners: Sequence[Mapping[type[Message], Handler]] = field(default_factory=tuple)
    registers_model: bool = True
    seconds_of_patience: float = PATIENCE_SECONDS
