"""Commands that need no data yet: the phantom, published weights, numbers of this machine."""

import os
from pathlib import Path
from typing import Any

import click

from luna_pipeline.cli.completion import registered
from luna_pipeline.cli.grouped import command
from luna_pipeline.cli.options import RESEARCH_USE, voxel_numbers
from luna_pipeline.settings import Settings


@command(
    "make_phantom", "luna make_phantom .luna/data", "luna make_phantom phantom --series 3 --subsets 3 --size 64,128,128"
)
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
@click.option("--series", "num_series", default=30, show_default=True, type=click.IntRange(1), help="Number of CTs.")
@click.option(
    "--subsets",
    "num_subsets",
    default=5,
    show_default=True,
    type=click.IntRange(1),
    help="Number of subset folders, which are the folds.",
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Seed of the data set.")
@click.option(
    "--size",
    callback=voxel_numbers,
    metavar="D,H,W",
    help="Voxels of each CT: slices, rows, columns. Default: varied, as in LUNA16.",
)
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["metaimage", "dicom"]),
    default="metaimage",
    show_default=True,
    help="File format of the CTs.",
)
@click.option(
    "--source",
    default="luna16",
    show_default=True,
    metavar="NAME",
    shell_complete=registered("sources"),
    help="Data source whose files and tables are imitated.",
)
def make_phantom_command(**options: Any) -> None:
    """Write a synthetic data set with the layout of LUNA16 to the folder OUT.

    --source chooses the layout of another data source.
    """
    from luna_pipeline.core.phantom.dataset import make_phantom

    def on_series(uid: str, done: int, total: int) -> None:
        click.echo(f"{done}/{total} {uid}")

    size_irc = options.pop("size")
    make_phantom(options.pop("out"), size_irc=size_irc, on_series=on_series, **options)


@command("import_book_weights", "luna import_book_weights cls_2020-02-06_14.16.55_final-nodule-nonnodule.best.state")
@click.argument(
    "state_files",
    metavar="FILE...",
    nargs=-1,
    required=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
)
@click.option("--no-mlflow", is_flag=True, help="Write the checkpoint only; do not register a model.")
def import_book_weights_command(state_files: tuple[Path, ...], *, no_mlflow: bool) -> None:
    """Import the published networks of the book 'Deep Learning with PyTorch'.

    They become checkpoints and registered models. FILE is the book's classifier (cls_….best.state) or its segmentation
    (seg_….best.state), in any order.
    """
    from luna_pipeline.launchers.training.book_weights import import_book_model

    settings = Settings.from_environment()
    for state_file in state_files:
        trained = import_book_model(state_file, settings=settings, register=not no_mlflow)
        click.echo(f"Wrote {trained.path} ({trained.checkpoint.name} {trained.version}). {RESEARCH_USE}")


@command("get_recommended_num_workers", "luna get_recommended_num_workers")
def get_recommended_num_workers() -> None:
    """Print the recommended number of worker processes of this machine."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    click.echo(f"Recommended number of workers: {min(32, usable)}")
