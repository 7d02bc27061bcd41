"""The command that exports a description in the form Croissant."""

from pathlib import Path

import click

from luna_pipeline.cli.grouped import command
from luna_pipeline.settings import Settings


@command("export_croissant", "luna export_croissant", "luna export_croissant --no-cutouts")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Output file, in LUNA_HOME. Default: croissant.json in LUNA_HOME.",
)
@click.option("--no-cutouts", is_flag=True, help="Leave out the cutout files: their bytes are not read.")
def export_croissant_command(out: Path | None, *, no_cutouts: bool) -> None:
    """Describe candidates, folds and cutouts as Croissant JSON-LD.

    The file holds checksums, splits, licence and citation. It is validated by mlcroissant. Nothing is sent anywhere.
    Research use only.
    """
    from luna_pipeline.launchers.croissant import export_croissant

    made = export_croissant(Settings.from_environment(), out=out, has_cutouts=not no_cutouts)
    for line in made.warnings:
        click.echo(f"Warning: {line}")
    click.echo(
        f"Wrote {made.path}: {made.num_candidates} candidates, {made.num_cutout_files} cutout files. Research use only."
    )
