"""The command line ``luna``: one function per command, which imports heavy modules when it runs."""

import platform
from collections.abc import Callable
from typing import Any

import click

from luna_pipeline.cli import (
    completion,
    croissant,
    cutouts,
    data,
    describe_data,
    diagnosis,
    doctor,
    downloads,
    evaluation,
    export,
    lidc,
    listing,
    luna25,
    receiving,
    same_scans,
    serving,
    sources,
    start,
    status,
    tokens,
    training,
    tuning,
)
from luna_pipeline.cli.ending import run_command
from luna_pipeline.cli.grouped import Group
from luna_pipeline.cli.options import RESEARCH_USE


def _print_versions(context: click.Context, _parameter: click.Parameter, is_asked: bool) -> None:
    if not is_asked:
        return
    # From the packages' metadata: importing torch takes seconds.
    from importlib.metadata import version

    click.echo(f"luna_pipeline {version('luna_pipeline')}")
    click.echo(f"Python {platform.python_version()}, torch {version('torch')}")
    context.exit()


@click.group(cls=Group, epilog=RESEARCH_USE, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_versions,
    help="Print the versions of luna_pipeline, Python and torch.",
)
@click.pass_context
def cli(context: click.Context, *, debug: bool) -> None:
    """Lung nodules in chest CT: from raw series to scored classifiers.

    `luna COMMAND --help` explains a command and shows examples.
    """
    context.obj = {"debug": debug}


_SECTIONS: dict[str, list[click.Command]] = {
    "Start and check": [
        doctor.doctor_command,
        status.status_command,
        listing.list_command,
        start.make_phantom_command,
        data.check_data_command,
        start.get_recommended_num_workers,
        completion.completion_command,
    ],
    "Data": [
        downloads.download_luna16_command,
        sources.list_sources_command,
        describe_data.describe_data_command,
        same_scans.find_same_scans_command,
        lidc.import_lidc_annotations_command,
        lidc.rebuild_luna16_key_command,
        lidc.draw_readers_command,
    ],
    "Cutouts": [cutouts.create_cutouts_command, cutouts.verify_cutouts_command, cutouts.prune_command],
    "Train": [
        training.train_luna_classification,
        training.train_luna_malignant_classification,
        training.train_luna_segmentation,
        training.load_train_luna_classification,
        training.load_train_luna_malignant_classification,
        training.resume,
    ],
    "Tune": [tuning.tune_luna_classification, tuning.tune_luna_malignant_classification],
    "Evaluate": [
        evaluation.predict_command,
        evaluation.evaluate_froc_command,
        luna25.predict_luna25_command,
        luna25.evaluate_luna25_command,
    ],
    "Diagnose": [diagnosis.diagnose_command],
    "Serve": [serving.serve_command, receiving.receive_command, tokens.token_command],
    "Exchange with other software": [
        export.export_command,
        croissant.export_croissant_command,
        cutouts.import_tutorial_cutouts_command,
        cutouts.export_tutorial_cutouts_command,
        start.import_book_weights_command,
    ],
}
for title, commands in _SECTIONS.items():
    cli.add_section(title, commands)


def main(run: Callable[..., Any] = cli) -> None:
    """Run the command line. Exit code: 0 success, 1 failure, 2 wrong usage."""
    run_command(run)
