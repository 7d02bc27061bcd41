"""Dry run: a user's registered parts are tried on three cutouts before the first epoch, within about a second.

Every part is built a second time from the configuration, and all random number generators are restored: the result of
the run is the same to the last bit.
"""

import contextlib
import io
import random
import tempfile
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from luna_pipeline.core.datasets.batch import CutoutBatch
from luna_pipeline.core.datasets.config import DATASETS
from luna_pipeline.core.datasets.data_module import DataModule
from luna_pipeline.core.datasets.sample_set import SampleSet, identity
from luna_pipeline.core.distributed import SINGLE_PROCESS, DistributedContext
from luna_pipeline.core.events.messages import MessageHandler
from luna_pipeline.core.models.base import BaseModel, EpochProgress, EpochResult, ModelState, Signature
from luna_pipeline.core.models.finite import check_number, check_scores
from luna_pipeline.core.models.scoring import on_device
from luna_pipeline.core.networks.config import LOSSES, NETWORKS
from luna_pipeline.core.networks.parts import NUM_CLASSES
from luna_pipeline.core.training.batch_of_one import check_batches_of_one
from luna_pipeline.core.training.building import build_model
from luna_pipeline.core.training.checkpoint_file import read_checkpoint, write_checkpoint
from luna_pipeline.core.training.checkpoint_manager import CheckpointManager
from luna_pipeline.core.training.checkpoints import Checkpoint, CheckpointStore
from luna_pipeline.core.training.config import MODELS, TRAINERS, TrainingConfig
from luna_pipeline.core.training.dry_run_checks import Part, are_equal
from luna_pipeline.core.training.dry_run_masks import check_segmenter
from luna_pipeline.core.training.dry_run_parts import (
    check_export,
    check_loss,
    check_network,
    check_optimizer,
    check_schedule,
)
from luna_pipeline.core.training.parts import OPTIMIZERS, SCHEDULERS
from luna_pipeline.core.training.randomness import fork_rng

# An odd number: of two classes at a score of 0.5 the gradients of an even number may add up to 0.
_NUM_SAMPLES = 3


def has_own_parts(config: TrainingConfig) -> bool:
    """Return whether a user's extension registered a part of a run."""
    names = (
        (DATASETS, config.dataset),
        (NETWORKS, config.network.name),
        (LOSSES, config.loss.name),
        (OPTIMIZERS, config.optimizer.name),
        (SCHEDULERS, config.scheduler.name),
        (MODELS, config.model),
        (TRAINERS, config.trainer),
    )
    return any(registry.is_own(name) for registry, name in names)


def dry_run(
    config: TrainingConfig,
    data: DataModule,
    processes: DistributedContext = SINGLE_PROCESS,
    *,
    is_exported: bool = False,
) -> None:
    """Try the parts of a run, one after the other and then together, if some are a user's own.

    Args:
        config: Configuration of the run.
        data: Its data, of which three training cutouts are read.
        processes: The processes that train together; the first one tries the parts, on its device, and all raise its
            error.
        is_exported: Whether the trained network will be exported for MLflow's registry.

    Raises:
        PartError: If a part does not give what training needs of it.
        ValueError: If a batch holds one sample, and the network's batch norms need more.
    """
    error = None
    if processes.is_first:
        try:
            _try_parts(config, data, processes, is_exported=is_exported)
        except ValueError as found:
            error = found
    # Other processes would fail by the loss of the first one, and their line may be the last.
    if (error := processes.broadcast(error)) is not None:
        raise error


def _try_parts(config: TrainingConfig, data: DataModule, processes: DistributedContext, *, is_exported: bool) -> None:
    # Compiling takes half a minute and gives the same.
    config = replace(config, compute=replace(config.compute, is_compiled=False))
    device = SINGLE_PROCESS.device
    with _rng_restored(config.seed):
        if has_own_parts(config):
            part = Part("data set", config.dataset)
            for samples in (data.training, data.validation):
                if samples is not None:
                    _check_rows(part, samples)
            if config.is_segmentation:
                batch: Any = data.training.__getitems__(_positions(data).tolist())
                network, chunks_hu = check_segmenter(config, batch, device)
            else:
                batch = _batch(part, data)
                chunks_hu, labels = on_device(batch.chunks_hu, device), batch.labels.to(device)
                is_shared = processes.world_size > 1
                network = check_network(config, chunks_hu, labels, needs_all_gradients=is_shared)
                check_loss(config, device)
            num_steps = -(-data.num_training_batches // config.accumulated_batches)
            if is_exported and NETWORKS.is_own(config.network.name):
                check_export(config, network, chunks_hu)
            check_optimizer(config, network)
            check_schedule(config, network, num_steps_per_epoch=num_steps)
            _check_model(config, data, batch)
            if TRAINERS.is_own(config.trainer):
                _check_trainer(config, data, batch)
        check_batches_of_one(config, data, processes)


@contextlib.contextmanager
def _rng_restored(seed: int) -> Iterator[None]:
    of_python, of_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with fork_rng(seed):
            yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)  # noqa: NPY002


def _check_rows(part: Part, samples: SampleSet) -> None:
    num_rows = len(samples.index)
    shapes = {name: np.shape(getattr(samples, name)) for name in ("labels", "groups", "candidate_id")}
    shapes["len()"] = (len(samples),)
    for name, shape in shapes.items():
        if shape != (num_rows,):
            raise part.error(f"A data set must have {name} as long as its index of {num_rows} rows", f"{shape}")
    if len(samples.label_names) != NUM_CLASSES:
        raise part.error("A data set must have two label_names", f"{samples.label_names}")


def _positions(data: DataModule) -> NDArray[np.int64]:
    """Return three rows of training, of both labels if there are both."""
    labels = np.asarray(data.training.labels)
    both = np.concatenate([np.flatnonzero(labels == 1)[:1], np.flatnonzero(labels == 0)[:2]])
    return np.resize(both, _NUM_SAMPLES)


def _batch(part: Part, data: DataModule) -> CutoutBatch:
    """Return three training cutouts of both classes, if there are both."""
    positions = _positions(data)
    shape = (_NUM_SAMPLES, 1, *data.training.chunk_shape_irc)
    rule = f"A data set must give a CutoutBatch of {_NUM_SAMPLES} samples"
    with part.running(rule):
        batch = data.training.__getitems__(positions.tolist())
    if not isinstance(batch, CutoutBatch):
        raise part.error(rule, f"a {type(batch).__name__}")
    host = torch.device("cpu")
    part.check_tensor(
        f"A data set must give chunks_hu float32 {shape}",
        batch.chunks_hu,
        shape=shape,
        device=host,
        dtype=torch.float32,
    )
    for name in ("labels", "candidate_id", "groups", "repeat"):
        values = getattr(batch, name)
        rule = f"A data set must give {name} int64 ({_NUM_SAMPLES},)"
        part.check_tensor(rule, values, shape=(_NUM_SAMPLES,), device=host, dtype=torch.int64)
    if not bool(((batch.labels == 0) | (batch.labels == 1)).all()):
        raise part.error("A data set must give labels 0 and 1", str(batch.labels.tolist()))
    return batch


class _OneBatch(DataModule):
    """The data of a run, of which one batch is trained and validated."""

    def __init__(self, data: DataModule, batch: CutoutBatch) -> None:
        self.__dict__.update(data.__dict__)
        self._batch = batch

    @property
    def num_training_batches(self) -> int:
        return 1

    def get_training_dataloader(self, *, epoch: int = 1, first_batch: int = 0) -> DataLoader[CutoutBatch]:
        batches: Any = [self._batch._replace(chunks_hu=self._batch.chunks_hu.clone())][first_batch:]
        return DataLoader(batches, batch_size=None, collate_fn=identity)

    def get_validation_dataloader(self, *, first_batch: int = 0) -> DataLoader[CutoutBatch] | None:
        return None if self.validation is None else self.get_training_dataloader(first_batch=first_batch)


def _model(part: Part, config: TrainingConfig, data: DataModule) -> BaseModel[Any]:
    with part.running("A model must be built from network, loss, stepper and the other arguments of BaseModel"):
        return build_model(config, handler=MessageHandler({}), num_batches=data.num_training_batches)


def _check_model(config: TrainingConfig, data: DataModule, batch: CutoutBatch) -> None:
    """Train and validate a batch, write and read the checkpoint, and resume from it."""
    part = Part("model", config.model)
    model, one = _model(part, config, data), _OneBatch(data, batch)
    steps: list[int] = []
    with part.running("A model must train and validate an epoch"):
        result = model.fit_epoch(
            1,
            training_loader=one.get_training_dataloader(),
            validation_loader=one.get_validation_dataloader(),
            after_step=lambda number, samples: steps.append(number * len(samples().scores)),
        )
    _check_result(part, result, is_validated=data.validation is not None)
    if steps != [_NUM_SAMPLES]:
        raise part.error("A model must call after_step after each step, with all samples so far", f"{steps} samples")
    with part.running("A model must give the Signature of its network"):
        signature = model.get_signature()
    if not isinstance(signature, Signature):
        raise part.error("A model must give the Signature of its network", f"a {type(signature).__name__}")
    rows: Any = SimpleNamespace(series=[], candidate_id=batch.candidate_id.numpy())
    few: Any = SimpleNamespace(training=rows, validation=None, fingerprint="")
    store, handler = CheckpointStore(Path(tempfile.gettempdir())), MessageHandler({})
    manager = CheckpointManager(config, handler=handler, store=store, processes=SINGLE_PROCESS)
    restored, file = _model(part, config, data), io.BytesIO()
    with part.running("A model's checkpoint must be written and read without code"):
        state = manager.start(model, few, version=config.version, started_from=None)
        write_checkpoint(file, replace(state, progress=EpochProgress(1, result.training)))
        read = read_checkpoint(file, Path("last.pt"))
    with part.running("A model must continue from its checkpoint"):
        manager.resume(restored, read)
        entries = [entry.name for entry in fields(ModelState)]
        was, is_now = ({name: getattr(one, name) for name in entries} for one in (state, restored.get_state()))
    if not are_equal(was, is_now):
        differing = next(name for name in entries if not are_equal(was[name], is_now[name]))
        raise part.error("A model must continue from its checkpoint", f"another {differing}")


def _check_result(part: Part, result: object, *, is_validated: bool) -> None:
    rule = "A model must give an EpochResult" + (" with validation" if is_validated else "")
    if not isinstance(result, EpochResult) or (result.validation is not None) is not is_validated:
        raise part.error(rule, f"a {type(result).__name__}")
    for mode, samples in (("training", result.training), ("validation", result.validation)):
        if samples is None:
            continue
        shapes = {name: np.shape(getattr(samples, name)) for name in ("labels", "scores", "losses", "groups")}
        if set(shapes.values()) != {(_NUM_SAMPLES,)}:
            raise part.error(f"A model must give {mode} values of {_NUM_SAMPLES} samples", f"{shapes}")
        with part.running(f"A model must give {mode} scores and losses"):
            check_scores(samples, mode, where="one batch")
            check_number(f"{mode} loss", samples.loss, where="one batch")


def _check_trainer(config: TrainingConfig, data: DataModule, batch: CutoutBatch) -> None:
    """Let a user's trainer train an epoch, and a run, of one batch; its output and files are discarded."""
    config = replace(config, num_epochs=1)
    part, model = Part("trainer", config.trainer), _model(Part("model", config.model), config, data)
    quiet = contextlib.redirect_stdout(io.StringIO())
    with tempfile.TemporaryDirectory(prefix="luna-dry-run-") as folder, quiet:
        with part.running("A trainer must be built from the arguments of Trainer"):
            trainer = TRAINERS.get(config.trainer)(
                config,
                handler=MessageHandler({}),
                store=CheckpointStore(Path(folder)),
                processes=SINGLE_PROCESS,
                profiler=None,
                seconds_between_checkpoints=1e9,
            )
        rule = "A trainer must train an epoch by fit_epoch(epoch, model, data_module, last=None)"
        with part.running(rule):
            result = trainer.fit_epoch(1, model, _OneBatch(data, batch), last=None)
        if not isinstance(result, EpochResult):
            raise part.error(f"{rule} and return its EpochResult", f"a {type(result).__name__}")
        rule = "A trainer must train a run by fit(model, data_module, version=...)"
        with part.running(rule):
            model = _model(Part("model", config.model), config, data)
            checkpoint = trainer.fit(model, _OneBatch(data, batch), version=config.version)
    if not isinstance(checkpoint, Checkpoint):
        raise part.error(f"{rule} and return its Checkpoint", f"a {type(checkpoint).__name__}")
