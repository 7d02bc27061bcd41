"""Checks of configuration values, with one-line error messages."""

import math
from dataclasses import fields, is_dataclass
from typing import Any


def check_integer(name: str, value: object, *, at_least: int, at_most: int | None = None) -> None:
    """Raise if a value is not an integer in a range.

    Args:
        name: Name of the value in the message.
        value: The value.
        at_least: Smallest allowed value.
        at_most: Largest allowed value; None for no limit.

    Raises:
        TypeError: If ``value`` is not an ``int``, or a ``bool``.
        ValueError: If it is out of range.
    """
    bounds = f"at least {at_least}" if at_most is None else f"from {at_least} to {at_most}"
    if isinstance(value, bool) or not isinstance(value, int):
        msg = f"{name} must be a whole number {bounds}, got {value!r}. Give an int."
        raise TypeError(msg)
    if value < at_least or (at_most is not None and value > at_most):
        msg = f"{name} must be {bounds}, got {value}. Change {name}."
        raise ValueError(msg)


def check_number(name: str, value: object, interval: str) -> None:
    """Raise if a value is not a finite number in an interval.

    Args:
        name: Name of the value in the message.
        value: The value.
        interval: Such as ``"[0, 1)"`` or ``"(0, inf)"``; a square bracket includes its end.

    Raises:
        TypeError: If ``value`` is not a number.
        ValueError: If it is not finite or outside.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        msg = f"{name} must be a number in {interval}, got {value!r}. Give a float."
        raise TypeError(msg)
    low, high = (float(end) for end in interval[1:-1].split(","))
    is_above = value >= low if interval[0] == "[" else value > low
    is_below = value <= high if interval[-1] == "]" else value < high
    if not (math.isfinite(value) and is_above and is_below):
        msg = f"{name} must be in {interval}, got {value}. Change {name}."
        raise ValueError(msg)


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Raise ValueError if ``value`` is none of ``choices``."""
    if value not in choices:
        msg = f"{name} must be one of {', '.join(choices)}, got {value!r}. Choose one of them."
        raise ValueError(msg)


def check_flag(name: str, value: object) -> None:
    """Raise TypeError if ``value`` is not a bool."""
    if not isinstance(value, bool):
        msg = f"{name} must be True or False, got {value!r}. Choose one of them."
        raise TypeError(msg)


def check_text(name: str, value: object) -> None:
    """Raise TypeError if ``value`` is not a str."""
    if not isinstance(value, str):
        msg = f"{name} must be a text, got {value!r}. Put it into quotation marks."
        raise TypeError(msg)


def check_tuple(name: str, value: object, what: str, *, example: str) -> None:
    """Raise TypeError if ``value`` is not a tuple; ``what`` it holds, such as ``two numbers``, is for the message."""
    if not isinstance(value, tuple):
        msg = f"{name} must be {what}, got {value!r}. Write {example}."
        raise TypeError(msg)


def check_parts(config: Any, place: str = "") -> None:
    """Raise if a plain value is in place of a part of a configuration.

    Args:
        config: A dataclass, some of whose fields are dataclasses by default.
        place: Path of the configuration with its dot, such as ``augmentation.``.

    Raises:
        TypeError: If such a field is no dataclass.
    """
    for entry in fields(config):
        default = entry.default_factory() if callable(entry.default_factory) else None
        if is_dataclass(default) and not is_dataclass(getattr(config, entry.name)):
            own = f"{place}{entry.name}"
            msg = f"{own} must be a part of the configuration, got {getattr(config, entry.name)!r}."
            raise TypeError(f"{msg} Name one of its values, such as {own}.{fields(default)[0].name}.")
