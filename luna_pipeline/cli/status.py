"""The command that says what is made, what is stale, and what failed and why."""

import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from luna_pipeline.cli.ending import without_garbage_collection
from luna_pipeline.cli.grouped import command
from luna_pipeline.cli.listing import table_lines
from luna_pipeline.cli.results import json_option, print_json
from luna_pipeline.settings import Settings

if TYPE_CHECKING:
    from luna_pipeline.overview.states import AssetState, Status

_MAX_NAMED = 10


@command("status", "luna status", "luna status --json")
@json_option
def status_command(*, is_json: bool) -> None:
    """Report what is made, what is stale, and what failed and why, without a browser.

    It reads Dagster's history in DAGSTER_HOME if there is one, and the files below LUNA_HOME otherwise. Nothing is
    changed. `luna doctor` reports on the set-up.
    """
    from luna_pipeline.overview.status import status_of

    home = os.environ.get("DAGSTER_HOME")
    has_history = bool(home) and (Path(str(home)) / "dagster.yaml").exists()
    with without_garbage_collection():
        found = status_of(Settings.from_environment(), Path(str(home)) if has_history else None)
    if is_json:
        print_json(asdict(found))
        return
    for line in status_lines(found):
        click.echo(line)


def status_lines(status: "Status") -> list[str]:
    """Return the state as lines."""
    data = "synthetic data; research use only" if status.is_synthetic else "research use only"
    lines = [f"Home     {status.home} ({data})"]
    lines.append(f"Dagster  {status.dagster_home or 'no DAGSTER_HOME: the state is read from files'}")
    made = [state for state in status.assets if state.num_made or state.failed]
    rows = [{"asset": state.name, "made": state.made, "last": state.made_at, "": _state(state)} for state in made]
    lines += ["", *(table_lines(rows) or ["Nothing is made yet: run `make demo`, or `dg launch --job ingest`."])]
    others = [state.name for state in status.assets if state not in made]
    if made and others:
        lines += ["", f"Not made: {', '.join(others)}"]
    for title, entries in _sections(status):
        if entries:
            lines += ["", title, *(f"  {entry}" for entry in entries)]
    return lines


def _state(state: "AssetState") -> str:
    words = [f"stale: {'; '.join(state.stale)}"] if state.stale else []
    if state.failed:
        words.insert(0, f"{len(state.failed)} failed" if state.num_partitions is not None else "failed")
    return ", ".join(words) or "up to date"


def _sections(status: "Status") -> Iterator[tuple[str, list[str]]]:
    failed = [
        f"{' '.join(filter(None, [one.name, key]))}: {why}" for one in status.assets for key, why in one.failed.items()
    ]
    yield "Failed", _first(failed)
    yield "Series that cannot be read", _first([f"{uid}: {why}" for uid, why in status.unreadable.items()])
    yield "Checks that failed", [f"{one.name} ({one.severity}): {one.description}" for one in status.checks]
    yield (
        "Runs in progress",
        [f"{row['job']} {row['status']} since {row['started_at']} ({row['run_id']})" for row in status.in_progress],
    )
    yield (
        "Last failed runs",
        [
            f"{row['started_at']} {row['job']}{' (succeeded since)' if row['is_over'] else ''}: {row['reason']}"
            for row in status.failed_runs
        ],
    )
    yield (
        "Automations",
        [
            f"{one.name:<18} {'on ' if one.is_on else 'off'}{f' {one.last}' if one.last else ''}"
            for one in status.automations
        ],
    )
    yield "Unknown", status.notes


def _first(entries: list[str]) -> list[str]:
    more = [f"and {len(entries) - _MAX_NAMED} more: `luna status --json`"] if len(entries) > _MAX_NAMED else []
    return entries[:_MAX_NAMED] + more
