"""Commands that search for better configurations on this machine or a Ray cluster."""

import json
from pathlib import Path
from typing import Any

import click

from luna_pipeline.cli.completion import registered
from luna_pipeline.cli.grouped import command
from luna_pipeline.cli.options import usage_errors
from luna_pipeline.cli.results import write_result
from luna_pipeline.cli.training import (
    CONFIGURATION_OPTIONS,
    FOLD_OPTIONS,
    MALIGNANCY,
    NODULES,
    configuration,
    with_options,
)
from luna_pipeline.extensions import load_extensions
from luna_pipeline.options import click_options, options_of
from luna_pipeline.settings import Settings
from luna_pipeline.tuning.options import TuningOptions

SEARCH_OPTIONS = click_options(TuningOptions, shell_complete={"space": registered("search_spaces")})
STUDY_OPTIONS = [
    click.option("--ray-address", help="Head of a cluster, HOST:PORT. Default: RAY_ADDRESS, else this machine."),
    click.option("--dashboard", is_flag=True, help="Start Ray's dashboard on 127.0.0.1."),
    click.option("--no-resume", is_flag=True, help="Start from scratch, even if the same study was interrupted."),
    click.option("--no-mlflow", is_flag=True, help="Write files and TensorBoard logs only."),
    click.option("--no-winner", is_flag=True, help="Do not retrain the winner and score it on the test fold."),
]


def _tuning_command(name: str, recipe: str, what: str) -> click.Command:
    @command(
        name,
        f"luna {name} --trials 16 --epochs 5",
        f"luna {name} --space network --search optuna --seconds 3600",
        help=f"Search for a better configuration of the {what}.",
    )
    @click.option("--version", help="Version of the study and its classifiers. Default: the recipe's.")
    @with_options(
        [
            *SEARCH_OPTIONS,
            *CONFIGURATION_OPTIONS,
            *FOLD_OPTIONS,
            *STUDY_OPTIONS,
        ]
    )
    def tune(**options: Any) -> None:
        _tune(recipe, options)

    return tune


tune_luna_classification = _tuning_command("tune_luna_classification", NODULES, "nodule classifier")
tune_luna_malignant_classification = _tuning_command(
    "tune_luna_malignant_classification", MALIGNANCY, "malignancy classifier"
)


def _tune(recipe: str, options: dict[str, Any]) -> None:
    load_extensions()
    base = configuration(recipe, options, {"version": options["version"], **options["changes"]})
    asked = options_of(TuningOptions, options)
    with usage_errors():
        study = asked.study(base)
    # Ray takes two seconds to load; an invalid study is rejected before.
    from luna_pipeline.tuning.request import TuningRequest
    from luna_pipeline.tuning.tune import tune_parameters

    request = TuningRequest(
        study=study,
        test_fold=options["test_fold"],
        validation_fold=options["validation_fold"],
        resources=asked.resources(),
        address=options["ray_address"],
        has_dashboard=options["dashboard"],
        resume=not options["no_resume"],
        uses_mlflow=not options["no_mlflow"],
        trains_winner=not options["no_winner"],
        report=lambda line: click.echo(line, err=True),
    )
    _report(tune_parameters(Settings.from_environment(), request), options["result_file"])


def _report(tuned: Any, result_file: Path | None) -> None:
    folder = tuned.place.folder
    lines = [f"Wrote {folder}: {len(tuned.table)} trials (trials.csv), the best configuration (best.json), pictures."]
    if tuned.classifier is not None:
        lines += [f"Wrote {tuned.classifier.path} ({tuned.classifier.checkpoint.name} {tuned.classifier.version})."]
    click.echo("\n".join([*lines, tuned.conclusion]), err=write_result(result_file, _values(tuned)))


def _values(tuned: Any) -> dict[str, Any]:
    """Return the result of a study for a program."""
    return {
        "study": tuned.title,
        "folder": str(tuned.place.folder),
        "winner": tuned.winner.trial,
        "changes": tuned.winner.changes,
        "classifier": None if tuned.classifier is None else str(tuned.classifier.path),
        "comparison": None if tuned.comparison is None else tuned.comparison.as_dict(),
        "conclusion": tuned.conclusion,
        "mlflow_run_id": tuned.mlflow_run_id,
        "trials": json.loads(tuned.table.to_json(orient="records")),
    }
