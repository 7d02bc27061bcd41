"""Commands that create, verify, remove, import and export cutouts."""

import contextlib
import math
import os
from dataclasses import asdict, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from luna_pipeline.cli.completion import registered
from luna_pipeline.cli.grouped import command
from luna_pipeline.cli.options import days_or_weeks, spacing_mm, voxel_numbers
from luna_pipeline.cli.results import json_option, print_json
from luna_pipeline.cli.terminal import Bars
from luna_pipeline.core.config.environment import environment_variables
from luna_pipeline.options import NOT_COMPARABLE
from luna_pipeline.settings import Settings

if TYPE_CHECKING:
    import pandas as pd
    from dagster import DagsterInstance

    from luna_pipeline.core.cutouts.job import CutOutcome
    from luna_pipeline.core.cutouts.service import CutSummary
    from luna_pipeline.core.cutouts.workers import RunJobs


@command(
    "create_cutouts",
    "luna create_cutouts --workers 8",
    "luna create_cutouts --training-length 200 --spacing 0.7,0.7,1.25",
    "luna create_cutouts --index-only",
)
@click.option(
    "--training-length",
    type=click.IntRange(1),
    metavar="N",
    help=f"Sample at most N candidates per series, with the classes in proportion. {NOT_COMPARABLE} Default: all.",
)
@click.option(
    "--max-negatives-per-series",
    type=click.IntRange(0),
    metavar="N",
    help=f"At most N candidates of class 0 per series; all nodules are kept. {NOT_COMPARABLE} Default: all.",
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Seed of the sample.")
@click.option(
    "--chunk-shape",
    callback=voxel_numbers,
    metavar="D,H,W",
    help="Voxels of a cutout: slices, rows, columns. Default: 32,48,48.",
)
@click.option(
    "--edge-rule",
    type=click.Choice(["pad", "shift"]),
    default="pad",
    show_default=True,
    help="If a box exceeds the CT: pad with air, or shift the box as the original project does.",
)
@click.option(
    "--spacing",
    callback=spacing_mm,
    metavar="X,Y,Z",
    help="Resample to this spacing in mm along x, y and z. Default: the CT's spacing.",
)
@click.option("--workers", type=click.IntRange(1), help="Number of processes. Default: 1; on Ray: all CPUs.")
@click.option("--on-ray", is_flag=True, help="Cut on the Ray cluster at RAY_ADDRESS, else on a local Ray.")
@click.option(
    "--ray-address",
    metavar="HOST:PORT",
    help="Cut on the Ray cluster with this head. Default: RAY_ADDRESS, with --on-ray.",
)
@click.option(
    "--index-only",
    is_flag=True,
    help="Write no cutout files: make the index for training and prediction with `--cutouts on_the_fly`.",
)
@click.option(
    "--assume-hu",
    is_flag=True,
    help="Accept CTs without air near -1000 or tissue near 0 HU, as LUNA_ASSUME_HU=1 does for all commands and runs.",
)
@click.option(
    "--malignancy-policy",
    metavar="NAME",
    shell_complete=registered("malignancy_policies"),
    help="Rule that makes a label of the readers' ratings: book, mean or median. Default: LUNA_MALIGNANCY_POLICY.",
)
@click.option(
    "--no-sync",
    is_flag=True,
    help="Do not flush files to disk: faster, but a power cut may lose files (verify_cutouts finds them).",
)
@json_option
def create_cutouts_command(**options: Any) -> None:
    """Cut a box around each candidate of the CTs in LUNA_DATA_DIR.

    Series whose cutout file is up to date are skipped.
    """
    from luna_pipeline.core.cutouts.cutting import CuttingParameters
    from luna_pipeline.core.cutouts.selection import CandidateSelection
    from luna_pipeline.launchers.cutting import CuttingRequest, create_cutouts

    settings = Settings.from_environment()
    settings = replace(settings, malignancy_policy=options["malignancy_policy"] or settings.malignancy_policy)
    shape = {"chunk_shape_irc": options["chunk_shape"]} if options["chunk_shape"] else {}
    parameters = CuttingParameters(edge_rule=options["edge_rule"], resampled_spacing_mm=options["spacing"], **shape)
    selection = CandidateSelection(
        training_length=options["training_length"],
        max_negatives_per_series=options["max_negatives_per_series"],
        seed=options["seed"],
    )
    # Worker processes inherit it.
    assumed = {"LUNA_ASSUME_HU": "1"} if options["assume_hu"] else {}
    with environment_variables(assumed), _Terminal(lines_to_errors=options["is_json"]) as terminal:
        summary = create_cutouts(
            settings,
            CuttingRequest(parameters, selection),
            terminal,
            workers=options["workers"],
            run=_on_ray(options["ray_address"]) if options["on_ray"] or options["ray_address"] else None,
            is_synced=not options["no_sync"],
            is_index_only=options["index_only"],
        )
    for line in _lines(summary, settings, is_index_only=options["index_only"]):
        click.echo(line, err=options["is_json"])
    if options["is_json"]:
        print_json(_values(summary))
    if summary is not None and summary.failed:
        msg = f"Every series must be cut, got {len(summary.failed)} failures, named above. Fix or remove them."
        raise click.ClickException(msg)


def _lines(summary: "CutSummary | None", settings: Settings, *, is_index_only: bool) -> list[str]:
    """Return the result of cutting as lines of text."""
    if summary is None:
        return [f"Nothing to do: the cutouts in {settings.cutouts_dir} are those of {settings.data_dir}."]
    num_failed = len(summary.failed)
    if is_index_only:
        failures = [f"Series {uid} failed: {reason}" for uid, reason in summary.failed.items()]
        return [*failures, f"{summary.num_current} series indexed without files, {num_failed} failed."]
    counts = f"{summary.num_cut} series cut, {summary.num_current} were there and right, {num_failed} failed"
    return [f"{counts} ({settings.cutouts_dir})."]


def _values(summary: "CutSummary | None") -> dict[str, Any]:
    """Return the result of cutting for a program; nothing is known of series if all were up to date."""
    if summary is None:
        return {"is_up_to_date": True, "num_cut": 0, "num_current": None, "failed": {}}
    counts = {"num_cut": summary.num_cut, "num_current": summary.num_current}
    return {"is_up_to_date": False, **counts, "failed": dict(summary.failed)}


def _on_ray(address: str | None) -> "RunJobs":
    from luna_pipeline.cluster.cutting import run_jobs_on_ray

    return partial(run_jobs_on_ray, address=address)


class _Terminal(Bars):
    """Reports the progress of cutting with lines and a progress bar."""

    def report(self, line: str) -> None:
        self.line(line)

    def on_plan(self, plan: "pd.DataFrame", needed_bytes: int, free_bytes: float) -> None:
        states = ", ".join(f"{count} {state}" for state, count in plan["state"].value_counts().items())
        free = f", {free_bytes / 1e9:.2f} GB free" if math.isfinite(free_bytes) else ""
        self.line(f"{len(plan)} series: {states}; {needed_bytes / 1e9:.2f} GB needed{free}.")
        self._num_done, self._num_series = -1, len(plan)
        self._advance()

    def on_outcome(self, outcome: "CutOutcome") -> None:
        self._advance()

    def on_failure(self, series_instance_uid: str, reason: str) -> None:
        self._advance()
        self.line(f"Series {series_instance_uid} failed: {reason}")

    def _advance(self) -> None:
        self._num_done += 1
        self.show("cutting series", self._num_done, self._num_series)


@command("verify_cutouts", "luna verify_cutouts", "luna verify_cutouts --repair")
@click.option("--repair", is_flag=True, help="Remove damaged files; the next `create_cutouts` cuts them again.")
@json_option
def verify_cutouts_command(*, repair: bool, is_json: bool) -> None:
    """Compare every byte of all cutout files with its checksum.

    The command fails if a file is damaged or nothing is there to verify.
    """
    from luna_pipeline.launchers.cutout_maintenance import verify_cutouts

    damaged = verify_cutouts(Settings.from_environment(), repair=repair, report=partial(click.echo, err=is_json))
    if is_json:
        print_json({"damaged": damaged, "is_repaired": repair})
    # Not removed by --repair: what is no cutout file, by its name in the folder.
    left = [name for name in damaged if not repair or name.lower().endswith(".npz")]
    if left:
        advice = "Add --repair or cut again." if not repair else "Take them out of the folder."
        msg = f"Every file of cutouts must be whole, got {len(left)} that are not. {advice}"
        raise click.ClickException(msg)


@command("prune", "luna prune", "luna prune --yes", "luna prune --runs-older-than 90d --yes")
@click.option("--yes", is_flag=True, help="Remove what is listed. Default: list it only.")
@click.option(
    "--runs-older-than",
    "age",
    callback=days_or_weeks,
    metavar="AGE",
    help="Instead of cutouts: Dagster's runs that ended before this time, such as 90d or 12w, with events and logs.",
)
@json_option
def prune_command(*, yes: bool, age: timedelta | None, is_json: bool) -> None:
    """List or remove cutouts of series that are no longer in LUNA_DATA_DIR.

    Temporary files of killed processes are listed or removed, too. With DAGSTER_HOME set, also Dagster's partitions of
    such series, and of folds that the data no longer have.
    """
    has_dagster = bool(os.environ.get("DAGSTER_HOME"))
    if age is not None and not has_dagster:
        msg = "DAGSTER_HOME must be set to remove runs, got none. Set it to the folder of Dagster's dagster.yaml."
        raise click.UsageError(msg)
    report = partial(click.echo, err=is_json)
    with contextlib.ExitStack() as stack:
        instance = stack.enter_context(_dagster()) if has_dagster else None
        if age is not None and instance is not None:
            from luna_pipeline.alerts.records import unreported_runs
            from luna_pipeline.runs.retention import prune_old_runs

            old = prune_old_runs(instance, age, is_removed=yes, report=report, unreported=unreported_runs(instance))
            found = {"runs": {run.run_id: run.job_name for run in old.removable}, "kept": old.kept}
        else:
            from luna_pipeline.launchers.pruning import prune

            found = asdict(prune(Settings.from_environment(), is_removed=yes, report=report, instance=instance))
    if is_json:
        print_json({"is_removed": yes, **found})


def _dagster() -> "DagsterInstance":
    """Return the instance of DAGSTER_HOME."""
    from dagster import DagsterInstance

    return DagsterInstance.get()


@command("import_tutorial_cutouts", "luna import_tutorial_cutouts data/cache")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
def import_tutorial_cutouts_command(folder: Path) -> None:
    """Import the original project's cache of cutouts, one .npz per candidate, from FOLDER.

    Its candidates and CTs must be in LUNA_DATA_DIR.
    """
    from luna_pipeline.launchers.cutout_maintenance import import_tutorial_cutouts

    import_tutorial_cutouts(Settings.from_environment(), folder, report=click.echo)


@command("export_tutorial_cutouts", "luna export_tutorial_cutouts data/cache")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
def export_tutorial_cutouts_command(folder: Path) -> None:
    """Export all cutouts in the original project's form, one float32 .npz each, to FOLDER."""
    from luna_pipeline.launchers.cutout_maintenance import export_tutorial_cutouts

    export_tutorial_cutouts(Settings.from_environment(), folder, report=click.echo)
