"""Summary of the results of all stages as text: ``python -m luna_pipeline.jobs.demo_summary``."""

import math
from typing import Any

import dagster as dg

from luna_pipeline.settings import REPOSITORY, Settings

# Stage, asset, key of the metadata with the count, unit of the count.
ROWS = [
    ("1 ct", "ct_series", "num_series", "series"),
    ("2 candidates", "candidates", "dagster/row_count", "candidates and annotations"),
    ("2 candidates", "folds", "num_folds", "folds"),
    ("3 cutouts", "cutouts", "num_candidates", "cutouts"),
    ("3 cutouts", "cutout_index", "dagster/row_count", "rows"),
    ("4 training", "nodule_classifier", "epochs", "epochs"),
    ("4 training", "zero_rule_baseline", "dagster/row_count", "row"),
    ("4 training", "feature_baseline", "dagster/row_count", "scores"),
    ("5 evaluation", "nodule_predictions", "dagster/row_count", "scores"),
    ("5 evaluation", "nodule_report", "dagster/row_count", "models"),
    ("5 evaluation", "leaderboard", "dagster/row_count", "models"),
]


def summary_of(instance: dg.DagsterInstance, settings: Settings) -> str:
    """Return the table of stages, the test-fold scores and the paths of the results, as text."""
    lines = [f"{'stage':<14}{'asset':<22}{'count':>8}  {'of':<28}{'seconds':>8}"]
    for stage, asset, counter, what in ROWS:
        count, seconds = _count_and_seconds(instance, asset, counter)
        lines.append(f"{stage:<14}{asset:<22}{count:>8}  {what:<28}{seconds:>8.1f}")
    lines += ["", *_scores(settings), "", *_places(instance, settings)]
    return "\n".join(lines)


def _count_and_seconds(instance: dg.DagsterInstance, asset: str, counter: str) -> tuple[int, float]:
    newest: dict[str | None, dict[str, Any]] = {}
    for record in instance.fetch_materializations(dg.AssetKey(asset), limit=1000).records:
        event = record.asset_materialization
        if event and event.partition not in newest:
            newest[event.partition] = {name: entry.value for name, entry in event.metadata.items()}
    count = sum(int(metadata.get(counter, 0)) for metadata in newest.values())
    return count, sum(float(metadata.get("seconds", 0.0)) for metadata in newest.values())


def _scores(settings: Settings) -> list[str]:
    from luna_pipeline.launchers.installation import read_table

    board = read_table(settings, "leaderboard")
    data = "a synthetic phantom" if settings.is_synthetic else "CT"
    lines = [f"Untouched test folds: {board['folds'].iloc[0]} ({data}; research use only; 95 % intervals):"]
    row: Any
    for row in board.itertuples():
        better = {True: "better than the next", False: "not clearly better than the next"}.get(row.better_than_next, "")
        cpm = _figure(row.cpm, row.cpm_lower, row.cpm_upper)
        auc = _figure(row.auc, row.auc_lower, row.auc_upper)
        origin = "" if row.is_origin_known else "training data of its weights unknown"
        words = ", ".join(filter(None, [better, origin, getattr(row, "notes", "")]))
        lines.append(f"  {row.rank}  {row.model:<22} CPM {cpm}   AUC {auc}   {words}".rstrip())
    return lines


def _figure(value: float, lower: float, upper: float) -> str:
    interval = "" if math.isnan(lower) else f"[{lower:.3f}, {upper:.3f}]"
    return f"{'undefined' if math.isnan(value) else f'{value:.3f}'} {interval:<14}"


def _places(instance: dg.DagsterInstance, settings: Settings) -> list[str]:
    event = instance.get_latest_materialization_event(dg.AssetKey("nodule_classifier"))
    metadata = event.asset_materialization.metadata if event and event.asset_materialization else {}
    values = {name: entry.value for name, entry in metadata.items()}
    root = settings.local_home.parent
    shown = root.relative_to(REPOSITORY) if root.is_relative_to(REPOSITORY) else root
    return [
        f"Checkpoint   {values.get('path', 'none')}",
        f"MLflow run   {values.get('mlflow_run_id', 'none')} in {settings.mlflow_tracking_uri}",
        f"             make mlflow-server ROOT={shown}",
        f"TensorBoard  {values.get('tensorboard', 'none')}",
        f"             make tensorboard-classification ROOT={shown}",
        f"Dagster      make ui ROOT={shown}",
    ]


def main() -> None:
    """Print the summary of the installation that DAGSTER_HOME and LUNA_HOME name."""
    with dg.DagsterInstance.get() as instance:
        print(summary_of(instance, Settings.from_environment()))


if __name__ == "__main__":
    main()
