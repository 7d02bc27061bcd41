"""What one value of a configuration may be in a search, as typed values."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from luna_pipeline.core.ranges import check_integer, check_number
from luna_pipeline.core.training.plain import with_tuples

ANY_NUMBER = "(-inf, inf)"


@dataclass(frozen=True, slots=True)
class Choices:
    """One of some values, each as likely as the others.

    Attributes:
        values: At least one, each plain: a number, a word, True or False, None, or a tuple of these.
    """

    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        if not self.values:
            msg = "Choices must hold at least one value, got none. Leave the place out of the search."
            raise ValueError(msg)
        texts = [repr(value) for value in self.values]
        if twice := sorted({text for text in texts if texts.count(text) > 1}):
            msg = f"Choices must hold each value once, got {twice[0]} twice. Leave one out."
            raise ValueError(msg)

    def sample(self, random: np.random.Generator) -> Any:
        """Draw a value."""
        return self.values[int(random.integers(len(self.values)))]

    def extremes(self) -> tuple[Any, ...]:
        """Return the values that must all be allowed for every value to be."""
        return self.values

    def holds(self, value: Any) -> bool:
        """Say whether a value is one of them."""
        return value in self.values

    def grid(self) -> tuple[Any, ...]:
        """Return all values in their order."""
        return self.values


@dataclass(frozen=True, slots=True)
class Integers:
    """A whole number from ``low`` to ``high``, both included, each as likely as the others."""

    low: int
    high: int

    def __post_init__(self) -> None:
        check_integer("integers' low end", self.low, at_least=-(2**53), at_most=2**53)
        check_integer("integers' high end", self.high, at_least=-(2**53), at_most=2**53)
        _check_order(self.low, self.high)

    def sample(self, random: np.random.Generator) -> int:
        """Draw a value."""
        return int(random.integers(self.low, self.high, endpoint=True))

    def holds(self, value: Any) -> bool:
        """Say whether a value is one of them; None, which stands for no limit in some places, is not."""
        return isinstance(value, int) and self.low <= value <= self.high

    def extremes(self) -> tuple[int, ...]:
        """Return both ends."""
        return (self.low, self.high)

    def grid(self) -> Sequence[int]:
        """Return all values, rising; however many, they take no room."""
        return range(self.low, self.high + 1)


@dataclass(frozen=True, slots=True)
class Uniform:
    """A number from ``low`` to ``high``, each as likely as the others."""

    low: float
    high: float

    def __post_init__(self) -> None:
        check_number("uniform's low end", self.low, ANY_NUMBER)
        check_number("uniform's high end", self.high, ANY_NUMBER)
        _check_order(self.low, self.high)

    def sample(self, random: np.random.Generator) -> float:
        """Draw a value."""
        return float(random.uniform(self.low, self.high))

    def holds(self, value: Any) -> bool:
        """Say whether a value lies within; None, which stands for no limit in some places, does not."""
        return isinstance(value, int | float) and self.low <= value <= self.high

    def extremes(self) -> tuple[float, ...]:
        """Return both ends, as numbers that need not be whole: none between them is."""
        return (float(self.low), float(self.high))


@dataclass(frozen=True, slots=True)
class LogUniform:
    """A positive number from ``low`` to ``high`` whose logarithm is uniform: each order of magnitude as likely."""

    low: float
    high: float

    def __post_init__(self) -> None:
        check_number("log_uniform's low end", self.low, "(0, inf)")
        check_number("log_uniform's high end", self.high, "(0, inf)")
        _check_order(self.low, self.high)

    def sample(self, random: np.random.Generator) -> float:
        """Draw a value."""
        drawn = math.exp(random.uniform(math.log(self.low), math.log(self.high)))
        # Rounding may lead past an end.
        return float(min(max(drawn, self.low), self.high))

    def holds(self, value: Any) -> bool:
        """Say whether a value lies within; None, which stands for no limit in some places, does not."""
        return isinstance(value, int | float) and self.low <= value <= self.high

    def extremes(self) -> tuple[float, ...]:
        """Return both ends, as numbers that need not be whole: none between them is."""
        return (float(self.low), float(self.high))


Domain: TypeAlias = Choices | Integers | Uniform | LogUniform
KINDS: Mapping[str, type[Domain]] = {
    "choices": Choices,
    "integers": Integers,
    "uniform": Uniform,
    "log_uniform": LogUniform,
}


def domain_from_plain(place: str, value: Any) -> Domain:
    """Read a domain from its plain form: ``{"log_uniform": [0.0001, 0.01]}``, ``{"choices": [4, 8]}``.

    Args:
        place: What it is the domain of, for messages.
        value: The plain form.

    Raises:
        ValueError: If it is none, or its ends are not allowed.
        TypeError: If an end is of the wrong kind.
    """
    kind, values = next(iter(value.items())) if isinstance(value, Mapping) and len(value) == 1 else ("", None)
    if kind not in KINDS or not isinstance(values, list | tuple):
        msg = f"What is searched must be one of {', '.join(KINDS)} with its values, got {value!r} ({place})."
        raise ValueError(f'{msg} Write {{"choices": [1, 2]}} or {{"uniform": [0, 0.5]}}.')
    if kind != "choices" and len(values) != 2:
        msg = f"A range must have a low and a high end, got {list(values)} ({place}). Give two numbers."
        raise ValueError(msg)
    try:
        domain: Domain = Choices(with_tuples(values)) if kind == "choices" else KINDS[kind](*values)
    except (ValueError, TypeError) as error:
        raise type(error)(f"{error} (search space, {place})") from error
    return domain


def domain_to_plain(domain: Domain) -> dict[str, list[Any]]:
    """Return the plain form of a domain, as ``domain_from_plain`` reads it."""
    kind = next(name for name, kind in KINDS.items() if type(domain) is kind)
    values = domain.values if isinstance(domain, Choices) else (domain.low, domain.high)
    # What is a tuple here, at any depth, is a list there.
    plain: list[Any] = json.loads(json.dumps(values))
    return {kind: plain}


def _check_order(low: float, high: float) -> None:
    if low >= high:
        msg = f"A range's low end must be below its high end, got {low} and {high}. Exchange or part them."
        raise ValueError(msg)
