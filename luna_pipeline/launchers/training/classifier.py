"""Launchers that train a classifier from scratch or from another run's weights."""

import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import pandas as pd

from luna_pipeline.core.cutouts.store import CutoutSource
from luna_pipeline.core.datasets.data_module import DataModule
from luna_pipeline.core.datasets.masks import CropSource
from luna_pipeline.core.datasets.splits import TrainingSplit, index_fingerprint, split_index
from luna_pipeline.core.distributed import SINGLE_PROCESS, DistributedContext
from luna_pipeline.core.events.lost_interrupts import redelivered_interrupts
from luna_pipeline.core.events.messages import MessageHandler
from luna_pipeline.core.storage.files import AnyPath
from luna_pipeline.core.training.building import build_data_module, build_model
from luna_pipeline.core.training.checkpoints import Checkpoint, CheckpointStore, load_checkpoint
from luna_pipeline.core.training.config import TRAINERS, StartConfig, TrainingConfig
from luna_pipeline.core.training.dry_run import dry_run
from luna_pipeline.core.training.profiling import StepProfiler
from luna_pipeline.core.training.recipes import recipe_by_name
from luna_pipeline.core.training.services import ServiceContainer
from luna_pipeline.launchers.training.attempts import Attempt, end_killed, read_attempt, write_attempt
from luna_pipeline.launchers.training.initial_weights import check_unseen, continued, full_name, load_source
from luna_pipeline.launchers.training.inputs import data_inputs
from luna_pipeline.launchers.training.listeners import History, register_listeners
from luna_pipeline.launchers.training.run import RunOptions, TrainedClassifier, released_on_error
from luna_pipeline.tracking.handlers import HandlerContext
from luna_pipeline.tracking.mlflow_handlers import MlflowHandlers
from luna_pipeline.tracking.mlflow_run import MlflowRun, OpenMlflowRun

if TYPE_CHECKING:
    from luna_pipeline.settings import Settings

RequestT = TypeVar("RequestT")
TunedT = TypeVar("TunedT")


class LunaClassificationLauncher:
    """Trains classifiers of nodules against other candidates.

    Attributes:
        recipe: Recipe to train if no configuration is given.
        local_home: Local folder for what cannot be stored in S3: locks and TensorBoard logs.
        checkpoints: Store of the checkpoints, ``<home>/checkpoints/<name>/<version>``.
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
            home: Folder of all results, on a disk or in S3.
            open_mlflow_run: Opens the MLflow run; None logs to TensorBoard only.
            tracking_uri: MLflow's address, to load weights from its registry.
            local_home: Local folder for locks and TensorBoard logs, required if ``home`` is in S3.
            options: Options that do not affect the result.
            processes: Processes that train together; the first one writes and logs.

        Raises:
            ValueError: If ``home`` is in S3 and there is no ``local_home``.
        """
        local_home = local_home or home  # type: ignore[assignment]
        if not isinstance(local_home, Path):
            msg = f"Locks and TensorBoard's logs must lie on this machine, got no folder for them (home {home})."
            raise ValueError(f"{msg} Set `local_home`.")
        self.local_home = local_home
        self.checkpoints = CheckpointStore(home / "checkpoints", locks=local_home / "checkpoints")
        self._open_mlflow_run = open_mlflow_run
        self._tracking_uri = tracking_uri
        self._options = options or RunOptions()
        self._processes = processes

    def fit(
        self,
        config: TrainingConfig | None = None,
        *,
        index: pd.DataFrame,
        store: CutoutSource | CropSource,
        split: TrainingSplit,
        resume: bool | str = True,
    ) -> TrainedClassifier:
        """Train a classifier, or resume an unfinished run.

        Args:
            config: Complete configuration of the run; None for the recipe's.
            index: The cutout index.
            store: The cutouts.
            split: The held-out folds.
            resume: Whether to resume an unfinished run of the same configuration and data; a version resumes exactly
                that one.

        Raises:
            ValueError: If index, cutouts, split and configuration do not match.
            FileNotFoundError: If cutouts are missing, or there is no run with the initial weights.
            UndeliveredMessagesError: If a tracker did not receive all messages.
        """
        config = config or recipe_by_name(self.recipe)
        source = self._source(config, index, split)
        training, validation = self.parts(config, index, split)
        data = build_data_module(
            config,
            training_index=training,
            validation_index=validation,
            store=store,
            num_workers=self._options.num_workers,
            processes=self._processes,
        )
        is_exported = self._open_mlflow_run is not None and self._options.registers_model
        dry_run(config, data, self._processes, is_exported=is_exported)
        previous, version = self._processes.broadcast(self._claimed(config, data, resume=resume))
        is_first = self._processes.is_first
        claim = released_on_error(self.checkpoints, config.name, version) if is_first else contextlib.nullcontext()
        with claim, redelivered_interrupts():
            trained = self._train(config, data, split=split, source=source, previous=previous, version=version)
        return replace(trained, index_digest=index_fingerprint(index))

    def load_fit(
        self,
        config: TrainingConfig | None = None,
        *,
        start: StartConfig,
        head_only: bool | None = None,
        index: pd.DataFrame,
        store: CutoutSource | CropSource,
        split: TrainingSplit,
        resume: bool | str = True,
    ) -> TrainedClassifier:
        """Train a classifier from the weights of another run, see `fit`.

        Args:
            config: Configuration of the run, with the other run's network; None for the recipe's.
            start: Where the other run is, its name and version.
            head_only: Whether to train the last layer only; the rest, with its batch norms and dropout, is frozen.
                None trains it only if the task differs from the other run's.
            index: See `fit`, also for the following.
            store: The cutouts.
            split: The held-out folds.
            resume: Whether to resume an unfinished run.

        Raises:
            ValueError: If the other run has seen the held-out folds, or configuration and data do not match.
            FileNotFoundError: If there is no such run.
        """
        named = replace(start, name=full_name(str(start.name)))
        source = load_source(named, checkpoints=self.checkpoints, tracking_uri=self._tracking_uri)
        config = continued(config or recipe_by_name(self.recipe), source, loader=start.loader, head_only=head_only)
        return self.fit(config, index=index, store=store, split=split, resume=resume)

    def tune_parameters(
        self, request: RequestT, *, settings: "Settings", tune: "Callable[[Settings, RequestT], TunedT]"
    ) -> TunedT:
        """Search for a better configuration.

        Args:
            request: A ``TuningRequest``.
            settings: Paths of the installation, the same for all workers.
            tune: ``luna_pipeline.tuning.tune.tune_parameters``. It is passed in because tuning imports this module.

        Raises:
            ValueError: If folds, score and data do not match, or no trial has a score.
        """
        return tune(settings, request)

    def parts(
        self, config: TrainingConfig, index: pd.DataFrame, split: TrainingSplit
    ) -> tuple[pd.DataFrame, pd.DataFrame | None]:
        """Return the rows of training, and of validation (None without a validation fold)."""
        training, validation, _ = split_index(
            index, split, use_annotations=config.use_annotations, dataset=config.dataset
        )
        return training, validation

    def load(self, name: str, version: str | None = None) -> Checkpoint:
        """Load a finished checkpoint; without a version, the one completed last.

        Raises:
            FileNotFoundError: If there is none.
        """
        return load_checkpoint(self.checkpoints.path(name, version or self.checkpoints.latest(name)))

    def _source(self, config: TrainingConfig, index: pd.DataFrame, split: TrainingSplit) -> Checkpoint | None:
        """Load the run with the initial weights, which must not have seen the held-out folds."""
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

    def _claimed(
        self, config: TrainingConfig, data: DataModule, *, resume: bool | str
    ) -> tuple[Checkpoint | None, str]:
        """Return the unfinished run to resume, if any, and the version of this run; only the first process decides."""
        if not self._processes.is_first:
            return None, config.version
        if isinstance(resume, str):
            # The trainer rejects a run of another configuration, or one that another process is training.
            return load_checkpoint(self.checkpoints.path(config.name, resume, "last")), resume
        previous = self.checkpoints.unfinished(config.name, config.digest, data.fingerprint) if resume else None
        return previous, previous.version if previous else self.checkpoints.claim(config.name, config.version)

    def _train(
        self,
        config: TrainingConfig,
        data: DataModule,
        *,
        split: TrainingSplit,
        source: Checkpoint | None,
        previous: Checkpoint | None,
        version: str,
    ) -> TrainedClassifier:
        started, is_first = time.perf_counter(), self._processes.is_first
        with ServiceContainer() as services:
            # The MLflow run is opened first and so closed last, with the final status.
            attempt = read_attempt(self.checkpoints.attempt_file(config.name, version)) if is_first else None
            run = self._mlflow_run(services, config, data, version=version, previous=previous, attempt=attempt)
            first_step = _first_step(previous, attempt, data)
            context = self._context(config, data, split=split, first_step=first_step, version=version, run=run)
            handler = register_listeners(services, context, self._options) if is_first else MessageHandler({})
            num_batches = data.num_training_batches
            model = build_model(
                config, handler=handler, num_batches=num_batches, processes=self._processes, start_from=source
            )
            profiler = None
            if self._options.is_profiled and is_first:
                num_steps = -(-num_batches // config.accumulated_batches)
                profiler = StepProfiler(context.folder, handler=handler, steps_in_epoch=num_steps)
                services.register_context(StepProfiler, profiler)
            trainer: Any = TRAINERS.get(config.trainer)(
                config,
                handler=handler,
                store=self.checkpoints,
                processes=self._processes,
                profiler=profiler,
                seconds_between_checkpoints=self._options.seconds_between_checkpoints,
            )
            run_id = run.run_id if run else None
            checkpoint: Checkpoint = trainer.fit(
                model, data, version=version, resume_from=previous, started_from=source, mlflow_run_id=run_id
            )
            history = services.get_service(History) if is_first else History()
            model_uri = services.get_service(MlflowHandlers).model_uri if run else None
        return TrainedClassifier(
            checkpoint=checkpoint,
            path=self.checkpoints.path(config.name, version),
            version=version,
            history=history.as_table(),
            tensorboard_dir=context.folder,
            seconds=time.perf_counter() - started,
            model_uri=model_uri,
            mlflow_run_id=checkpoint.mlflow_run_id,
            picture=history.picture,
        )

    def _mlflow_run(
        self,
        services: ServiceContainer,
        config: TrainingConfig,
        data: DataModule,
        *,
        version: str,
        previous: Checkpoint | None,
        attempt: Attempt | None,
    ) -> MlflowRun | None:
        """Open the MLflow run: that of the resumed run, or of an attempt that was killed before its checkpoint."""
        if self._open_mlflow_run is None or not self._processes.is_first:
            return None
        is_taken_on = previous is None and attempt is not None and attempt.is_of(config.digest, data.fingerprint)
        run_id = previous.mlflow_run_id if previous else attempt.mlflow_run_id if attempt and is_taken_on else None
        run = services.register_context(MlflowRun, self._open_mlflow_run(f"{config.name} {version}", run_id))
        if attempt is not None and attempt.mlflow_run_id != run.run_id:
            end_killed(run, attempt)
        current = Attempt(mlflow_run_id=run.run_id, config_digest=config.digest, data_fingerprint=data.fingerprint)
        write_attempt(self.checkpoints.attempt_file(config.name, version), current)
        return run

    def _context(
        self,
        config: TrainingConfig,
        data: DataModule,
        *,
        split: TrainingSplit,
        first_step: int | None,
        version: str,
        run: MlflowRun | None,
    ) -> HandlerContext:
        show = self._options.show_progress
        return HandlerContext(
            name=config.name,
            version=version,
            folder=self.local_home / "tensorboard" / config.name / version,
            mlflow_run=run,
            write_line=None if isinstance(show, bool) else show,
            first_step=first_step,
            tags={
                "config_digest": config.digest,
                "data_fingerprint": data.fingerprint,
                "luna.test_fold": str(split.test_fold),
                "luna.validation_fold": str(split.validation_fold),
            },
            registers_model=self._options.registers_model,
            inputs=() if run is None else tuple(data_inputs(data, name=config.dataset)),
        )


def _first_step(previous: Checkpoint | None, attempt: Attempt | None, data: DataModule) -> int | None:
    """Return the first step that may have been logged before, in samples seen; None for a new run."""
    if previous is None:
        return None if attempt is None else 0
    # Metrics of a pass that was complete at the interrupt are logged again.
    is_pass_complete = previous.progress.num_batches == data.num_training_batches
    return previous.num_samples_seen + (0 if is_pass_complete else 1)


class LunaMalignantClassificationLauncher(LunaClassificationLauncher):
    """Trains classifiers of malignant nodules against benign ones and other candidates."""

    recipe: ClassVar[str] = "malignancy_baseline"
