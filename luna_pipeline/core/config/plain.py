"""Conversion of configurations from and to plain values, as in JSON, checkpoints and Dagster's launchpad."""

import difflib
import types
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

ConfigT = TypeVar("ConfigT")


def from_plain(config_type: type[ConfigT], values: Mapping[str, Any], place: str) -> ConfigT:
    """Return the configuration described by nested plain values.

    Args:
        config_type: A dataclass of plain values, tuples and other such dataclasses.
        values: A value for each field.
        place: Name of the configuration in messages.

    Raises:
        ValueError: If a field is missing or unknown, or a value is outside its range.
        TypeError: If a value is of the wrong kind.
    """
    kinds = get_type_hints(config_type)
    if not isinstance(values, Mapping) or set(values) != set(kinds):
        msg = f"The {place} must hold {sorted(kinds)}, got {_differences(set(kinds), values)}."
        raise ValueError(f"{msg} Use the version that wrote it.")
    return config_type(**{name: _value(kinds[name], value, f"{place}'s {name}") for name, value in values.items()})


def _differences(expected: set[str], values: object) -> str:
    if not isinstance(values, Mapping):
        return f"{values!r:.80}"
    missing, unknown = (sorted(map(str, names)) for names in (expected - set(values), set(values) - expected))
    parts = {"no": missing, "unknown": unknown}
    text = " and ".join(f"{word} {', '.join(names):.200}" for word, names in parts.items() if names)
    hint = nearest(unknown[0], missing) if unknown else None
    return text if hint is None else f"{text} (did you mean {hint}?)"


def nearest(place: str, known: Iterable[str]) -> str | None:
    """Return the known path that is most like a misspelled one, or one that ends in it; None if there is none."""
    known, (parent, _, end) = list(known), place.rpartition(".")
    siblings = {path.rpartition(".")[2]: path for path in known if path.rpartition(".")[0] == parent}
    if similar := difflib.get_close_matches(end, siblings, n=1):
        return siblings[similar[0]]
    if similar := difflib.get_close_matches(place, known, n=1, cutoff=0.8):
        return similar[0]
    ends = {path.rpartition(".")[2]: path for path in reversed(known)}
    similar = difflib.get_close_matches(end, ends, n=1, cutoff=0.75)
    return ends[similar[0]] if similar else None


def flat_items(config: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """Return (path, value) of each value, such as ``network.dropout_rate``."""
    items: list[tuple[str, Any]] = []
    for entry in fields(config):
        value = getattr(config, entry.name)
        if is_dataclass(value):
            items += flat_items(value, f"{prefix}{entry.name}.")
        else:
            items.append((f"{prefix}{entry.name}", value))
    return items


def with_floats(value: Any) -> Any:
    """Return the values with integers as floats, so that 1 and 1.0 are written equally."""
    if isinstance(value, dict):
        return {key: with_floats(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [with_floats(entry) for entry in value]
    return float(value) if isinstance(value, int) else value


def changed(config: ConfigT, changes: Mapping[str, Any]) -> ConfigT:
    """Return a configuration with some values replaced, each named by its path.

    Args:
        config: The configuration.
        changes: ``{"num_epochs": 5, "network.dropout_rate": 0.4}``.

    Raises:
        ValueError: If there is no such path, or a value is outside its range.
        TypeError: If a value is of the wrong kind.
    """
    return _changed(config, changes, prefix="", known=[place for place, _ in flat_items(config)])


def _changed(config: ConfigT, changes: Mapping[str, Any], *, prefix: str, known: list[str]) -> ConfigT:
    values = {entry.name: getattr(config, entry.name) for entry in fields(config)}  # type: ignore[arg-type]
    nested: dict[str, dict[str, Any]] = {}
    for place, value in changes.items():
        name, has_dot, rest = place.partition(".")
        if name not in values or (has_dot and not (rest and is_dataclass(values[name]))):
            names = [f"{prefix}{each}" for each in sorted(values)]
            msg = f"A configuration's value must be one of {', '.join(names)}, got {prefix + place!r}."
            hint = nearest(prefix + place, [*names, *known])
            raise ValueError(f"{msg} {f'Did you mean {hint!r}?' if hint else 'See `TrainingConfig`.'}")
        if rest:
            nested.setdefault(name, {})[rest] = value
        else:
            values[name] = with_tuples(value)
    parts = {
        name: _changed(values[name], inner, prefix=f"{prefix}{name}.", known=known) for name, inner in nested.items()
    }
    return type(config)(**{**values, **parts})


def _value(kind: Any, value: Any, place: str) -> Any:
    if is_dataclass(kind):
        return from_plain(kind, value, place)  # type: ignore[arg-type]
    if get_origin(kind) in (Union, types.UnionType) and isinstance(value, Mapping):
        members = [member for member in get_args(kind) if is_dataclass(member)]
        if not members:
            raise TypeError(f"{place} must be a single value, got {dict(value)!r}. Take the braces out.")
        return from_plain(_member(members, value), value, place)
    return with_tuples(value)


def _member(members: list[Any], value: Mapping[str, Any]) -> Any:
    """Return the configuration type with these fields; otherwise the first, which raises the error."""
    return next((member for member in members if {f.name for f in fields(member)} == set(value)), members[0])


def with_tuples(value: Any) -> Any:
    """Return a value with lists, as JSON has them, as tuples."""
    return tuple(with_tuples(entry) for entry in value) if isinstance(value, list | tuple) else value
