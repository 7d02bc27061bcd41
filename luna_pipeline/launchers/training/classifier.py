"""Training a classifier, from new weights or from another run's: the same whoever asks, the configuration decides."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeVar

import pandas as pd

from luna_pipeline.core.cutouts.store import CutoutSource
from luna_pipeline.core.datasets.data_module import DataModule
from luna_pipeline.core.datasets.splits import TrainingSplit, index_fingerprint, split_index
from luna_pipeline.core.distributed import SINGLE_PROCESS, DistributedContext
from luna_pipeline.core.events.messages import MessageHandler
from luna_pipeline.core.storage.files import AnyPath
from luna_pipeline.core.training.building import build_data_module, build_model
from luna_pipeline.core.training.checkpoints import Checkpoint, CheckpointStore, load_checkpoint
from luna_pipeline.core.training.config import TRAINERS, StartConfig, TrainingConfig
from luna_pipeline.core.training.profiling import StepProfiler
from luna_pipeline.core.training.recipes import recipe_by_name
from luna_pipeline.core.training.services import ServiceContainer
from luna_pipeline.launchers.training.initial_weights import check_unseen, continued, full_name, load_source
from luna_pipeline.launchers.training.listeners import History, Run, register_listeners
from luna_pipeline.launchers.training.run import RunOptions, TrainedClassifier
from luna_pipeline.tracking.mlflow_handlers import MlflowHandlers
from luna_pipeline.tracking.mlflow_run import MlflowRun, OpenMlflowRun

if TYPE_CHECKING:
    from luna_pipeline.settings import Settings

RequestT = TypeVar("RequestT")
TunedT = TypeVar("TunedT")


class LunaClassificationLauncher:
    """Trains classifiers that tell nodules from other candidates.

    Attributes:
        recipe: What is trained where no configuration is given.
        local_home: Folder of this machine for what cannot lie in S3: TensorBoard's logs.
        checkpoints: Where checkpoints lie, ``<home>/checkpoints/<name>/<version>``.
    """

    recipe: ClassVar[str] = "nodule_baseline"

    def __init__(
        self,
        home: AnyPath,
        *,
        open_mlflow_run: OpenMlflowRun | None = None,
        tracking_uri: str | None = None,
        local_home: Path | None = None,
        options: RunOptions | None = None,
        processes: DistributedContext = SINGLE_PROCESS,
    ) -> None:
        """Prepare runs.

        Args:
            home: Folder of everything that is produced, on a disk or in S3.
            open_mlflow_run: Opens the MLflow run; None keeps a run in TensorBoard and checkpoints only.
            tracking_uri: Where MLflow is, for weights from its registry.
            local_home: Folder of this machine for locks and TensorBoard's logs, needed where ``home`` is in S3.
            options: How runs are carried out.
            processes: Those that train together; the first one writes and reports.
        """
        self.local_home = _on_this_machine(local_home or home)
        self.checkpoints = CheckpointStore(home / "checkpoints", locks=self.local_home / "checkpoints")
        self._open_mlflow_run = open_mlflow_run
        self._tracking_uri = tracking_uri
        self._options = options or RunOptions()
        self._processes = processes

    def fit(
        self,
        config: TrainingConfig | None = None,
        *,
        index: pd.DataFrame,
        store: CutoutSource,
        split: TrainingSplit,
        resume: bool | str = True,
    ) -> TrainedClassifier:
        """Train a classifier; a run that was ended before its time is continued where it was.

        Args:
            config: The complete configuration of the run; None for the recipe's.
            index: The cutout index.
            store: Where the cutouts lie.
            split: Which folds stay out of training.
            resume: Whether an unfinished run of the same configuration and data is continued; False begins anew, a
                version continues that one and no other.

        Raises:
            ValueError: If index, cutouts, split and configuration do not fit each other.
            FileNotFoundError: If a series was not cut, or there is no run to begin with.
            UndeliveredMessagesError: If a tracker did not take everything until the end.
        """
        config = config or recipe_by_name(self.recipe)
        source = self._source(config, index, split)
        data = self._data(config, index, store, split)
        previous, version = self._processes.broadcast(self._claimed(config, data, resume=resume))
        with self._given_back(config.name, version):
            trained = self._fit(config, data, split=split, source=source, previous=previous, version=version)
        return replace(trained, index_digest=index_fingerprint(index))

    def _fit(
        self,
        config: TrainingConfig,
        data: DataModule,
        *,
        split: TrainingSplit,
        source: Checkpoint | None,
        previous: Checkpoint | None,
        version: str,
    ) -> TrainedClassifier:
        """Train, with all who listen."""
        started = time.perf_counter()
        folder = self.local_home / "tensorboard" / config.name / version
        tags = {
            "config_digest": config.digest,
            "data_fingerprint": data.fingerprint,
            "luna.test_fold": str(split.test_fold),
            "luna.validation_fold": str(split.validation_fold),
        }
        with ServiceContainer() as services:
            mlflow = self._mlflow_run(services, f"{config.name} {version}", previous)
            run = Run(name=config.name, version=version, folder=folder, mlflow_run=mlflow, previous=previous, tags=tags)
            handler = self._handler(services, run)
            checkpoint = self._train(config, data, services, handler, run, source=source)
            history = services.get_service(History).as_table() if self._processes.is_first else pd.DataFrame()
            model_uri = services.get_service(MlflowHandlers).model_uri if mlflow else None
        return TrainedClassifier(
            checkpoint=checkpoint,
            path=self.checkpoints.path(config.name, version),
            version=version,
            history=history,
            tensorboard_dir=folder,
            seconds=time.perf_counter() - started,
            model_uri=model_uri,
            mlflow_run_id=checkpoint.mlflow_run_id,
        )

    def load_fit(
        self,
        config: TrainingConfig | None = None,
        *,
        start: StartConfig,
        head_only: bool | None = None,
        index: pd.DataFrame,
        store: CutoutSource,
        split: TrainingSplit,
        resume: bool | str = True,
    ) -> TrainedClassifier:
        """Train a classifier that begins with the weights of another run, see `fit`.

        Args:
            config: What the run is to be; its network is the other run's. None for the recipe's.
            start: Where that run is, its name and version.
            head_only: Whether the last layer alone learns, the rest being frozen, its batch norms and dropout too; None
                lets it where the question is another one.
            index: The cutout index.
            store: Where the cutouts lie.
            split: Which folds stay out of training.
            resume: Whether an unfinished run of the same configuration and data is continued.

        Raises:
            ValueError: If the other run has seen what this one holds out, or parts do not fit each other.
            FileNotFoundError: If there is no such run.
        """
        named = StartConfig(loader=start.loader, name=full_name(str(start.name)), version=start.version)
        source = load_source(named, checkpoints=self.checkpoints, tracking_uri=self._tracking_uri)
        config = continued(config or recipe_by_name(self.recipe), source, loader=start.loader, head_only=head_only)
        return self.fit(config, index=index, store=store, split=split, resume=resume)

    def tune_parameters(
        self, request: RequestT, *, settings: "Settings", tune: "Callable[[Settings, RequestT], TunedT]"
    ) -> TunedT:
        """Search for a better configuration.

        Args:
            request: What is searched, on which folds, how: a ``TuningRequest``.
            settings: Paths of the installation; the workers use the same ones.
            tune: ``luna_pipeline.tuning.tune.tune_parameters``. It is passed in because tuning imports this module.

        Raises:
            ValueError: If folds, score and data do not fit each other, or no trial has a score.
        """
        return tune(settings, request)

    def load(self, name: str, version: str | None = None) -> Checkpoint:
        """Load a finished checkpoint.

        Args:
            name: Its name.
            version: Its version; None for the one completed last.

        Raises:
            FileNotFoundError: If there is none.
        """
        return load_checkpoint(self.checkpoints.path(name, version or self.checkpoints.latest(name)))

    def _source(self, config: TrainingConfig, index: pd.DataFrame, split: TrainingSplit) -> Checkpoint | None:
        """The run whose weights this one begins with; it must not have seen what is held out."""
        if config.start.name is None:
            return None
        source = load_source(config.start, checkpoints=self.checkpoints, tracking_uri=self._tracking_uri)
        series, folds = index["series_instance_uid"], index["fold"]
        held_out = {
            "test": set(series[folds == split.test_fold]),
            "validation": set(series[folds == split.validation_fold]),
        }
        check_unseen(source, held_out=held_out, split=split)
        return source

    def _data(
        self, config: TrainingConfig, index: pd.DataFrame, store: CutoutSource, split: TrainingSplit
    ) -> DataModule:
        training, validation, _ = split_index(index, split, use_annotations=config.use_annotations)
        return build_data_module(
            config,
            training_index=training,
            validation_index=validation,
            store=store,
            num_workers=self._options.num_workers,
            processes=self._processes,
        )

    def _claimed(
        self, config: TrainingConfig, data: DataModule, *, resume: bool | str
    ) -> tuple[Checkpoint | None, str]:
        """The unfinished run that is continued, and the version of this one; of several processes the first decides."""
        if not self._processes.is_first:
            return None, config.version
        if isinstance(resume, str):
            # What does not fit any more, or is trained by somebody else now, is refused by the trainer.
            return load_checkpoint(self.checkpoints.path(config.name, resume, "last")), resume
        previous = self.checkpoints.unfinished(config.name, config.digest, data.fingerprint) if resume else None
        return previous, previous.version if previous else self.checkpoints.claim(config.name, config.version)

    @contextlib.contextmanager
    def _given_back(self, name: str, version: str) -> Iterator[None]:
        """Give a version back that came to nothing, such as where MLflow was away from the beginning."""
        try:
            yield
        except BaseException:
            if self._processes.is_first:
                with contextlib.suppress(OSError):
                    self.checkpoints.release(name, version)
            raise

    def _handler(self, services: ServiceContainer, run: Run) -> MessageHandler:
        """Register all who listen; processes after the first say nothing."""
        if self._processes.is_first:
            return register_listeners(services, run, self._options)
        return MessageHandler({})

    def _train(
        self,
        config: TrainingConfig,
        data: DataModule,
        services: ServiceContainer,
        handler: MessageHandler,
        run: Run,
        *,
        source: Checkpoint | None,
    ) -> Checkpoint:
        num_batches = data.num_training_batches
        model = build_model(
            config, handler=handler, num_batches=num_batches, processes=self._processes, start_from=source
        )
        profiler = None
        if self._options.is_profiled and self._processes.is_first:
            num_steps = -(-num_batches // config.accumulated_batches)
            profiler = services.register_context(
                StepProfiler, StepProfiler(run.folder, handler=handler, steps_in_epoch=num_steps)
            )
        trainer = TRAINERS.get(config.trainer)(
            config,
            handler=handler,
            store=self.checkpoints,
            processes=self._processes,
            profiler=profiler,
            seconds_between_checkpoints=self._options.seconds_between_checkpoints,
        )
        checkpoint: Checkpoint = trainer.fit(
            model,
            data,
            version=run.version,
            resume_from=run.previous,
            started_from=source,
            mlflow_run_id=run.mlflow_run.run_id if run.mlflow_run else None,
        )
        return checkpoint

    def _mlflow_run(self, services: ServiceContainer, name: str, previous: Checkpoint | None) -> MlflowRun | None:
        """Open the MLflow run; it is closed last, with the status that is true."""
        if self._open_mlflow_run is None or not self._processes.is_first:
            return None
        return services.register_context(
            MlflowRun, self._open_mlflow_run(name, previous.mlflow_run_id if previous else None)
        )


class LunaMalignantClassificationLauncher(LunaClassificationLauncher):
    """Trains classifiers that tell malignant nodules from benign ones and other candidates."""

    recipe: ClassVar[str] = "malignancy_baseline"


def _on_this_machine(folder: AnyPath) -> Path:
    if not isinstance(folder, Path):
        msg = f"Locks and TensorBoard's logs must lie on this machine, got no folder for them (home {folder})."
        raise ValueError(f"{msg} Set `local_home`.")
    return folder
