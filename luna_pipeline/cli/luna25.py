"""Commands of the LUNA25 challenge: its score, and an algorithm in the form of its container."""

from pathlib import Path
from typing import Any

import click

from luna_pipeline.cli.completion import checkpoints
from luna_pipeline.cli.grouped import command
from luna_pipeline.cli.options import RESEARCH_USE

FILE = click.Path(path_type=Path, dir_okay=False)


@command(
    "evaluate_luna25",
    "luna evaluate_luna25 --truth LUNA25_Public_Training_Development_Data.csv --predictions predictions.csv",
)
@click.option("--truth", required=True, type=FILE, help="LUNA25's table of annotations, with their labels.")
@click.option(
    "--predictions",
    required=True,
    type=click.Path(path_type=Path),
    help="CSV of AnnotationID,probability; a container's output as JSON; or a folder of such outputs. The official "
    "draws depend on the order of its rows.",
)
@click.option("--json", "json_file", type=FILE, help="Output file of the result, with the official names.")
def evaluate_luna25_command(truth: Path, predictions: Path, json_file: Path | None) -> None:
    """Score predictions of malignancy like LUNA25.

    Intervals over patients are given beside the official one.
    """
    from luna_pipeline.launchers.luna25 import evaluate_luna25

    lines = evaluate_luna25(truth, predictions, out=json_file)
    click.echo("\n".join([*lines, RESEARCH_USE]))


@command("predict_luna25", "luna predict_luna25 --input /input --output /output --model malignancy_classifier")
@click.option(
    "--input",
    "folder",
    required=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder with nodule-locations.json, clinical-information-lung-ct.json and images/chest-ct/*.mha.",
)
@click.option(
    "--output",
    "out",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of lung-nodule-malginancy-likelihoods.json.",
)
@click.option(
    "--model",
    metavar="ADDRESS",
    shell_complete=checkpoints,
    help="The malignancy classifier: a .pt file, NAME, 'NAME VERSION', models:/NAME@ALIAS or models:/NAME/VERSION. "
    "Default: MLflow's champion, else the newest trained one.",
)
@click.option(
    "--device", default="cpu", show_default=True, type=click.Choice(["cpu", "cuda"]), help="Where the network runs."
)
@click.option("--assume-hu", "assume_hu", is_flag=True, help="Accept a CT without air near -1000 or tissue near 0 HU.")
def predict_luna25_command(**options: Any) -> None:
    """Score the nodules of one case in the form of LUNA25's container.

    No internet connection is needed.
    """
    from luna_pipeline.extensions import load_extensions
    from luna_pipeline.launchers.luna25 import predict_luna25
    from luna_pipeline.settings import Settings

    load_extensions()
    made = predict_luna25(Settings.from_environment(), **options)
    for note in made.notes:
        click.echo(f"Note: {note}")
    click.echo(f"Wrote {made.path}: {made.num_nodules} nodules by {made.model} in {made.seconds:.1f} s. {RESEARCH_USE}")
