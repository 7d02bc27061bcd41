"""Results for programs: one JSON document on standard output, with all other lines on standard error."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

_STANDARD_OUTPUT = Path("-")

json_option = click.option(
    "--json",
    "is_json",
    is_flag=True,
    help="Print the result as one JSON document; other lines go to standard error.",
)


def print_json(values: Any) -> None:
    """Print the result of a command as one JSON document.

    Raises:
        ValueError: If a number is not finite: programs cannot read such JSON.
    """
    click.echo(json.dumps(values, indent=1, allow_nan=False))


def write_result(file: Path | None, values: Mapping[str, Any]) -> bool:
    """Write a result as JSON, and return whether it took standard output.

    Args:
        file: Its file; ``-`` is standard output, None writes nothing.
        values: The result.
    """
    from luna_pipeline.core.storage.files import write_bytes

    text = json.dumps(values, indent=1)
    if file == _STANDARD_OUTPUT:
        click.echo(text)
    elif file is not None:
        write_bytes(file, text.encode())
    return file == _STANDARD_OUTPUT
