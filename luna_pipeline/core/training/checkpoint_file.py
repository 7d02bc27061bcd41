"""A checkpoint file: everything needed to use, evaluate and resume a run, without code.

Format: ``torch.save`` of plain values and tensors (read with ``weights_only=True``), ``format`` and ``format_version``
first, then the entries of `Checkpoint`.
"""

import io
import math
import pickle
import zipfile
from dataclasses import dataclass, field, fields
from typing import Any

import torch

from luna_pipeline.core.metrics.decision import UNDECIDED, Decision
from luna_pipeline.core.models.base import BEGINNING, EpochProgress, SplitResult
from luna_pipeline.core.storage.files import AnyPath, read_bytes, written_atomically
from luna_pipeline.core.training.config import TrainingConfig

FORMAT = "luna_pipeline checkpoint"
FORMAT_VERSION = 3


class CheckpointError(ValueError):
    """A file that is not a usable checkpoint, or weights that do not fit the network."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Checkpoint:
    """State of a run after an epoch, or after a training step within one.

    Attributes:
        name: Name of the trained model: ``nodule_classifier``.
        version: Version of the run, the name of its folder.
        config: Complete configuration of the run.
        model_state: Weights and running statistics of the network, on the CPU, without a wrapper's prefix.
        optimizer_state: State of the optimizer.
        scheduler_state: State of the learning rate scheduler.
        epoch: Last finished epoch, from 1; 0 before the first.
        progress: Progress of the epoch after it.
        num_samples_seen: Training samples seen so far.
        best_score: Best validation AUC so far; nan before the first.
        epochs_without_rise: Validated epochs since the best one.
        rng_state: State of torch's random number generators, by process and device.
        training_series: Series of the training data, sorted.
        validation_series: Series of the validation data, which choose weights and decision, sorted.
        training_candidate_ids: Candidates of the training data, int64 (N,).
        decision: Threshold on the score, and its calibration to a probability.
        training_seconds: Wall seconds of all epochs so far, over all attempts; those of the whole run in the chosen
            checkpoint; nan if not measured.
        inherited_training_series: Series on which the initial weights were trained, sorted.
        inherited_validation_series: Series that chose the initial weights, sorted.
        data_fingerprint: Identity of the training and validation data.
        has_unknown_origin: Whether the weights, or the initial ones, were trained elsewhere on unknown data.
        mlflow_run_id: The run in MLflow; None where there is none.
        notes: Sentences for users of the weights; may be empty.
    """

    name: str
    version: str
    config: TrainingConfig
    model_state: dict[str, torch.Tensor]
    optimizer_state: dict[str, Any]
    scheduler_state: dict[str, Any]
    epoch: int
    num_samples_seen: int
    best_score: float
    rng_state: dict[str, torch.Tensor]
    training_series: list[str]
    validation_series: list[str]
    training_candidate_ids: torch.Tensor
    data_fingerprint: str
    progress: EpochProgress = BEGINNING
    decision: Decision = UNDECIDED
    training_seconds: float = math.nan
    epochs_without_rise: int = 0
    inherited_training_series: list[str] = field(default_factory=list)
    inherited_validation_series: list[str] = field(default_factory=list)
    has_unknown_origin: bool = False
    mlflow_run_id: str | None = None
    notes: str = ""

    @property
    def threshold(self) -> float:
        """Lowest score at which a candidate is classified as a nodule (or as malignant)."""
        return self.decision.threshold


def save_checkpoint(path: AnyPath, checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically."""
    entries = {entry.name: getattr(checkpoint, entry.name) for entry in fields(checkpoint)}
    entries["config"] = checkpoint.config.to_dict()
    entries["decision"] = checkpoint.decision.to_dict()
    entries["progress"] = _plain_progress(checkpoint.progress)
    with written_atomically(path) as file:
        torch.save({"format": FORMAT, "format_version": FORMAT_VERSION, **entries}, file)


def load_checkpoint(path: AnyPath) -> Checkpoint:
    """Return a checkpoint with all tensors on the CPU; code in the file is not run.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointError: If it is not a checkpoint, damaged, of another format version or has other entries.
    """
    # Read once: the checked bytes are loaded, even if the file is replaced meanwhile.
    file = io.BytesIO(_content(path))
    _check_is_whole(file, path)
    file.seek(0)
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise _not_a_checkpoint(path, "a file that torch cannot read without running its code") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise _not_a_checkpoint(path, "a file of another kind")
    version = content.pop("format_version", None)
    if version == 2:
        content = _as_format_3(content)
    elif version != FORMAT_VERSION:
        msg = f"The checkpoint's format version must be 2 or {FORMAT_VERSION}, got {version} ({path})."
        raise CheckpointError(f"{msg} Use the luna_pipeline that wrote it, or train again.")
    del content["format"]
    return _from_entries(path, content)


def load_weights(module: torch.nn.Module, model_state: dict[str, torch.Tensor], *, origin: str) -> None:
    """Load weights into a network; ``origin`` names their source in the error message.

    Raises:
        CheckpointError: If a name is missing or unknown or a shape differs. The network is then unchanged.
    """
    expected = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    got = {name: tuple(value.shape) for name, value in model_state.items()}
    differing = sorted(name for name in expected.keys() | got.keys() if expected.get(name) != got.get(name))
    if differing:
        name = differing[0]
        msg = (
            f"Weights must fit the network, got {got.get(name, 'none')} for {name} of shape "
            f"{expected.get(name, 'none')}, and {len(differing) - 1} other differences ({origin}). "
            "Build the network from the checkpoint's own configuration, or choose another checkpoint."
        )
        raise CheckpointError(msg)
    module.load_state_dict(model_state, strict=True)


def _content(path: AnyPath) -> bytes:
    try:
        return read_bytes(path)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        msg = f"The checkpoint must exist, got no file {path.name} (folder {path.parent}). Train, or check the path."
        raise FileNotFoundError(msg) from error


def _check_is_whole(file: io.BytesIO, path: AnyPath) -> None:
    is_zip = zipfile.is_zipfile(file)
    if not is_zip and not b"PK\x03\x04".startswith(file.getbuffer()[:4].tobytes()):
        raise _not_a_checkpoint(path, "a file of another kind")
    damaged = _first_damaged_member(file) if is_zip else "the end"
    if damaged:
        size = file.getbuffer().nbytes
        msg = f"The checkpoint must be whole, got {size} bytes with {damaged} missing or damaged ({path})."
        raise CheckpointError(f"{msg} Copy it again, or use another checkpoint of the run.")


def _first_damaged_member(file: io.BytesIO) -> str | None:
    """Return the first part whose checksum is wrong; torch writes checksums but does not check them."""
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.testzip()
    except zipfile.BadZipFile:
        return "a part"


def _not_a_checkpoint(path: AnyPath, got: str) -> CheckpointError:
    msg = f"The file must be a checkpoint of luna_pipeline, got {got} ({path})."
    return CheckpointError(f"{msg} The book's weights are read by `luna import_book_weights`.")


def _as_format_3(entries: dict[str, Any]) -> dict[str, Any]:
    """Convert the entries of format 2, which has a threshold without calibration, and no training seconds."""
    if "threshold" not in entries:
        return entries
    threshold = entries.pop("threshold")
    # Imported weights have no training series, and a run that starts with them inherits none.
    begins_elsewhere = bool(entries["config"]["start"]["name"]) and not entries["inherited_training_series"]
    return {
        **entries,
        "decision": Decision.at(threshold).to_dict(),
        "training_seconds": math.nan,
        "has_unknown_origin": not entries["training_series"] or begins_elsewhere,
    }


def _from_entries(path: AnyPath, entries: dict[str, Any]) -> Checkpoint:
    expected = {entry.name for entry in fields(Checkpoint)}
    if set(entries) != expected:
        differing = sorted(expected ^ set(entries))
        msg = f"A checkpoint must hold the entries of its format, got other {', '.join(differing)} ({path})."
        raise CheckpointError(f"{msg} Use the luna_pipeline that wrote it, or train again.")
    try:
        config = TrainingConfig.from_dict(entries["config"])
        decision = Decision.from_dict(entries["decision"])
    except (ValueError, TypeError) as error:
        msg = f"The checkpoint's configuration and decision must be readable, got: {error} ({path})."
        raise CheckpointError(f"{msg} Use the luna_pipeline that wrote it, or train again.") from error
    return Checkpoint(**{**entries, "config": config, "decision": decision, "progress": _progress(entries["progress"])})


def _plain_progress(progress: EpochProgress) -> dict[str, Any]:
    result = progress.result
    samples = {} if result is None else {entry.name: getattr(result, entry.name) for entry in fields(result)}
    tensors = {name: torch.from_numpy(values) for name, values in samples.items()}
    return {"num_batches": progress.num_batches, "samples": tensors}


def _progress(entries: dict[str, Any]) -> EpochProgress:
    samples = {name: values.numpy() for name, values in entries["samples"].items()}
    return EpochProgress(entries["num_batches"], SplitResult(**samples) if samples else None)
