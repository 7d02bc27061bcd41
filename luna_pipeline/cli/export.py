"""The command that exports a trained network to ONNX and torch.export."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from luna_pipeline.cli.grouped import command
from luna_pipeline.cli.options import RESEARCH_USE

if TYPE_CHECKING:
    from luna_pipeline.core.export.speed import Speed


@command(
    "export",
    "luna export nodule_classifier --to exported",
    "luna export 'nodule_classifier 0.0.1' --to exported --no-speed",
)
@click.argument("address", metavar="NAME|ADDRESS")
@click.option(
    "--to",
    "folder",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the exported files.",
)
@click.option("--no-speed", is_flag=True, help="Do not measure the forms' speeds on this CPU.")
def export_command(address: str, folder: Path, *, no_speed: bool) -> None:
    """Export a trained network to ONNX and torch.export.

    NAME is a checkpoint's; an ADDRESS is a .pt file, 'NAME VERSION', models:/NAME@ALIAS or models:/NAME/VERSION. Both
    forms are compared with the original on random and extreme inputs, and written only if they are equal.
    """
    from luna_pipeline.extensions import load_extensions

    load_extensions()
    from luna_pipeline.core.export.formats import ONNX_OPSET
    from luna_pipeline.core.export.speed import MIN_GAIN
    from luna_pipeline.launchers.export import export_model
    from luna_pipeline.settings import Settings

    exported = export_model(Settings.from_environment(), address, folder, measures_speed=not no_speed)
    click.echo(f"{exported.role.capitalize()} {exported.name} {exported.version}, ONNX opset {ONNX_OPSET}.")
    for form, equality in exported.equality.items():
        click.echo(
            f"{form}: equal on {len(equality.differences)} kinds of inputs, largest difference of a probability "
            f"{equality.largest:.1e} (tolerance {equality.tolerance:g})."
        )
    if exported.speed is not None:
        click.echo(_speed_line(exported.speed))
    if exported.served is not None:
        needed = f"ONNX is used from a gain of {MIN_GAIN:g}"
        click.echo(f"`luna serve` classifies cutouts by {exported.served}: {needed}. Diagnoses use torch.")
    click.echo(f"Wrote {folder}. {RESEARCH_USE}")


def _speed_line(speed: "Speed") -> str:
    shown = [f"torch {speed.inputs_per_second['torch']:.1f} inputs per second"]
    shown += [
        f"{form} {speed.inputs_per_second[form]:.1f} ({gain:.2f} x)" for form, gain in sorted(speed.gains.items())
    ]
    return f"On this CPU: {', '.join(shown)}."
