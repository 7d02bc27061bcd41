"""The command that lists runs, versions, and the names that a configuration can hold."""

import os
from collections.abc import Callable
from typing import Any

import click

from luna_pipeline.cli.grouped import command
from luna_pipeline.cli.results import json_option, print_json
from luna_pipeline.settings import Settings

Rows = list[dict[str, Any]]
_PARTS = (
    *("recipes", "networks", "losses", "optimizers", "schedulers", "datasets", "models", "trainers", "handlers"),
    *("search_spaces", "estimators", "sources", "malignancy_policies", "diagnosis_recipes"),
)
_MADE = ("versions", "runs", "mlflow_runs", "jobs")


@command(
    "list",
    "luna list versions",
    "luna list runs --limit 5",
    "luna list recipes --json",
)
@click.argument("kind", type=click.Choice([*_MADE, *_PARTS]), metavar="KIND")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1), help="Number of versions or runs.")
@click.option("--all", "is_all", is_flag=True, help="Include the runs inside other runs.")
@json_option
def list_command(kind: str, *, limit: int, is_all: bool, is_json: bool) -> None:
    """List versions, runs, jobs, or the names that a configuration can hold, each with a sentence.

    KIND is versions (trained models with fold, recipe, score, date and path), runs (of Dagster), mlflow_runs, jobs,
    recipes, networks, losses, optimizers, schedulers, datasets, models, trainers, handlers, search_spaces, estimators,
    sources, malignancy_policies or diagnosis_recipes.
    """
    rows = _rows_of(kind, limit=limit, is_all=is_all)
    if is_json:
        print_json(rows)
        return
    is_own = all(row.get("origin") == "project" for row in rows)
    shown = [{name: value for name, value in row.items() if name != "origin"} for row in rows] if is_own else rows
    for line in table_lines(shown):
        click.echo(line)
    if not rows:
        click.echo(f"There are no {kind.replace('_', ' ')} yet.")


def _rows_of(kind: str, *, limit: int, is_all: bool) -> Rows:
    settings = Settings.from_environment()
    made: dict[str, Callable[[], Rows]] = {
        "versions": lambda: _versions(settings, limit),
        "runs": lambda: _runs(limit, is_all=is_all),
        "mlflow_runs": lambda: _mlflow_runs(settings, limit),
        "jobs": _jobs,
    }
    if kind in made:
        return made[kind]()
    from luna_pipeline.overview.registries import rows_of

    return rows_of(kind)


def _versions(settings: Settings, limit: int) -> Rows:
    from luna_pipeline.overview.versions import version_rows

    return version_rows(settings)[:limit]


def _runs(limit: int, *, is_all: bool) -> Rows:
    home = os.environ.get("DAGSTER_HOME")
    if not home or not os.path.isdir(home):
        msg = f"DAGSTER_HOME must name the folder of Dagster's runs, got {home!r}. Set it, as the make targets do"
        raise click.UsageError(f"{msg}: export DAGSTER_HOME=.luna/dagster (.luna/demo/dagster after `make demo`).")
    from dagster import DagsterInstance

    from luna_pipeline.overview.runs import run_rows

    with DagsterInstance.from_config(home) as instance:
        return run_rows(instance, limit=limit, is_with_nested=is_all)


def _mlflow_runs(settings: Settings, limit: int) -> Rows:
    from luna_pipeline.overview.mlflow_runs import mlflow_run_rows

    return mlflow_run_rows(settings, limit=limit)


def _jobs() -> Rows:
    from luna_pipeline.jobs import JOBS

    return [{"name": job.name, "description": " ".join((job.description or "").split())} for job in JOBS]


def table_lines(rows: Rows) -> list[str]:
    """Return rows as lines of columns of equal width, with a head; columns without any value are left out."""
    columns = [name for name in (rows[0] if rows else ()) if any(row[name] not in (None, "") for row in rows)]
    cells = [[_cell(row[name]) for name in columns] for row in rows]
    head = [name.replace("_", " ") for name in columns]
    widths = [max(len(line[place]) for line in [head, *cells]) for place in range(len(columns))]
    return [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in ([head, *cells] if rows else [])
    ]


def _cell(value: Any) -> str:
    return "" if value is None else str(value)
