"""Command that finds the same scan by content."""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import click

from luna_pipeline.cli.grouped import command
from luna_pipeline.cli.options import RESEARCH_USE
from luna_pipeline.cli.results import json_option, print_json


@command(
    "find_same_scans",
    "luna find_same_scans",
    "luna find_same_scans /data/luna16 /data/lndb --workers 8 --out pairs.csv",
)
@click.argument(
    "folders", metavar="[FOLDER]...", nargs=-1, type=click.Path(path_type=Path, exists=True, file_okay=False)
)
@click.option("--workers", default=2, show_default=True, type=click.IntRange(1), help="Number of processes.")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="Output file of the pairs, as CSV. Default: none."
)
@json_option
def find_same_scans_command(folders: tuple[Path, ...], *, workers: int, out: Path | None, is_json: bool) -> None:
    """Find copies of a scan, in any format and orientation, and blocks of it.

    Voxels are compared. With FOLDERs, their CTs, .npz and .npy blocks are compared. Without, the CTs of LUNA_DATA_DIR
    are, and the table `same_scans` of LUNA_HOME is written, which folds and leak checks use.
    """
    from luna_pipeline.core.storage.files import write_bytes
    from luna_pipeline.launchers import same_scans
    from luna_pipeline.launchers.cutting import catalogue_of
    from luna_pipeline.settings import Settings

    settings, say = Settings.from_environment(), partial(click.echo, err=is_json)
    if folders:
        result = same_scans.find_same_scans_below(settings, folders, workers=workers, report=say)
    else:
        catalogue, _ = catalogue_of(settings)
        result = same_scans.find_same_scans(settings, catalogue, workers=workers, report=say)
        same_scans.write_same_scans(settings, result.stored)
    for name, reason in result.failed.items():
        click.echo(f"Left out {name}: {reason}", err=True)
    for row in result.table.to_dict("records"):
        say(_line(row))
    if out is not None:
        write_bytes(out, result.table.to_csv(index=False, lineterminator="\n").encode())
    num_pairs = len(result.table)
    say(f"{num_pairs} pairs of the same scan among {result.num_scans} scans. {RESEARCH_USE}")
    if is_json:
        pairs = json.loads(result.table.to_json(orient="records"))
        print_json({"pairs": pairs, "num_scans": result.num_scans, "left_out": dict(result.failed)})


def _line(row: Mapping[Any, Any]) -> str:
    """Return a pair as a line of text."""
    from luna_pipeline.core.same_scans.pairs import KIND_WORDS

    evidence = (
        f"{row['share_equal']:.2%} of {row['num_compared']} voxels equal"
        if row["num_compared"]
        else f"correlation of details {row['correlation']:.3f}"
    )
    return f"{row['series_a']} is {KIND_WORDS[row['kind']]} {row['series_b']}: {evidence}."
