"""Commands that train classifiers and segmenters, from new or existing weights, and resume interrupted runs."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from luna_pipeline.cli.completion import changes as complete_changes
from luna_pipeline.cli.completion import checkpoints, registered, versions_of
from luna_pipeline.cli.grouped import command
from luna_pipeline.cli.options import RESEARCH_USE, changed_values, cutouts_option, usage_errors
from luna_pipeline.cli.results import write_result
from luna_pipeline.core.malloc import keep_freed_memory
from luna_pipeline.extensions import load_extensions
from luna_pipeline.options import TrainingOptions, click_options, options_of
from luna_pipeline.settings import Settings

if TYPE_CHECKING:
    from luna_pipeline.core.training.config import TrainingConfig

NODULES, MALIGNANCY, SEGMENTER = "nodule_baseline", "malignancy_baseline", "segmenter_baseline"


RUN_OPTIONS = [
    *click_options(TrainingOptions, "profile"),
    cutouts_option,
    click.option(
        "--workers",
        default=0,
        show_default=True,
        type=click.IntRange(0),
        help="Number of processes that load data; 0: the training process itself.",
    ),
    click.option(
        "--handler",
        "handlers",
        multiple=True,
        shell_complete=registered("handlers"),
        metavar="NAME",
        help="Registered message handler, which also receives the values of the run. Can be repeated.",
    ),
    click.option(
        "--checkpoint-seconds",
        default=600.0,
        show_default=True,
        type=click.FloatRange(0),
        help="Seconds between checkpoints within an epoch.",
    ),
]
FOLD_OPTIONS = [
    click.option("--test-fold", type=click.IntRange(0), help="Fold left out of training. Default: the first fold."),
    click.option(
        "--validation-fold",
        type=click.IntRange(0),
        help="Fold that chooses the best epoch and the threshold. Default: the fold after the test fold.",
    ),
]
CONFIGURATION_OPTIONS = [
    click.option(
        "--recipe",
        metavar="NAME",
        shell_complete=registered("recipes"),
        help="Complete configuration to start from, by name. Default: the baseline of the command.",
    ),
    click.option(
        "--config",
        "config_file",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        help="A complete configuration as JSON, used instead of a recipe.",
    ),
    click.option(
        "--set",
        "changes",
        multiple=True,
        callback=changed_values,
        shell_complete=complete_changes,
        metavar="PLACE=VALUE",
        help="Change one value of the configuration, such as network.dropout_rate=0.4. Can be repeated.",
    ),
    click.option(
        "--result",
        "result_file",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Write name, version, scores and paths to this JSON file; - is standard output.",
    ),
]
TRAINING_OPTIONS = [
    click.argument("version"),
    *click_options(TrainingOptions, "epochs", "batch_size", "seed"),
    *FOLD_OPTIONS,
    *CONFIGURATION_OPTIONS,
    click.option("--no-resume", is_flag=True, help="Start from scratch, even if the same run was interrupted."),
    click.option("--no-mlflow", is_flag=True, help="Write checkpoints and TensorBoard logs only."),
    *RUN_OPTIONS,
]
SOURCE_OPTIONS = [
    click.argument("version"),
    click.argument("loader", type=click.Choice(["file", "mlflow"])),
    click.argument("from_name", shell_complete=checkpoints),
    click.argument("from_version", shell_complete=versions_of("from_name")),
    click.option(
        "--learn",
        type=click.Choice(["head", "all"]),
        help="Layers that are trained. Default: the head for a new task, else all.",
    ),
    *TRAINING_OPTIONS[1:],
]


def configuration(recipe: str, options: dict[str, Any], changes: dict[str, Any]) -> "TrainingConfig":
    """Return the configuration of ``--recipe`` or ``--config`` with changes; ``recipe`` is the default.

    Raises:
        click.UsageError: If there is no such recipe, or a change is not allowed.
        ValueError: If the file of ``--config`` is no configuration.
    """
    from luna_pipeline.core.training.recipes import RECIPES
    from luna_pipeline.launchers.training.train import configured

    name = options["recipe"] or recipe
    with usage_errors("--recipe"):
        RECIPES.check(name)
    config = configured(name, options["config_file"], {})
    with usage_errors():
        return config.with_changes({place: value for place, value in changes.items() if value is not None})


def with_options(options: list[Any]) -> Callable[[Any], Any]:
    """Return a decorator that gives a command these options, in this order."""

    def add(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return add


@command(
    "train_luna_classification",
    "luna train_luna_classification 0.0.1 --epochs 5 --batch-size 64",
    "luna train_luna_classification 0.1.0 --test-fold 2 --set network.name=resnet",
)
@with_options(TRAINING_OPTIONS)
def train_luna_classification(**options: Any) -> None:
    """Train the nodule classifier on the cutouts in LUNA_HOME.

    The checkpoint gets the version VERSION. Where that exists, it is not overwritten: the next build, VERSION+1, is
    made.
    """
    _train(NODULES, options)


@command(
    "train_luna_malignant_classification", "luna train_luna_malignant_classification 0.0.1 --epochs 5 --batch-size 64"
)
@with_options(TRAINING_OPTIONS)
def train_luna_malignant_classification(**options: Any) -> None:
    """Train the malignancy classifier on the cutouts in LUNA_HOME.

    The checkpoint gets the version VERSION. Where that exists, it is not overwritten: the next build, VERSION+1, is
    made.
    """
    _train(MALIGNANCY, options)


@command("train_luna_segmentation", "luna train_luna_segmentation 0.0.1 --epochs 20")
@with_options(TRAINING_OPTIONS)
def train_luna_segmentation(**options: Any) -> None:
    """Train the nodule segmenter on the CTs in LUNA_DATA_DIR and their annotations.

    The checkpoint gets the version VERSION. Where that exists, it is not overwritten: the next build, VERSION+1, is
    made. The tables of CTs, candidates and folds in LUNA_HOME must be there; no cutouts are needed.
    """
    _train(SEGMENTER, options)


@command(
    "load_train_luna_classification", "luna load_train_luna_classification 0.0.2 file classification 0.0.1 --epochs 5"
)
@with_options(SOURCE_OPTIONS)
def load_train_luna_classification(**options: Any) -> None:
    """Train the nodule classifier from the weights of another run.

    The weights are those of FROM_NAME FROM_VERSION. The result is VERSION, or its next build where that exists.
    FROM_NAME is a run's name, or `classification` or `malignant classification` for the two classifiers.
    """
    _train(NODULES, options)


@command(
    "load_train_luna_malignant_classification",
    "luna load_train_luna_malignant_classification 0.0.1 file classification 0.0.1 --epochs 5 --learn head",
)
@with_options(SOURCE_OPTIONS)
def load_train_luna_malignant_classification(**options: Any) -> None:
    """Train the malignancy classifier from the weights of another run.

    The weights are those of FROM_NAME FROM_VERSION. The result is VERSION, or its next build where that exists.
    From a nodule classifier, a fresh last layer is trained and the rest is frozen, unless --learn all.
    """
    _train(MALIGNANCY, options)


@command("resume", "luna resume nodule_classifier 0.0.1")
@click.argument("name", shell_complete=checkpoints)
@click.argument("version", shell_complete=versions_of("name"))
@with_options(RUN_OPTIONS)
def resume(name: str, version: str, **options: Any) -> None:
    """Resume the interrupted run NAME VERSION from its last checkpoint."""
    _prepare()
    from luna_pipeline.launchers.training.train import train, unfinished_request

    settings = Settings.from_environment()
    _report(train(settings, unfinished_request(settings, name, version, _run_options(options))))


def _train(recipe: str, options: dict[str, Any]) -> None:
    _prepare()
    from luna_pipeline.core.training.config import StartConfig
    from luna_pipeline.launchers.training.train import TrainingRequest, train

    changes = {
        "version": options["version"],
        **options_of(TrainingOptions, options).changes,
        **options["changes"],
    }
    start = None
    if "loader" in options:
        start = StartConfig(loader=options["loader"], name=options["from_name"], version=options["from_version"])
    request = TrainingRequest(
        config=configuration(recipe, options, changes),
        test_fold=options["test_fold"],
        validation_fold=options["validation_fold"],
        start=start,
        head_only=None if options.get("learn") is None else options["learn"] == "head",
        # A run that torchrun restarted is resumed in any case.
        resume=not options["no_resume"] or int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0,
        uses_mlflow=not options["no_mlflow"],
        options=_run_options(options),
    )
    _report(train(Settings.from_environment(), request), options["result_file"])


def _prepare() -> None:
    """Load extensions and set up the memory allocator."""
    load_extensions()
    keep_freed_memory()


def _run_options(options: dict[str, Any]) -> Any:
    from luna_pipeline.launchers.training.run import RunOptions
    from luna_pipeline.tracking.handlers import HANDLERS

    for name in options["handlers"]:
        with usage_errors("--handler"):
            HANDLERS.check(name)
    return RunOptions(
        cutouts=options["cutouts"],
        num_workers=options["workers"],
        seconds_between_checkpoints=options["checkpoint_seconds"],
        is_profiled=options["profile"],
        handlers=tuple(options["handlers"]),
    )


def _report(trained: Any, result_file: Path | None = None) -> None:
    if os.environ.get("RANK", "0") != "0":
        # One of torchrun's processes reports.
        return
    checkpoint = trained.checkpoint
    click.echo(
        f"Wrote {trained.path} ({checkpoint.name} {trained.version}, epoch {checkpoint.epoch}, validation "
        f"{checkpoint.config.score_name} {checkpoint.best_score:.4f}). {RESEARCH_USE}",
        err=write_result(result_file, _values(trained)),
    )


def _values(trained: Any) -> dict[str, Any]:
    """Return the result of a run for a program."""
    checkpoint = trained.checkpoint
    return {
        "name": checkpoint.name,
        "version": trained.version,
        "epoch": checkpoint.epoch,
        f"validation_{checkpoint.config.score_name.lower().replace(' ', '_')}": checkpoint.best_score,
        "threshold": checkpoint.threshold,
        "path": str(trained.path),
        "mlflow_run_id": trained.mlflow_run_id,
        "model_uri": trained.model_uri,
        "seconds": trained.seconds,
        "index_digest": trained.index_digest,
        "history": trained.history.to_dict("records"),
    }
