"""Checks of the entries that were read from a checkpoint file."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _are_tensors(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in value.items()
    )


def _is_state(value: object) -> bool:
    return isinstance(value, dict)


def _are_ids(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype == torch.int64 and value.ndim == 1


def _is_share_or_nan(value: Any) -> bool:
    return _is_number(value) and (math.isnan(value) or 0 <= value <= 1)


def _is_time_or_nan(value: Any) -> bool:
    return _is_number(value) and (math.isnan(value) or 0 <= value < math.inf)


def _is_progress(value: object) -> bool:
    return (
        isinstance(value, dict)
        and set(value) == {"num_batches", "samples"}
        and _is_count(value["num_batches"])
        and _are_tensors(value["samples"])
    )


_SERIES = (_are_texts, "a list of texts")
_COUNT = (_is_count, "a whole number from 0")
_TEXT = (_is_text, "a text")
_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "name": _TEXT,
    "version": _TEXT,
    "model_state": (_are_tensors, "tensors by name"),
    "optimizer_state": (_is_state, "values by name"),
    "scheduler_state": (_is_state, "values by name"),
    "epoch": _COUNT,
    "num_samples_seen": _COUNT,
    "best_score": (_is_share_or_nan, "a number in [0, 1] or nan"),
    "rng_state": (_are_tensors, "tensors by name"),
    "training_series": _SERIES,
    "validation_series": _SERIES,
    "training_candidate_ids": (_are_ids, "an int64 tensor (N,)"),
    "data_fingerprint": _TEXT,
    "progress": (_is_progress, "a number of batches and tensors of samples"),
    "training_seconds": (_is_time_or_nan, "seconds from 0 or nan"),
    "epochs_without_rise": _COUNT,
    "inherited_training_series": _SERIES,
    "inherited_validation_series": _SERIES,
    "has_unknown_origin": (lambda value: isinstance(value, bool), "True or False"),
    "mlflow_run_id": (lambda value: value is None or isinstance(value, str), "a text or None"),
    "notes": _TEXT,
}
# A checkpoint of 10,000 series has some 20,000 values; a million are counted within a second.
_MAX_DEPTH, _MAX_VALUES = 50, 1_000_000


def entry_problem(entries: Mapping[str, Any]) -> str | None:
    """Return rule and value of the first of a checkpoint's entries of another type or range, None if all are right."""
    for name, (is_right, rule) in _RULES.items():
        if not is_right(entries[name]):
            return f"{name} as {rule}, got {_shown(entries[name])}"
    return None


def size_problem(content: object, num_file_bytes: int) -> str | None:
    """Return why values are more than a file of that length can hold, None if they are not.

    A value that is referred to often takes little room in a file: lists of lists of one list become billions of values
    when they are compared or copied. Tensors can be views of one number.
    """
    left: list[tuple[Any, int]] = [(content, 0)]
    num_values = 0
    while left:
        value, depth = left.pop()
        if isinstance(value, torch.Tensor):
            if problem := _tensor_problem(value, num_file_bytes):
                return f"tensors {problem}"
            continue
        if not isinstance(value, dict | list | tuple):
            continue
        num_values += len(value)
        if num_values > _MAX_VALUES or depth > _MAX_DEPTH:
            return f"at most {_MAX_VALUES} values in {_MAX_DEPTH} levels, got more"
        inner = [*value.keys(), *value.values()] if isinstance(value, dict) else value
        left += ((one, depth + 1) for one in inner)
    return None


def _tensor_problem(tensor: torch.Tensor, num_file_bytes: int) -> str | None:
    if tensor.layout != torch.strided or tensor.device.type != "cpu":
        return f"as dense tensors on the CPU, got {tensor.layout} on {tensor.device}"
    num_bytes = tensor.numel() * tensor.element_size()
    return None if num_bytes <= num_file_bytes else f"with at most the file's bytes, got {tuple(tensor.shape)}"


def _shown(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return f"a tensor {value.dtype} {tuple(value.shape)}"
    return f"{type(value).__name__} of {len(value)}" if isinstance(value, dict | list) else f"{value!r:.80}"
