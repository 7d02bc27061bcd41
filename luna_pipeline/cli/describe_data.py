"""The command that describes the data."""

from pathlib import Path

import click

from luna_pipeline.cli.grouped import command
from luna_pipeline.cli.results import json_option, print_json
from luna_pipeline.cli.terminal import Bars
from luna_pipeline.settings import Settings


@command("describe_data", "luna describe_data", "luna describe_data --no-voxels --json > quality.json")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the tables, plots and the page. Default: data_quality in LUNA_HOME.",
)
@click.option("--no-voxels", is_flag=True, help="Read headers and tables only, no voxels.")
@json_option
def describe_data_command(out: Path | None, *, no_voxels: bool, is_json: bool) -> None:
    """Describe the scans and nodules in LUNA_DATA_DIR, with problems and warnings.

    Tables and plots show geometry, technique, HU, nodules and readers. Voxels of unchanged scans are read once. With
    --json, files are written only to a folder that --out names. Exit code 1 if a problem makes results wrong. Research
    use only.
    """
    from luna_pipeline.core.quality.description import as_json
    from luna_pipeline.core.quality.files import write_description
    from luna_pipeline.core.quality.findings import lines_of
    from luna_pipeline.launchers.cutting import catalogue_of
    from luna_pipeline.launchers.describe_data import describe_data

    settings = Settings.from_environment()
    catalogue, _ = catalogue_of(settings)

    with Bars() as bars:
        description = describe_data(
            settings,
            catalogue,
            has_voxels=not no_voxels,
            on_scan=lambda _uid, number, total: bars.show("reading scans", number, total),
            report=lambda line: click.echo(line, err=True),
        )
    if is_json:
        print_json(as_json(description))
    else:
        for line in lines_of(description.findings, description.scans):
            click.echo(line)
    if out is not None or not is_json:
        page = write_description(out or settings.local_home / "data_quality", description)
        click.echo(f"Wrote {page} and its tables and plots. Research use only.", err=is_json)
    counts = description.counts
    if counts["num_problems"]:
        msg = f"A data set must have no problems, got {counts['num_problems']} in {counts['num_scans']} scans."
        raise click.ClickException(f"{msg} Fix or remove the scans that are named.")
