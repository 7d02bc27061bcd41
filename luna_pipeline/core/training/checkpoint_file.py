"""A checkpoint file: everything needed to use, evaluate and resume a run, without code.

Format: ``torch.save`` of plain values and tensors (read with ``weights_only=True``), ``format`` and ``format_version``
first, then the entries of `Checkpoint`. A file is a zip of unpacked members; what it announces is compared with its
length, and its values with what such a file can hold, before anything is made of them.
"""

import errno
import io
import math
import zipfile
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import IO, Any, BinaryIO

import torch

from luna_pipeline.core.config.byte_limits import byte_limit
from luna_pipeline.core.metrics.decision import UNDECIDED, Decision
from luna_pipeline.core.models.base import BEGINNING, EpochProgress, SplitResult
from luna_pipeline.core.models.finite import check_state
from luna_pipeline.core.models.segmentation_result import SegmentationResult
from luna_pipeline.core.networks.wrapped_names import wrapper_of
from luna_pipeline.core.storage.files import AnyPath, read_bytes, written_atomically
from luna_pipeline.core.storage.regular_files import NotRegularFileError, open_regular
from luna_pipeline.core.storage.zip_limits import zip_problem
from luna_pipeline.core.training.checkpoint_entries import entry_problem, size_problem
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
        best_score: Best validation score so far (AUC, in segmentation ``crop_dice``); nan before the first.
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
    """Write a checkpoint atomically.

    Raises:
        NonFiniteError: If weights or the state of the optimizer hold nan; an existing file stays as it is.
        OSError: If it cannot be written; a full disk is ``ENOSPC`` with the path.
    """
    with written_atomically(path) as file:
        write_checkpoint(file, checkpoint)


def write_checkpoint(file: IO[bytes], checkpoint: Checkpoint) -> None:
    """Write a checkpoint into an open file; errors are those of ``save_checkpoint``."""
    check_state(checkpoint.model_state, checkpoint.optimizer_state, where=f"epoch {checkpoint.epoch}")
    entries = {entry.name: getattr(checkpoint, entry.name) for entry in fields(checkpoint)}
    entries["config"] = checkpoint.config.to_dict()
    entries["decision"] = checkpoint.decision.to_dict()
    entries["progress"] = _plain_progress(checkpoint.progress)
    kept = _ErrorKeepingFile(file)
    try:
        torch.save({"format": FORMAT, "format_version": FORMAT_VERSION, **entries}, kept)  # type: ignore[arg-type]
    except RuntimeError:
        # torch's zip writer replaces an error of the file, such as a full disk, by its own.
        if kept.error is None:
            raise
        raise kept.error from None


class _ErrorKeepingFile:
    """A file for ``torch.save`` that remembers the error of a write."""

    def __init__(self, file: IO[bytes]) -> None:
        self.error: OSError | None = None
        self._file = file

    def write(self, content: bytes) -> int:
        try:
            return self._file.write(content)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()


def load_checkpoint(path: AnyPath) -> Checkpoint:
    """Return a checkpoint with all tensors on the CPU; code in the file is not run.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointError: If it is not a checkpoint, damaged, of another format version or has other entries.
    """
    # Read once: the checked bytes are loaded, even if the file is replaced meanwhile.
    return read_checkpoint(_content(path), path)


def read_checkpoint(file: io.BytesIO, path: AnyPath) -> Checkpoint:
    """Return the checkpoint of a file's content; ``path`` names it in errors, see ``load_checkpoint``."""
    _check_is_whole(file, path)
    num_bytes = file.seek(0, io.SEEK_END)
    file.seek(0)
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    # Bytes that were made to look like a checkpoint raise errors of any kind in torch.
    except Exception as error:
        got = f"a file that torch cannot read without running its code ({type(error).__name__})"
        raise _not_a_checkpoint(path, got) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise _not_a_checkpoint(path, "a file of another kind")
    if problem := size_problem(content, num_bytes):
        raise _refused(path, problem)
    version = content.pop("format_version", None)
    if version == 2:
        content = _as_format_3(content)
    elif version != FORMAT_VERSION:
        msg = f"The checkpoint's format version must be 2 or {FORMAT_VERSION}, got {version!r:.80} ({path})."
        raise CheckpointError(f"{msg} Use the luna_pipeline that wrote it, or train again.")
    del content["format"]
    return _from_entries(path, content)


def max_checkpoint_bytes() -> int:
    """Return the largest length of a checkpoint that is read: 2 GiB, or that of ``LUNA_MAX_CHECKPOINT_GIB``.

    Raises:
        ValueError: If the variable is no positive number.
    """
    return byte_limit("LUNA_MAX_CHECKPOINT_GIB", default=2.0)


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
        advice = "Build the network from the checkpoint's own configuration, or choose another checkpoint."
        msg = (
            f"Weights must fit the network, got {got.get(name, 'none')} for {name} of shape "
            f"{expected.get(name, 'none')}, and {len(differing) - 1} other differences ({origin}). "
            f"{wrapper_of(got) or advice}"
        )
        raise CheckpointError(msg)
    module.load_state_dict(model_state, strict=True)


def _content(path: AnyPath) -> io.BytesIO:
    try:
        if not isinstance(path, Path):
            return io.BytesIO(read_bytes(path))
        with open_regular(path) as file:
            _check_is_zip(file, path)
            file.seek(0)
            return io.BytesIO(file.read(max_checkpoint_bytes()))
    except NotRegularFileError as error:
        raise _not_a_checkpoint(path, str(error)) from error
    except (FileNotFoundError, NotADirectoryError) as error:
        msg = f"The checkpoint must exist, got no file {path.name} (folder {path.parent}). Train, or check the path."
        raise FileNotFoundError(msg) from error
    except OSError as error:
        # A path of the operating system, such as a link to a process's memory.
        if error.errno in {errno.EINVAL, errno.EIO}:
            raise _not_a_checkpoint(path, str(error.strerror)) from error
        raise


def _check_is_zip(file: BinaryIO, path: AnyPath) -> None:
    """Refuse a file of another kind, length or directory before it is read."""
    file.seek(0)
    if not b"PK\x03\x04".startswith(file.read(4)):
        raise _not_a_checkpoint(path, "a file of another kind")
    num_bytes, limit = file.seek(0, io.SEEK_END), max_checkpoint_bytes()
    if num_bytes > limit:
        msg = f"The checkpoint must have at most {limit / (1 << 30):g} GiB, got {num_bytes} bytes ({path})."
        raise CheckpointError(f"{msg} If it is one, set LUNA_MAX_CHECKPOINT_GIB to more.")
    if problem := zip_problem(file):
        raise _damaged(path, problem)


def _check_is_whole(file: io.BytesIO, path: AnyPath) -> None:
    _check_is_zip(file, path)
    if damaged := _first_damaged_member(file):
        raise _damaged(path, f"{file.getbuffer().nbytes} bytes with {damaged} missing or damaged")


def _damaged(path: AnyPath, got: str) -> CheckpointError:
    msg = f"The checkpoint must be whole, got {got} ({path})."
    return CheckpointError(f"{msg} Copy it again, or use another checkpoint of the run.")


def _refused(path: AnyPath, problem: str) -> CheckpointError:
    msg = f"A checkpoint must hold {problem} ({path})."
    return CheckpointError(f"{msg} Use the luna_pipeline that wrote it, or train again.")


def _first_damaged_member(file: io.BytesIO) -> str | None:
    """Return the first part whose checksum is wrong; torch writes checksums but does not check them."""
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.testzip()
    # zipfile raises many kinds of errors for damaged local headers.
    except Exception:
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
    config = entries.get("config")
    start = config.get("start") if isinstance(config, dict) else None
    is_continued = isinstance(start, dict) and bool(start.get("name"))
    begins_elsewhere = is_continued and not entries.get("inherited_training_series")
    return {
        **entries,
        "decision": Decision.at(threshold).to_dict(),
        "training_seconds": math.nan,
        "has_unknown_origin": not entries.get("training_series") or begins_elsewhere,
    }


def _from_entries(path: AnyPath, entries: dict[str, Any]) -> Checkpoint:
    expected = {entry.name for entry in fields(Checkpoint)}
    if set(entries) != expected:
        differing = sorted(map(str, expected ^ set(entries)))
        raise _refused(path, f"the entries of its format, got other {', '.join(differing)}")
    if problem := entry_problem(entries):
        raise _refused(path, problem)
    try:
        config = TrainingConfig.from_dict(entries["config"])
        decision = Decision.from_dict(entries["decision"])
        progress = _progress(entries["progress"])
    # Values of another kind than any that was ever written raise errors of any kind.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        msg = f"The checkpoint's configuration and decision must be readable, got: {reason} ({path})."
        raise CheckpointError(f"{msg} Use the luna_pipeline that wrote it, or train again.") from error
    return Checkpoint(**{**entries, "config": config, "decision": decision, "progress": progress})


def _plain_progress(progress: EpochProgress) -> dict[str, Any]:
    result = progress.result
    samples = {} if result is None else {entry.name: getattr(result, entry.name) for entry in fields(result)}
    tensors = {name: torch.from_numpy(values) for name, values in samples.items()}
    return {"num_batches": progress.num_batches, "samples": tensors}


def _progress(entries: dict[str, Any]) -> EpochProgress:
    samples = {name: values.numpy() for name, values in entries["samples"].items()}
    # Results of segmentation have more values than those of candidates.
    kinds: tuple[type[SplitResult], ...] = (SplitResult, SegmentationResult)
    kind = next((kind for kind in kinds if {entry.name for entry in fields(kind)} == set(samples)), SplitResult)
    return EpochProgress(entries["num_batches"], kind(**samples) if samples else None)
