"""Commands that check data before any work."""

from pathlib import Path

import click

from luna_pipeline.cli.completion import registered
from luna_pipeline.cli.grouped import command
from luna_pipeline.cli.options import RESEARCH_USE
from luna_pipeline.cli.results import json_option, print_json
from luna_pipeline.settings import Settings


@command(
    "check_data",
    "luna check_data",
    "luna check_data /data/my_scans --template",
    "luna check_data /data/luna16 --source luna16 --json > report.json",
)
@click.argument("folder", metavar="[DIR]", required=False, type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--source",
    "sources",
    multiple=True,
    metavar="NAME",
    shell_complete=registered("sources"),
    help="Data source, as `luna list_sources` names it; can be repeated. Default: what lies in DIR.",
)
@click.option(
    "--voxels",
    is_flag=True,
    help="Also read the voxels of all CTs, which finds damaged files and values that are not HU.",
)
@json_option
@click.option("--template", is_flag=True, help="Write scans.csv and nodules.csv for the CTs in DIR; check nothing.")
def check_data_command(
    folder: Path | None, sources: tuple[str, ...], *, voxels: bool, is_json: bool, template: bool
) -> None:
    """Report everything that is wrong with a data set before any work.

    DIR is the folder of the data; default: LUNA_DATA_DIR. Errors end with exit code 1; warnings alone with 0. Nothing
    is written.
    """
    from luna_pipeline.launchers.check_data import check_data, write_template

    settings = Settings.from_environment()
    root = (folder or settings.data_dir).absolute()
    if template:
        for path in write_template(root):
            click.echo(f"Wrote {path}.")
        return
    report = check_data(settings, root, sources, reads_voxels=voxels)
    if is_json:
        print_json(report.as_dict())
    else:
        for line in report.lines():
            click.echo(line)
        click.echo(RESEARCH_USE)
    if report.num_errors:
        # Everything was said.
        raise SystemExit(1)
