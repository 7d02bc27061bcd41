"""Commands that search for better configurations, on this machine or on a Ray cluster."""

import json
from pathlib import Path
from typing import Any

import click

from luna_pipeline.cli.training import CONFIGURATION_OPTIONS, FOLD_OPTIONS, MALIGNANCY, NODULES, with_options
from luna_pipeline.extensions import load_extensions
from luna_pipeline.settings import Settings

BUDGET_OPTIONS = [
    click.option("--epochs", type=click.IntRange(1), help="Of a trial that is not stopped; default: the recipe's."),
    click.option(
        "--trials", type=click.IntRange(2), help="With the recipe as it is; default: 16, of a grid its combinations."
    ),
    click.option("--total-epochs", type=click.IntRange(1), help="So many of all trials together end the study."),
    click.option("--seconds", type=click.FloatRange(0, min_open=True), help="So many end the study."),
]
SEARCH_OPTIONS = [
    click.option("--space", default="learning", show_default=True, help="A name (docs/tuning.md), or a JSON file."),
    click.option("--search", type=click.Choice(["grid", "random", "optuna"]), default="random", show_default=True),
    click.option("--scheduler", type=click.Choice(["asha", "none"]), default="asha", show_default=True),
    click.option("--metric", type=click.Choice(["cpm", "auc"]), help="Default: cpm of nodules, auc of malignancy."),
    click.option("--grace-epochs", default=1, show_default=True, type=click.IntRange(1), help="No stop before."),
    click.option("--reduction-factor", default=3, show_default=True, type=click.IntRange(2), help="One in so many."),
    click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Of the draws."),
]
RAY_OPTIONS = [
    click.option("--cpus", default=1, show_default=True, type=click.IntRange(1), help="CPUs of a trial."),
    click.option("--gpus", type=click.FloatRange(0), help="GPUs of a trial; default: one where there is any."),
    click.option("--concurrent", type=click.IntRange(1), help="Trials at once; default: as many as there is room for."),
    click.option("--max-restarts", default=3, show_default=True, type=click.IntRange(0), help="Of a lost trial."),
    click.option("--ray-address", help="Head of a cluster, HOST:PORT; default: RAY_ADDRESS, else this machine."),
    click.option("--dashboard", is_flag=True, help="Show Ray's dashboard, on 127.0.0.1."),
    click.option("--no-resume", is_flag=True, help="Begin anew, even where the same study was interrupted."),
    click.option("--no-mlflow", is_flag=True, help="Keep files and TensorBoard only."),
    click.option("--no-winner", is_flag=True, help="Do not train the winner again, nor judge it on the test fold."),
]


def _tuning_command(name: str, recipe: str, what: str) -> click.Command:
    @click.command(name, help=f"Search a better configuration of the {what}, on the cutouts below LUNA_HOME.")
    @click.option("--version", help="Of the study and of what it trains; default: the recipe's.")
    @with_options([*BUDGET_OPTIONS, *SEARCH_OPTIONS, *CONFIGURATION_OPTIONS, *FOLD_OPTIONS, *RAY_OPTIONS])
    def command(**options: Any) -> None:
        _tune(recipe, options)

    return command


tune_luna_classification = _tuning_command("tune_luna_classification", NODULES, "nodule classifier")
tune_luna_malignant_classification = _tuning_command(
    "tune_luna_malignant_classification", MALIGNANCY, "malignancy classifier"
)


def _tune(recipe: str, options: dict[str, Any]) -> None:
    load_extensions()
    from luna_pipeline.launchers.training.train import configured
    from luna_pipeline.tuning.study import study_of

    base = configured(
        options["recipe"] or recipe, options["config_file"], {"version": options["version"], **options["changes"]}
    )
    study = study_of(
        base,
        space=options["space"],
        searcher=options["search"],
        scheduler=options["scheduler"],
        metric=options["metric"],
        num_trials=options["trials"],
        num_epochs=options["epochs"],
        total_epochs=options["total_epochs"],
        total_seconds=options["seconds"],
        grace_epochs=options["grace_epochs"],
        reduction_factor=options["reduction_factor"],
        seed=options["seed"],
    )
    # Ray takes two seconds to load: what is wrong with the question is said before.
    from luna_pipeline.tuning.request import TuningRequest
    from luna_pipeline.tuning.resources import TrialResources
    from luna_pipeline.tuning.tune import tune_parameters

    request = TuningRequest(
        study=study,
        test_fold=options["test_fold"],
        validation_fold=options["validation_fold"],
        resources=TrialResources(
            cpus=options["cpus"],
            gpus=options["gpus"],
            max_concurrent=options["concurrent"],
            max_restarts=options["max_restarts"],
        ),
        address=options["ray_address"],
        has_dashboard=options["dashboard"],
        resume=not options["no_resume"],
        uses_mlflow=not options["no_mlflow"],
        trains_winner=not options["no_winner"],
        report=lambda line: click.echo(line, err=True),
    )
    _tell(tune_parameters(Settings.from_environment(), request), options["result_file"])


def _tell(tuned: Any, result_file: Path | None) -> None:
    folder = tuned.place.folder
    if result_file is not None:
        values = {
            "study": tuned.title,
            "folder": str(folder),
            "winner": tuned.winner.trial,
            "changes": tuned.winner.changes,
            "classifier": None if tuned.classifier is None else str(tuned.classifier.path),
            "comparison": None if tuned.comparison is None else tuned.comparison.as_dict(),
            "conclusion": tuned.conclusion,
            "mlflow_run_id": tuned.mlflow_run_id,
            "trials": json.loads(tuned.table.to_json(orient="records")),
        }
        result_file.write_text(json.dumps(values, indent=1), encoding="utf-8")
    click.echo(f"Wrote {folder}: {len(tuned.table)} trials (trials.csv), the best configuration (best.json), pictures.")
    if tuned.classifier is not None:
        click.echo(f"Wrote {tuned.classifier.path} ({tuned.classifier.checkpoint.name} {tuned.classifier.version}).")
    click.echo(tuned.conclusion)


COMMANDS = [tune_luna_classification, tune_luna_malignant_classification]
