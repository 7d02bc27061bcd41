"""Options and results of training runs, as values."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from luna_pipeline.core.events.messages import Handler, Message
from luna_pipeline.core.storage.files import AnyPath
from luna_pipeline.core.training.checkpoints import Checkpoint, CheckpointStore
from luna_pipeline.core.training.trainer import SECONDS_BETWEEN_CHECKPOINTS
from luna_pipeline.tracking.outbox import PATIENCE_SECONDS


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainedClassifier:
    """Result of a training run.

    Attributes:
        checkpoint: The chosen epoch.
        path: Its file.
        version: Its version: the requested one or a later build of it.
        history: One row per epoch of this process: ``epoch``, ``num_samples_seen``, and ``<mode>/<name>`` of every
            metric (nan where an epoch was not validated). A resumed run's earlier epochs are in the trackers.
        tensorboard_dir: Folder of the TensorBoard events.
        seconds: Wall time.
        index_digest: Digest of the whole cutout index, with all folds; empty without an index.
        model_uri: URI of the registered model; None without an MLflow run.
        mlflow_run_id: Id of the MLflow run, if any.
        picture: Validated slices with outlines of the last validated epoch of this process, uint8 (H, W, 3), of a
            segmenter; None without.
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
    picture: NDArray[np.uint8] | None = None


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Options that do not affect the trained weights.

    Attributes:
        show_progress: True prints progress to standard error, False nothing; a function receives each line.
        cutouts: ``stored`` or ``on_the_fly``, see ``cutout_source``.
        num_workers: Processes that load cutouts; 0 loads in the training process.
        seconds_between_checkpoints: Longest training time that is lost when a machine crashes.
        is_profiled: Whether to trace some training steps.
        handlers: Names of further handlers (``tracking.handlers.HANDLERS``).
        listeners: Handlers by message type, called after all others.
        registers_model: Whether to register the trained model, if there is an MLflow run.
        seconds_of_patience: How long the end of a run waits for an unavailable tracker.
    """

    show_progress: bool | Callable[[str], None] = True
    cutouts: str = "stored"
    num_workers: int = 0
    seconds_between_checkpoints: float = SECONDS_BETWEEN_CHECKPOINTS
    is_profiled: bool = False
    handlers: Sequence[str] = ()
    listeners: Sequence[Mapping[type[Message], Handler]] = ()
    registers_model: bool = True
    seconds_of_patience: float = PATIENCE_SECONDS


@contextlib.contextmanager
def released_on_error(store: CheckpointStore, name: str, version: str) -> Iterator[None]:
    """End a claim; release the version if an error or interrupt comes before its first checkpoint."""
    try:
        yield
    except BaseException:
        # A version with checkpoints is not empty and so is kept.
        with contextlib.suppress(OSError):
            store.release(name, version)
        raise
    finally:
        store.end_claim(name, version)
        with contextlib.suppress(OSError):
            store.attempt_file(name, version).unlink(missing_ok=True)
