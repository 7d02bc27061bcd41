"""Limits in bytes that environment variables may change."""

import os

_UNITS = {"MIB": ("MiB", 1 << 20), "GIB": ("GiB", 1 << 30)}


def byte_limit(variable: str, *, default: float) -> int:
    """Return a limit in bytes.

    Args:
        variable: Environment variable that sets it; its name ends in its unit, ``_MIB`` or ``_GIB``.
        default: The limit without the variable, in that unit.

    Raises:
        ValueError: If the variable is no positive number.
    """
    unit, num_bytes = _UNITS[variable.rpartition("_")[2]]
    text = os.environ.get(variable) or str(default)
    try:
        limit = float(text)
    except ValueError:
        limit = 0.0
    # Written so that NaN is refused.
    if not 0 < limit < 1 << 20:
        raise ValueError(f"{variable} must be a positive number of {unit}, got {text!r} (environment). Correct it.")
    return int(limit * num_bytes)
