"""The command that diagnoses a CT."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from luna_pipeline.cli.completion import checkpoints, registered
from luna_pipeline.cli.grouped import command
from luna_pipeline.cli.options import RESEARCH_USE, changed_values, usage_errors
from luna_pipeline.cli.results import json_option, print_json
from luna_pipeline.cli.terminal import Bars

if TYPE_CHECKING:
    from luna_pipeline.core.diagnosis.result import Diagnosis

_ADDRESS = "a .pt file, NAME, 'NAME VERSION', models:/NAME@ALIAS or models:/NAME/VERSION"
_OURS = "Default: MLflow's champion, else the newest trained one, else the book's imported one."


@command(
    "diagnose",
    "luna diagnose scan.mhd --out diagnosis",
    "luna diagnose dicom_folder --out diagnosis --recipe book --deidentify",
)
@click.argument("ct", type=click.Path(path_type=Path, exists=True))
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder of the outputs.")
@click.option(
    "--recipe",
    default="default",
    show_default=True,
    metavar="NAME",
    shell_complete=registered("diagnosis_recipes"),
    help="How the CT is searched: default, or book for the book's procedure.",
)
@click.option(
    "--set",
    "changes",
    multiple=True,
    callback=changed_values,
    metavar="PLACE=VALUE",
    help="Change one value of the recipe, such as a threshold. Can be repeated.",
)
@click.option(
    "--segmenter",
    metavar="ADDRESS",
    shell_complete=checkpoints,
    help=f"The segmenter: {_ADDRESS}. {_OURS}",
)
@click.option(
    "--classifier",
    metavar="ADDRESS",
    shell_complete=checkpoints,
    help=f"The nodule classifier, as --segmenter. {_OURS}",
)
@click.option(
    "--malignancy",
    metavar="ADDRESS",
    shell_complete=checkpoints,
    help="The malignancy classifier, as --segmenter. Default: ours, if there is one.",
)
@click.option("--series", metavar="UID", help="SeriesInstanceUID, where CT is a folder with several series.")
@click.option(
    "--device", default="cpu", show_default=True, type=click.Choice(["cpu", "cuda"]), help="Where the networks run."
)
@click.option("--no-dicom", is_flag=True, help="Write no seg.dcm and sr.dcm for DICOM input.")
@click.option("--deidentify", is_flag=True, help="Write seg.dcm and sr.dcm without patient and study; UIDs are kept.")
@click.option("--assume-hu", "assumes_hu", is_flag=True, help="Accept a CT without air near -1000 or tissue near 0 HU.")
@click.option("--again", is_flag=True, help="Diagnose again, even if the same diagnosis is there.")
@json_option
def diagnose_command(**options: Any) -> None:
    """Find the lung nodules in a CT.

    CT is a DICOM folder, one of its files, or a MetaImage, NRRD or NIfTI file. Writes nodules.csv, nodules.json,
    pictures, a report, for DICOM input a segmentation and a structured report, and last diagnosis.json. The same input,
    models and recipe are not diagnosed again.
    """
    from luna_pipeline.core.diagnosis.manifest import MANIFEST
    from luna_pipeline.core.diagnosis.recipes import DIAGNOSIS_RECIPES, diagnosis_recipe
    from luna_pipeline.core.malloc import keep_freed_memory
    from luna_pipeline.extensions import load_extensions

    load_extensions()
    with usage_errors("--recipe"):
        DIAGNOSIS_RECIPES.check(options["recipe"])
    with usage_errors("--set"):
        recipe = diagnosis_recipe(options.pop("recipe")).with_changes(options.pop("changes"))
    # After the checks: torch takes seconds to import.
    from luna_pipeline.launchers.diagnosis.diagnose import UNCHANGED, DiagnosisRequest, diagnose_ct
    from luna_pipeline.settings import Settings

    keep_freed_memory()
    is_json = options.pop("is_json")
    settings = Settings.from_environment()
    key = settings.patient_key() if options.pop("deidentify") else None
    request = DiagnosisRequest(recipe=recipe, writes_dicom=not options.pop("no_dicom"), patient_key=key, **options)
    stages = []
    with Bars() as bars:

        def on_progress(stage: str, done: int, total: int) -> None:
            stages.append(stage)
            bars.show(stage, done, total)

        diagnosis = diagnose_ct(settings, request, on_progress=on_progress)
    if UNCHANGED in stages:
        unchanged = "Unchanged: the same input, models and recipe were diagnosed before. Add --again to do it again."
        click.echo(unchanged, err=is_json)
    click.echo("\n".join([*_lines(diagnosis), f"Wrote {request.out}. {RESEARCH_USE}"]), err=is_json)
    if is_json:
        print_json(json.loads((request.out / MANIFEST).read_bytes()))


def _lines(diagnosis: "Diagnosis") -> list[str]:
    """Return a result as lines of text."""
    shown = [nodule for nodule in diagnosis.nodules if nodule.probability >= diagnosis.threshold]
    seconds = ", ".join(f"{stage} {value:.1f} s" for stage, value in diagnosis.seconds.items())
    lines = [
        f"Series {diagnosis.series_instance_uid}: {len(shown)} of {len(diagnosis.nodules)} findings have a probability "
        f"of at least {diagnosis.threshold:.3g}.",
    ]
    if shown:
        lines.append("  no.  probability  malignancy  diameter mm  x, y, z mm")
    for number, nodule in enumerate(shown, start=1):
        malignancy = "-" if nodule.malignancy is None else f"{nodule.malignancy:.3f}"
        place = ", ".join(f"{value:.1f}" for value in nodule.center_xyz)
        lines.append(
            f"  {number:>3}  {nodule.probability:>11.3f}  {malignancy:>10}  {nodule.diameter_mm:>11.1f}  {place}"
        )
    if diagnosis.is_synthetic:
        lines.append("Synthetic data: a phantom.")
    models = ", ".join(f"{model.role} {model.name} {model.version}" for model in diagnosis.models)
    return [*lines, *(f"Note: {note}" for note in diagnosis.notes), f"Models: {models}.", f"Seconds: {seconds}."]
