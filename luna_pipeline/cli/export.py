"""The command that exports a trained network to ONNX and torch.export."""

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from luna_pipeline.cli.completion import checkpoints
from luna_pipeline.cli.grouped import command
from luna_pipeline.cli.options import RESEARCH_USE
from luna_pipeline.cli.results import json_option, print_json

if TYPE_CHECKING:
    from luna_pipeline.core.export.speed import Speed


@command(
    "export",
    "luna export nodule_classifier --to exported",
    "luna export 'nodule_classifier 0.0.1' --to exported --no-speed",
)
@click.argument("address", metavar="NAME|ADDRESS", shell_complete=checkpoints)
@click.option(
    "--to",
    "folder",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the exported files.",
)
@click.option("--no-speed", is_flag=True, help="Do not measure the forms' speeds on this CPU.")
@json_option
def export_command(address: str, folder: Path, *, no_speed: bool, is_json: bool) -> None:
    """Export a trained network to ONNX and torch.export.

    NAME is a checkpoint's; an ADDRESS is a .pt file, 'NAME VERSION', models:/NAME@ALIAS or models:/NAME/VERSION. Both
    forms are compared with the original on random and extreme inputs, and written only if they are equal.
    """
    from luna_pipeline.extensions import load_extensions

    load_extensions()
    from luna_pipeline.core.export.formats import ONNX_OPSET
    from luna_pipeline.core.export.speed import MIN_GAIN
    from luna_pipeline.launchers.export import FACTS_FILE, export_model
    from luna_pipeline.settings import Settings

    say = partial(click.echo, err=is_json)
    exported = export_model(Settings.from_environment(), address, folder, measures_speed=not no_speed)
    say(f"{exported.role.capitalize()} {exported.name} {exported.version}, ONNX opset {ONNX_OPSET}.")
    for form, equality in exported.equality.items():
        say(
            f"{form}: equal on {len(equality.differences)} kinds of inputs, largest difference of a probability "
            f"{equality.largest:.1e} (tolerance {equality.tolerance:g})."
        )
    if exported.speed is not None:
        say(_speed_line(exported.speed))
    if exported.served is not None:
        needed = f"ONNX is used from a gain of {MIN_GAIN:g}"
        say(f"`luna serve` classifies cutouts by {exported.served}: {needed}. Diagnoses use torch.")
    say(f"Wrote {folder}. {RESEARCH_USE}")
    if is_json:
        print_json(json.loads((folder / FACTS_FILE).read_bytes()))


def _speed_line(speed: "Speed") -> str:
    shown = [f"torch {speed.inputs_per_second['torch']:.1f} inputs per second"]
    shown += [
        f"{form} {speed.inputs_per_second[form]:.1f} ({gain:.2f} x)" for form, gain in sorted(speed.gains.items())
    ]
    return f"On this CPU: {', '.join(shown)}."
