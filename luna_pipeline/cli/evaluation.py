"""Commands that evaluate a submission officially, and that write the submission of a classifier."""

import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from luna_pipeline.cli.completion import checkpoints, versions_of
from luna_pipeline.cli.grouped import command
from luna_pipeline.cli.options import RESEARCH_USE, source_or_folder
from luna_pipeline.cli.results import json_option, print_json, write_result
from luna_pipeline.cli.terminal import Bars

if TYPE_CHECKING:
    from luna_pipeline.launchers.evaluation.predict import Prediction

TABLE = click.Path(path_type=Path, dir_okay=False)


@command(
    "evaluate_froc",
    "luna evaluate_froc --annotations annotations.csv --series seriesuids.csv --predictions submission.csv",
    "luna evaluate_froc --annotations annotations.csv --excluded annotations_excluded.csv --series seriesuids.csv "
    "--predictions submission.csv --bootstrap 1000 --json froc.json --plot froc.png",
)
@click.option("--annotations", required=True, type=TABLE, help="LUNA16's annotations.csv.")
@click.option("--excluded", type=TABLE, help="LUNA16's annotations_excluded.csv. Default: no finding is ignored.")
@click.option("--series", required=True, type=TABLE, help="LUNA16's seriesuids.csv: the scans, one a row, no header.")
@click.option(
    "--predictions",
    required=True,
    type=TABLE,
    help="The submission: a CSV with the columns seriesuid,coordX,coordY,coordZ,probability (mm).",
)
@click.option(
    "--bootstrap",
    "num_bootstraps",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Bootstrap samples of scans for intervals; officially 1000.",
)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Seed of the bootstrap.")
@click.option("--corrected", is_flag=True, help="Correct the official script's quirks, see docs/how_to/evaluate.md.")
@click.option(
    "--json", "json_file", type=TABLE, help="Output file of the result, as JSON; - is standard output. Default: none."
)
@click.option("--plot", "plot_file", type=TABLE, help="Output file of the curve, as PNG. Default: none.")
@click.option(
    "--searched",
    type=click.Path(path_type=Path),
    help="The scans that were searched: a list, one a row, a diagnosis.json, or a folder of diagnoses. Scans that were "
    "not are reported, with a second result over the searched ones.",
)
@click.option("--refuse-unsearched", is_flag=True, help="With --searched: fail if a listed scan was not searched.")
def evaluate_froc_command(**options: Any) -> None:
    """Score a submission like LUNA16: FROC and its mean sensitivity at seven rates (CPM).

    Each table may be a .csv or a .csv.gz.
    """
    from luna_pipeline.core.evaluation.froc_files import check_marks, read_froc_tables
    from luna_pipeline.core.evaluation.froc_matching import MAX_MARKS_PER_SCAN
    from luna_pipeline.core.evaluation.official import evaluate_froc
    from luna_pipeline.core.evaluation.searched import check_searched, evaluate_searched, read_searched
    from luna_pipeline.core.storage.files import write_bytes

    is_corrected, searched = options["corrected"], None
    if options["refuse_unsearched"] and options["searched"] is None:
        msg = "--refuse-unsearched must come with --searched, got none. Name the scans that were searched."
        raise click.UsageError(msg)
    tables = read_froc_tables(
        annotations=options["annotations"],
        excluded=options["excluded"],
        series=options["series"],
        predictions=options["predictions"],
        is_corrected=is_corrected,
    )
    warnings = check_marks(tables)
    if options["searched"] is not None:
        searched = read_searched(options["searched"])
        warnings += check_searched(tables, searched, refuses_unsearched=options["refuse_unsearched"])
    for line in warnings:
        click.echo(f"Warning: {line}", err=True)
    how = {"num_bootstraps": options["num_bootstraps"], "seed": options["seed"], "is_corrected": is_corrected}
    both = None if searched is None else evaluate_searched(tables, searched, **how)
    result = evaluate_froc(tables, **how) if both is None else both.official
    values = result.to_dict() if both is None else both.to_dict()
    if not values["counts"]["true_positives"] + values["counts"]["false_positives"]:
        num_given = int(tables.marks["series_instance_uid"].isin(tables.scans).sum())
        click.echo(
            f"Warning: {num_given} marks are of listed scans, and none is left after the limit of {MAX_MARKS_PER_SCAN} "
            "a scan and the excluded findings.",
            err=True,
        )
    if options["plot_file"]:
        from luna_pipeline.core.evaluation.froc_plot import froc_png

        write_bytes(options["plot_file"], froc_png({options["predictions"].name: result}))
    click.echo("\n".join(_lines(values)), err=write_result(options["json_file"], values))


def _lines(values: dict[str, Any]) -> list[str]:
    """Return a result as lines of text."""
    lines = [f"{values['n_scans']} scans, {_counts(values)}", *_scores(values)]
    if "searched" in values:
        lines += _searched_lines(values["searched"])
    return [*lines, RESEARCH_USE]


def _searched_lines(values: dict[str, Any]) -> list[str]:
    missing = values["not_searched"]
    if not missing:
        return ["Every listed scan was searched."]
    return [
        f"{len(missing)} of {values['n_scans']} listed scans were not searched (the first is {missing[0]}). Above, "
        "they count as free of false positives and their nodules as missed.",
        f"Over the {values['n_searched']} searched scans alone: {_counts(values)}",
        *_scores(values),
    ]


def _counts(values: dict[str, Any]) -> str:
    counts = values["counts"]
    return (
        f"{counts['total_nodules']} nodules: {counts['true_positives']} found, "
        f"{counts['false_positives']} false positives, {counts['ignored_on_excluded']} marks on excluded findings, "
        f"{counts['ignored_double_detections']} doubles."
    )


def _scores(values: dict[str, Any]) -> list[str]:
    """Return the sensitivities and the CPM of a result as lines."""
    from luna_pipeline.core.evaluation.froc import OPERATING_POINTS

    band = values["bootstrap"]
    bounds: list[Any] = [None] * len(OPERATING_POINTS)
    if band is not None:
        bounds = list(zip(band["sens_lower"], band["sens_upper"], strict=True))
    rates = zip(OPERATING_POINTS, values["sens_at_points"], bounds, strict=True)
    return [
        *(f"  {rate:>5g} FP/scan: {_number(value)}{_interval(pair)}" for rate, value, pair in rates),
        f"CPM {_number(values['cpm'])}" + _interval(band and (band["cpm_lower"], band["cpm_upper"])),
    ]


def _number(value: float | None) -> str:
    return "undefined" if value is None or math.isnan(value) else f"{value:.6f}"


def _interval(bounds: Any) -> str:
    return "" if bounds is None else f"  [{_number(bounds[0])}, {_number(bounds[1])}]"


@command(
    "predict",
    "luna predict classification 0.0.1 --fold 0 --out submission.csv",
    "luna predict best.pt --cutouts on_the_fly --out submission.csv",
)
@click.argument("name", shell_complete=checkpoints)
@click.argument("version", required=False, shell_complete=versions_of("name"))
@click.option("--out", required=True, type=TABLE, help="Output file of the submission, as CSV.")
@click.option(
    "--from",
    "loader",
    type=click.Choice(["file", "mlflow"]),
    default="file",
    show_default=True,
    help="Source of the classifier: checkpoints in LUNA_HOME, or MLflow's registry.",
)
@click.option(
    "--cutouts",
    callback=source_or_folder,
    default="stored",
    show_default=True,
    metavar="stored|on_the_fly|FOLDER",
    help="LUNA_HOME's candidates, read from the cutout files or cut from the raw CTs; or everything in the files of a "
    "folder, annotated centres too.",
)
@click.option("--fold", type=click.IntRange(0), help="Only LUNA_HOME's candidates of this fold. Default: all.")
@click.option(
    "--workers",
    "num_workers",
    default=0,
    show_default=True,
    type=click.IntRange(0),
    help="Number of processes that load data; 0: this process itself.",
)
@click.option(
    "--verify/--no-verify",
    default=True,
    show_default=True,
    help="Compare each cutout file with its checksums before it is first read; done once for each file and content.",
)
@json_option
def predict_command(**options: Any) -> None:
    """Score cutouts with a classifier and write a submission for LUNA16.

    Without VERSION the newest of NAME is used. NAME may also be the file of a checkpoint (…/best.pt), without a
    version.
    """
    from luna_pipeline.extensions import load_extensions
    from luna_pipeline.launchers.evaluation.predict import PredictionRequest, predict
    from luna_pipeline.settings import Settings

    if isinstance(options["cutouts"], Path) and options["fold"] is not None:
        msg = "A fold must be one of LUNA_HOME's candidates, got --fold with --cutouts FOLDER. Leave one out."
        raise click.UsageError(msg)
    is_json = options.pop("is_json")
    load_extensions()
    with Bars() as bars:
        made = predict(
            Settings.from_environment(), PredictionRequest(**options), on_batch=partial(bars.show, "scoring")
        )
    for reason in made.left_out.values():
        click.echo(f"Left out: {reason}", err=True)
    if made.sample:
        click.echo(f"Warning: {made.sample}", err=True)
    if made.checkpoint.has_unknown_origin:
        click.echo(
            f"Warning: what the weights of {made.checkpoint.name} have seen is not known: scores may test nothing.",
            err=True,
        )
    if made.num_seen_series:
        click.echo(
            f"Warning: {made.num_seen_series} of {made.num_series} series were seen in training or validation: their "
            "scores test nothing.",
            err=True,
        )
    click.echo(
        f"Wrote {options['out']}: {made.num_candidates} candidates of {made.num_series} series by "
        f"{made.checkpoint.name} {made.checkpoint.version}. {RESEARCH_USE}",
        err=is_json,
    )
    if is_json:
        print_json(_prediction_values(made, options["out"]))


def _prediction_values(made: "Prediction", out: Path) -> dict[str, Any]:
    """Return a written submission for a program."""
    return {
        "path": str(out),
        "name": made.checkpoint.name,
        "version": made.checkpoint.version,
        "num_candidates": made.num_candidates,
        "num_series": made.num_series,
        "num_seen_series": made.num_seen_series,
        "has_unknown_origin": made.checkpoint.has_unknown_origin,
        "left_out": dict(made.left_out),
        "sample": made.sample,
    }
