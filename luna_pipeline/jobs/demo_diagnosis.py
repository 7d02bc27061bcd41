"""The demo of the detector: segmenter, official score and one diagnosis on the demo's phantom, each in its own run."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from luna_pipeline.jobs.definition import job
from luna_pipeline.jobs.demo import demo_folders, make_phantom_data, run_stage
from luna_pipeline.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

FOLD = 0
TARGET_RECALL = 0.85
# After a few epochs on few scans, scores of small nodules are below 0.5. Chosen on the validation fold, fold 1.
RECIPE_CHANGES = {"segmentation_threshold": 0.2}
# Stage, asset of the fold with its seconds.
STAGES = [
    ("classifier", "nodule_classifier"),
    ("segmenter", "nodule_segmenter"),
    ("detection and score", "detection_froc"),
]
Changes = dict[str, Any]


@dg.op
def prepare_phantom(context: dg.OpExecutionContext, changes: Changes) -> Changes:
    """Run `ingest` and `cut`, and train the classifier of the fold unless one of this seed is there."""
    with demo_folders() as settings:
        run_stage(context, "ingest")
        run_stage(context, "cut")
        if not _has_classifier(settings, seed=changes["seed"]):
            run_stage(context, "train_nodule_classifier", "nodule_classifier", {"recipe": "demo", **changes})
    return changes


@dg.op
def train_segmenter_on_phantom(context: dg.OpExecutionContext, changes: Changes) -> Changes:
    """Run the job `train_nodule_segmenter` to its end."""
    with demo_folders():
        run_stage(context, "train_nodule_segmenter", "nodule_segmenter", {"recipe": "demo_segmenter", **changes})
    return changes


@dg.op
def detect_on_phantom(context: dg.OpExecutionContext, changes: Changes) -> Changes:
    """Run the job `evaluate_detection` on the untouched fold to its end."""
    with demo_folders():
        run_stage(context, "evaluate_detection", "detection_froc", {"folds": [FOLD], "changes": RECIPE_CHANGES})
    return changes


@dg.op
def diagnose_phantom(context: dg.OpExecutionContext, changes: Changes) -> dict[str, Any]:
    """Diagnose one scan of the untouched fold with the models of this fold, and write all outputs."""
    from luna_pipeline.core.diagnosis.recipes import default
    from luna_pipeline.launchers.diagnosis.detected_fold import diagnose_first_scan

    started = time.perf_counter()
    with demo_folders() as settings:
        folder = diagnose_first_scan(
            settings,
            settings.local_home / "diagnoses",
            recipe=default().with_changes(RECIPE_CHANGES),
            test_fold=FOLD,
            run_ids={"dagster": context.run.run_id},
        )
    return {**changes, "folder": str(folder), "seconds": time.perf_counter() - started}


@dg.op
def summarize_detection(context: dg.OpExecutionContext, changes: dict[str, Any]) -> None:
    """Print scores, seconds by stage and the report's path."""
    from luna_pipeline.launchers.installation import read_table

    with demo_folders() as settings:
        table = read_table(settings, "detection_froc", FOLD)
        seconds = {stage: _seconds(context.instance, asset) for stage, asset in STAGES}
    lines = summary_lines(table, {**seconds, "one diagnosis with its report": changes["seconds"]})
    lines.append(f"Report       {Path(changes['folder']) / 'report.html'}")
    context.log.info("The demo of the detector is done (seed %s):\n%s", changes["seed"], "\n".join(lines))


@job
def demo_diagnosis() -> None:
    """Segmenter, official score of the detector and one diagnosis on the synthetic phantom's untouched fold."""
    summarize_detection(
        diagnose_phantom(detect_on_phantom(train_segmenter_on_phantom(prepare_phantom(make_phantom_data()))))
    )


def summary_lines(table: "pd.DataFrame", seconds: dict[str, float]) -> list[str]:
    """Return the scores of the detectors and the seconds of the stages as lines.

    Args:
        table: One row per detector, the asset `detection_froc`.
        seconds: Seconds by stage.
    """
    lines = [f"Untouched test fold: {table['folds'].iloc[0]} (a synthetic phantom; research use only; 95 % intervals):"]
    lines.append(f"  {'detector':<20} {'CPM':<24} {'recall':>7} {'FP/scan':>8} {'segmented':>10} {'scans':>6}")
    row: Any
    for row in table.itertuples():
        cpm = f"{row.cpm:.3f} [{row.cpm_lower:.3f}, {row.cpm_upper:.3f}]"
        scans = f"{row.num_searched}/{row.num_scans}"
        lines.append(
            f"  {row.model:<20} {cpm:<24} {row.lesion_recall:>7.3f} {row.fps_per_scan:>8.2f} "
            f"{row.search_recall:>10.3f} {scans:>6}"
        )
    first = table.iloc[0]
    is_reached = first["lesion_recall"] >= TARGET_RECALL
    lines.append(
        f"  Target of the detector: recall {TARGET_RECALL} or more at 4 false positives a scan or fewer: "
        f"{'reached' if is_reached else 'not reached'}."
    )
    lines += ["", *(f"{stage:<32}{value:>8.1f} s" for stage, value in seconds.items())]
    return lines


def _has_classifier(settings: Settings, *, seed: int) -> bool:
    """Return whether the fold has a classifier of this seed, trained on the current cutouts."""
    from luna_pipeline.core.storage.files import exists
    from luna_pipeline.core.training.checkpoints import load_checkpoint
    from luna_pipeline.launchers.cross_validation import describe_older, read_current, trained_folds
    from luna_pipeline.launchers.installation import read_index

    if FOLD not in trained_folds(settings, "nodule_classifier"):
        return False
    current = read_current(settings, "nodule_classifier", FOLD)
    path = settings.home / current.path
    if not exists(path) or describe_older(current, read_index(settings)):
        return False
    return load_checkpoint(path).config.seed == seed


def _seconds(instance: dg.DagsterInstance, asset: str) -> float:
    records = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=dg.AssetKey(asset), asset_partitions=[str(FOLD)]), limit=1
    ).records
    event = records[0].asset_materialization if records else None
    return float(event.metadata["seconds"].value) if event else 0.0  # type: ignore[arg-type]
