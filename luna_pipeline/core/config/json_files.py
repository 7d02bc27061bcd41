"""JSON files that users or earlier runs have written, read within limits."""

import json
from pathlib import Path
from typing import Any

from luna_pipeline.core.storage.files import AnyPath, read_bytes
from luna_pipeline.core.storage.regular_files import open_regular

MAX_JSON_BYTES = 16 << 20
"""Largest JSON file that is read; a configuration has about 3,000 bytes."""

_MAX_DEPTH = 50


def read_json_object(path: AnyPath, kind: str, *, advice: str, where: object = None) -> dict[str, Any]:
    """Return the object of a JSON file.

    Args:
        path: A regular file, on a disk or in S3.
        kind: What it holds, for messages: ``A configuration``.
        advice: What to do about it, for messages.
        where: What messages show instead of the path.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no regular file or too large, no UTF-8, no JSON object, or has a key twice.
    """
    shown = where or path
    try:
        content = _limited(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(_message(kind, f"{error.strerror or error}", shown, advice)) from error
    if len(content) > MAX_JSON_BYTES:
        raise ValueError(_message(kind, f"more than {MAX_JSON_BYTES} bytes", shown, advice))
    return json_object(content, kind, where=shown, advice=advice)


def json_object(content: bytes, kind: str, *, where: object, advice: str) -> dict[str, Any]:
    """Return the object in JSON text; ``where`` names its origin. Raises the errors of ``read_json_object``."""
    try:
        value = json.loads(content.decode("utf-8-sig"), object_pairs_hook=_unique)
    except UnicodeDecodeError as error:
        got = f"bytes that are no UTF-8 at byte {error.start}"
        raise ValueError(_message(kind, got, where, advice)) from error
    except RecursionError as error:
        raise ValueError(_message(kind, "values nested too deeply", where, advice)) from error
    except ValueError as error:
        raise ValueError(_message(kind, str(error), where, advice)) from error
    if _is_deep(value):
        raise ValueError(_message(kind, f"values nested in more than {_MAX_DEPTH} levels", where, advice))
    if not isinstance(value, dict):
        got = f"a {type(value).__name__} instead of an object {{...}}"
        raise ValueError(_message(kind, got, where, advice))
    return value


def _limited(path: AnyPath) -> bytes:
    if not isinstance(path, Path):
        return read_bytes(path)
    with open_regular(path) as file:
        return file.read(MAX_JSON_BYTES + 1)


def _is_deep(value: object) -> bool:
    left = [(value, 0)]
    while left:
        one, depth = left.pop()
        if depth > _MAX_DEPTH:
            return True
        if isinstance(one, dict | list):
            left += ((inner, depth + 1) for inner in (one.values() if isinstance(one, dict) else one))
    return False


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        msg = f"the key {twice!r:.80} twice"
        raise ValueError(msg)
    return values


def _message(kind: str, got: str, where: object, advice: str) -> str:
    return f"{kind} must be a JSON file with an object, got {got} ({where}). {advice}"
