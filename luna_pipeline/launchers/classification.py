"""Training a classifier and scoring with it: the same whoever asks, the configuration decides."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from luna_pipeline.core.cutouts.store import CutoutStore
from luna_pipeline.core.datasets.batch import CutoutBatch
from luna_pipeline.core.datasets.cutouts import CutoutsDataset, as_it_is
from luna_pipeline.core.datasets.data_module import DataModule
from luna_pipeline.core.datasets.splits import TrainingSplit, split_index
from luna_pipeline.core.evaluation.report import PREDICTION_COLUMNS
from luna_pipeline.core.files import AnyPath
from luna_pipeline.core.messages import Handler, LogMetrics, Message, MessageHandler
from luna_pipeline.core.models.scoring import predict
from luna_pipeline.core.training.building import build_data_module, build_model, default_device, network_of
from luna_pipeline.core.training.checkpoints import Checkpoint, CheckpointStore, load_checkpoint
from luna_pipeline.core.training.config import TrainingConfig
from luna_pipeline.core.training.services import ServiceContainer
from luna_pipeline.core.training.trainer import Trainer
from luna_pipeline.tracking.console import ConsoleHandlers
from luna_pipeline.tracking.handlers import handlers_by_message
from luna_pipeline.tracking.mlflow_handlers import MlflowHandlers
from luna_pipeline.tracking.mlflow_run import MlflowRun
from luna_pipeline.tracking.tensorboard_tracking import TensorBoardHandlers

SCORING_BATCH_SIZE = 64


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
        model_uri: The registered model, where there is an MLflow run.
    """

    checkpoint: Checkpoint
    path: AnyPath
    version: str
    history: pd.DataFrame
    tensorboard_dir: Path
    seconds: float
    model_uri: str | None = None


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


class LunaClassificationLauncher:
    """Trains classifiers and scores candidates with them.

    Attributes:
        local_home: Folder of this machine for what cannot lie in S3: TensorBoard's logs.
        checkpoints: Where checkpoints lie, ``<home>/checkpoints/<name>/<version>``.
    """

    def __init__(
        self,
        home: AnyPath,
        *,
        mlflow_run: MlflowRun | None,
        local_home: Path | None = None,
        show_progress: bool | Callable[[str], None] = True,
        num_workers: int = 0,
    ) -> None:
        """Prepare runs.

        Args:
            home: Folder of everything that is produced, on a disk or in S3.
            mlflow_run: Where the run is kept; None keeps it in TensorBoard and checkpoints only.
            local_home: Folder of this machine for locks and TensorBoard's logs, needed where ``home`` is in S3.
            show_progress: True says on standard error what happens, a function is handed each line instead.
            num_workers: Processes that load cutouts; 0 loads in this one.
        """
        self.local_home = _on_this_machine(local_home or home)
        self.checkpoints = CheckpointStore(home / "checkpoints", locks=self.local_home / "checkpoints")
        self._mlflow_run = mlflow_run
        self._show_progress = show_progress
        self._num_workers = num_workers

    def fit(
        self,
        config: TrainingConfig,
        *,
        index: pd.DataFrame,
        store: CutoutStore,
        split: TrainingSplit,
        resume: bool = True,
    ) -> TrainedClassifier:
        """Train a classifier; a run that was ended before its time is continued where it was.

        Args:
            config: The complete configuration of the run.
            index: The cutout index.
            store: Where the cutouts lie.
            split: Which folds stay out of training.
            resume: Whether an unfinished run of the same configuration and data is continued; False begins anew.

        Raises:
            ValueError: If index, cutouts, split and configuration do not fit each other.
            FileNotFoundError: If a series was not cut.
            UndeliveredMessagesError: If a tracker did not take everything until the end.
        """
        started = time.perf_counter()
        training_index, validation_index, _ = split_index(index, split, use_annotations=config.use_annotations)
        data = build_data_module(
            config, training_index=training_index, validation_index=validation_index,
            store=store, num_workers=self._num_workers,
        )  # fmt: skip
        previous = self.checkpoints.unfinished(config.name, config.digest, data.fingerprint) if resume else None
        version = previous.version if previous else self.checkpoints.claim(config.name, config.version)
        with ServiceContainer() as services:
            handler = self._register_services(services, config, data, version=version, previous=previous)
            checkpoint = Trainer(config, handler=handler, store=self.checkpoints).fit(
                build_model(config, handler=handler), data, version=version, resume_from=previous,
                mlflow_run_id=self._mlflow_run.run_id if self._mlflow_run else None,
            )  # fmt: skip
            history = services.get_service(History).as_table()
            model_uri = services.get_service(MlflowHandlers).model_uri if self._mlflow_run else None
        return TrainedClassifier(
            checkpoint=checkpoint, path=self.checkpoints.path(config.name, version), version=version, history=history,
            tensorboard_dir=self._tensorboard_dir(config.name, version),
            seconds=time.perf_counter() - started, model_uri=model_uri,
        )  # fmt: skip

    def load(self, name: str, version: str | None = None) -> Checkpoint:
        """Load a finished checkpoint.

        Args:
            name: Its name.
            version: Its version; None for the one completed last.

        Raises:
            FileNotFoundError: If there is none.
        """
        return load_checkpoint(self.checkpoints.path(name, version or self.checkpoints.latest(name)))

    def score(
        self,
        checkpoint: Checkpoint,
        index: pd.DataFrame,
        store: CutoutStore,
        *,
        batch_size: int = SCORING_BATCH_SIZE,
        on_batch: Callable[[int, int], None] | None = None,
    ) -> NDArray[np.float64]:
        """Score candidates; nothing is learned, changed at random or balanced.

        Args:
            checkpoint: A trained classifier.
            index: Rows of the cutout index.
            store: Where the cutouts lie.
            batch_size: Cutouts that are read at once.
            on_batch: Is told after each batch how many candidates are done, of how many.

        Returns:
            Probability of a nodule, float64 (N,), in the order of ``index``.

        Raises:
            ValueError: If the cutouts are not of the network's shape, or not those of the index.
            CheckpointError: If weights and configuration do not fit each other.
            FileNotFoundError: If a series was not cut.
        """
        dataset = CutoutsDataset(index, store)
        expected = checkpoint.config.network.chunk_shape_irc
        if dataset.chunk_shape_irc != expected:
            msg = f"Cutouts must have the shape of the network's input {expected}, got {dataset.chunk_shape_irc}"
            raise ValueError(f"{msg} ({checkpoint.name} {checkpoint.version}). Cut them in that shape.")
        loader = DataLoader(dataset, batch_size=batch_size, num_workers=self._num_workers, collate_fn=as_it_is)
        network = network_of(checkpoint).to(default_device())
        return predict(network, _reported(loader, len(dataset), on_batch))[1]

    def predict_table(
        self, checkpoint: Checkpoint, index: pd.DataFrame, candidates: pd.DataFrame, store: CutoutStore
    ) -> pd.DataFrame:
        """Score candidates and return them as rows of the table of predictions.

        Args:
            checkpoint: A trained classifier; its name is the model's.
            index: Rows of the cutout index.
            candidates: The candidate table, for the positions.
            store: Where the cutouts lie.

        Returns:
            A row a candidate, in the order of ``index``: ``PREDICTION_COLUMNS`` and ``threshold``.
        """
        scores = self.score(checkpoint, index, store)
        return prediction_rows(index, candidates, scores, model=checkpoint.name, threshold=checkpoint.threshold)

    def _tensorboard_dir(self, name: str, version: str) -> Path:
        return self.local_home / "tensorboard" / name / version

    def _register_services(
        self, services: ServiceContainer, config: TrainingConfig, data: DataModule,
        *, version: str, previous: Checkpoint | None,
    ) -> MessageHandler:  # fmt: skip
        """Register all who listen; the message handler last, so that it hands over what waits while they are open."""
        history = History()
        tensorboard = TensorBoardHandlers(
            self._tensorboard_dir(config.name, version),
            first_step=previous.num_samples_seen + 1 if previous else None,
        )
        services.register_service(History, history)
        services.register_service(TensorBoardHandlers, tensorboard, on_close=TensorBoardHandlers.close)
        sources = [history.handlers(), tensorboard.handlers()]
        if self._mlflow_run is not None:
            tags = {"config_digest": config.digest, "data_fingerprint": data.fingerprint}
            mlflow = MlflowHandlers(self._mlflow_run, tags={**tags, "luna.checkpoint": f"{config.name} {version}"})
            services.register_service(MlflowHandlers, mlflow)
            sources.append(mlflow.handlers())
        if self._show_progress:
            write_line = None if self._show_progress is True else self._show_progress
            console = ConsoleHandlers(write_line=write_line)
            services.register_service(ConsoleHandlers, console, on_close=ConsoleHandlers.close)
            sources.append(console.handlers())
        handler = MessageHandler(handlers_by_message(sources))
        services.register_service(MessageHandler, handler, on_close=MessageHandler.close)
        return handler


def prediction_rows(
    index: pd.DataFrame,
    candidates: pd.DataFrame,
    probability: NDArray[np.float64] | float,
    *,
    model: str,
    threshold: float,
) -> pd.DataFrame:
    """Return scores as rows of the table of predictions.

    Args:
        index: Rows of the cutout index.
        candidates: The candidate table: ``candidate_id``, ``x_mm``, ``y_mm``, ``z_mm``.
        probability: A score for each row of ``index``, or one for all.
        model: Name of what gave the scores.
        threshold: From which score on it calls a candidate a nodule.

    Raises:
        ValueError: If a candidate of the index is not in the table.
    """
    positions = candidates.set_index("candidate_id")[["x_mm", "y_mm", "z_mm"]]
    missing = ~index["candidate_id"].isin(positions.index)
    if missing.any():
        msg = f"Every candidate of the index must be in the table, got {int(missing.sum())} that are not"
        uid = index.loc[missing, "series_instance_uid"].iloc[0]
        raise ValueError(f"{msg} (the first of series {uid}). Materialize `cutout_index` again.")
    rows = index[["candidate_id", "series_instance_uid", "class", "fold"]].reset_index(drop=True)
    rows = rows.join(positions, on="candidate_id").assign(model=model, probability=probability, threshold=threshold)
    return rows[[*PREDICTION_COLUMNS, "threshold"]]


def _on_this_machine(folder: AnyPath) -> Path:
    if not isinstance(folder, Path):
        msg = f"Locks and TensorBoard's logs must lie on this machine, got no folder for them (home {folder})."
        raise ValueError(f"{msg} Set `local_home`.")
    return folder


def _reported(
    loader: DataLoader[CutoutBatch], num_candidates: int, on_batch: Callable[[int, int], None] | None
) -> Iterator[CutoutBatch]:
    done = 0
    for batch in loader:
        yield batch
        # Here the batch before is scored: the consumer has come back for the next one.
        done += len(batch.candidate_id)
        if on_batch is not None:
            on_batch(done, num_candidates)
