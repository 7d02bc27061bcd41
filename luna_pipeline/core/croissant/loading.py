"""Reads a Croissant description back with mlcroissant, which compares each file that it reads with its SHA-256."""

import logging
from pathlib import Path
from typing import Any

import pandas as pd


def check_croissant(path: Path) -> list[str]:
    """Validate a description.

    Returns:
        Warnings of mlcroissant, a line each.

    Raises:
        ValueError: If mlcroissant finds an error.
    """
    return [str(line) for line in _loaded(path).metadata.ctx.issues.warnings]


def read_records(path: Path, record_set: str) -> pd.DataFrame:
    """Return the records of a description as a table.

    Args:
        path: The description; its files lie where it says.
        record_set: ``candidates``, ``folds``, ``splits`` or ``cutout_files``.

    Raises:
        ValueError: If the description is invalid, has no such records, or a file has changed since.
    """
    import mlcroissant as mlc

    data_set = _loaded(path)
    try:
        rows = list(data_set.records(record_set))
    except (mlc.ValidationError, mlc.GenerationError, ValueError) as error:
        raise ValueError(_message(path, f"{error}: {error.__cause__}" if error.__cause__ else str(error))) from error
    prefix = f"{record_set}/"
    return pd.DataFrame([{key.removeprefix(prefix): _text(value) for key, value in row.items()} for row in rows])


def _loaded(path: Path) -> Any:
    import mlcroissant as mlc

    # It also logs the warnings that it returns.
    logging.getLogger("absl").setLevel(logging.ERROR)
    try:
        return mlc.Dataset(jsonld=path)
    # For JSON of another kind mlcroissant raises AssertionError, KeyError and others.
    except Exception as error:
        raise ValueError(_message(path, f"{error}" or type(error).__name__)) from error


def _message(path: Path, text: str) -> str:
    got = " ".join(text.split())[:400]
    return f"A Croissant description must match its files, got: {got} ({path.name}). Run `luna export_croissant` again."


def _text(value: Any) -> Any:
    """Return text for the bytes that mlcroissant gives."""
    return value.decode() if isinstance(value, bytes) else value
