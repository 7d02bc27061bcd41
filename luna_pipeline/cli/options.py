"""Parsers of options, and errors of options that are found after parsing."""

import contextlib
import json
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

RESEARCH_USE = "Research use only; not a medical device."
SOURCES = ["stored", "on_the_fly"]
cutouts_option = click.option(
    "--cutouts",
    type=click.Choice(SOURCES),
    default="stored",
    show_default=True,
    help="Read the cutout files, or cut from the raw CTs below LUNA_DATA_DIR; results are equal.",
)


def voxel_numbers(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> tuple[int, int, int] | None:
    """Parse D,H,W: three positive numbers of voxels (index, row, col)."""
    if value is None:
        return None
    parts = value.split(",")
    if len(parts) != 3 or not all(part.strip().isdigit() and int(part) > 0 for part in parts):
        rule = "Size must be three positive numbers of voxels D,H,W"
        raise click.BadParameter(f"{rule}, got {value}. Example: 64,128,128")
    return (int(parts[0]), int(parts[1]), int(parts[2]))


def spacing_mm(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> tuple[float, float, float] | None:
    """Parse X,Y,Z: three positive lengths in mm."""
    if value is None:
        return None
    try:
        x_mm, y_mm, z_mm = (float(part) for part in value.split(","))
    except ValueError as error:
        rule = "Spacing must be three lengths in mm X,Y,Z"
        raise click.BadParameter(f"{rule}, got {value}. Example: 0.7,0.7,1.25") from error
    return (x_mm, y_mm, z_mm)


def days_or_weeks(_context: click.Context, _parameter: click.Parameter, value: str | None) -> timedelta | None:
    """Parse an age, such as 90d or 12w."""
    if value is None:
        return None
    found = re.fullmatch(r"(\d{1,5})([dw])", value.strip())
    if found is None:
        raise click.BadParameter(f"Age must be a number of days or weeks, got {value}. Example: 90d or 12w")
    return timedelta(days=int(found[1]) * (7 if found[2] == "w" else 1))


def changed_values(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, Any]:
    """Parse PLACE=VALUE; a value is JSON or a bare word."""
    changes = {}
    for text in values:
        place, found, value = text.partition("=")
        if not found:
            msg = f"A change must be PLACE=VALUE, got {text}. Example: network.dropout_rate=0.4"
            raise click.BadParameter(msg)
        try:
            changes[place] = json.loads(value)
        except ValueError:
            changes[place] = value
    return changes


def source_or_folder(context: click.Context, parameter: click.Parameter, value: str) -> str | Path:
    """Read ``stored``, ``on_the_fly`` or a folder with cutout files."""
    if value in SOURCES:
        return value
    click.Path(exists=True, file_okay=False).convert(value, parameter, context)
    return Path(value)


@contextlib.contextmanager
def usage_errors(option: str | None = None) -> Iterator[None]:
    """Raise a ValueError or TypeError as an error of usage, whose exit code is 2.

    Args:
        option: The option at fault, which the message names; None for several.

    Raises:
        click.UsageError: Instead of a ValueError or TypeError.
    """
    try:
        yield
    except (ValueError, TypeError) as error:
        text = " ".join(str(error).split())
        raise click.UsageError(f"{option}: {text}" if option else text) from error
