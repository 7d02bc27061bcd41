"""Checks of what a registered part gives: tensors, and states that a checkpoint can hold."""

import contextlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

ADVICE = "Fix it, see docs/how_to/extend.md."
_MAX_REASON = 300
# Types of which a checkpoint's states consist. Subclasses, such as numpy's float64, are read by code only.
_PLAIN = {type(None), bool, int, float, str, bytes}
_CONTAINERS = (dict, list, tuple, set)


class PartError(ValueError):
    """A registered part of a run that does not give what training needs of it."""


@dataclass(frozen=True)
class Part:
    """A part of a run by its kind and registered name: ``loss "smoothed"``."""

    kind: str
    name: str

    def error(self, rule: str, got: str) -> PartError:
        """Return the error of a broken rule."""
        return PartError(f'{rule}, got {got} ({self.kind} "{self.name}"). {ADVICE}')

    @contextlib.contextmanager
    def running(self, rule: str) -> Iterator[None]:
        """Turn an error within into a PartError; for want of memory or files it is the machine's and stays."""
        try:
            yield
        except (PartError, MemoryError, torch.OutOfMemoryError, OSError):
            raise
        except Exception as error:
            reason = " ".join(str(error).split())[:_MAX_REASON]
            raise self.error(rule, f"{type(error).__name__}: {reason}") from error

    def check_tensor(
        self, rule: str, value: object, *, shape: tuple[int, ...], device: torch.device, dtype: torch.dtype
    ) -> torch.Tensor:
        """Return a tensor of this shape, type and device without nan or infinity; anything else is a PartError."""
        if not isinstance(value, torch.Tensor):
            raise self.error(rule, f"a {type(value).__name__}")
        wanted, got = (dtype, shape), (value.dtype, tuple(value.shape))
        if wanted != got:
            raise self.error(rule, f"{described(value)}")
        if value.device.type != device.type:
            raise self.error(f"{rule} on {device.type}", f"a tensor on {value.device}")
        if not bool(value.isfinite().all()):
            raise self.error(f"{rule} that are finite", str(value[~value.isfinite()][0].item()))
        return value

    def stored(self, state: object, what: str) -> Any:
        """Return a state as it is read back from a checkpoint, without code."""
        rule = f"The {what}'s state must hold plain values and tensors"
        if (place := _first_other_value(state, "state")) is not None:
            raise self.error(rule, place)
        file = io.BytesIO()
        with self.running(rule):
            torch.save(state, file)
        file.seek(0)
        try:
            return torch.load(file, map_location="cpu", weights_only=True)
        # Its errors have many lines, of advice to run the code.
        except Exception as error:
            raise self.error(rule, "values that are read by running code only") from error


def described(tensor: torch.Tensor) -> str:
    """Return type and shape of a tensor: ``float32 (5, 1)``."""
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def are_equal(one: Any, other: Any) -> bool:
    """Return whether two states are equal to the last bit, wherever their tensors are."""
    if isinstance(one, torch.Tensor) or isinstance(other, torch.Tensor):
        both = isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor)
        return both and one.dtype == other.dtype and torch.equal(one.cpu(), other.cpu())
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(are_equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(are_equal, one, other))
    return bool(one == other) or bool(one != one and other != other)  # noqa: PLR0124


def _first_other_value(value: object, path: str) -> str | None:
    """Return place and type of the first value that is neither plain nor a tensor, None if there is none."""
    if type(value) in _PLAIN or isinstance(value, torch.Tensor | torch.Size | torch.dtype | torch.device):
        return None
    if not isinstance(value, _CONTAINERS):
        return f"{type(value).__module__}.{type(value).__qualname__} in {path}"
    entries = value.items() if isinstance(value, dict) else enumerate(value)
    for key, entry in entries:
        found = _first_other_value(key, path) or _first_other_value(entry, f"{path}[{key!r}]")
        if found is not None:
            return found
    return None
