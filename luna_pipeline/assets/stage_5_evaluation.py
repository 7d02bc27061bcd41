"""Stage 5: scores of the classifiers on test folds that they have not seen."""

import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import dagster as dg

from luna_pipeline.assets.leak_check import leak_result, stop_at_leak
from luna_pipeline.assets.stage_4_baselines import models_metadata, scoring_asset
from luna_pipeline.assets.training_config import PredictionConfig
from luna_pipeline.launchers.installation import MODELS_TABLES
from luna_pipeline.partitions import fold_of_partition
from luna_pipeline.resources import CutoutCutting, LunaPaths

if TYPE_CHECKING:
    from luna_pipeline.core.evaluation.leaks import LeakReport
    from luna_pipeline.core.training.checkpoints import Checkpoint
    from luna_pipeline.launchers.evaluation.fold_predictions import FoldPredictions
    from luna_pipeline.settings import Settings

GROUP = "stage_5_evaluation"
KINDS = {"python", "pytorch"}


def pooled_deps(task: str) -> list[str]:
    """Return the assets that are read when a task's test folds are pooled; not every fold has to exist.

    Args:
        task: `nodule` or `malignancy`.
    """
    tuned = ["tuned_nodule_classifier"] if task == "nodule" else []
    return [f"{task}_predictions", f"{task}_classifier", *tuned, "candidates", "cutout_index", "folds"]


FORM = (
    "Form: candidate id, series uid, x_mm, y_mm, z_mm, class, fold, model, probability, the model's thresholds and its "
    "calibrated probability (nan without a calibration); one row per candidate and model. Models trained on series of "
    "the test fold are rejected. Research use only."
)


@scoring_asset(
    "nodule_predictions",
    "Scores of every candidate of the test fold by the network, the winner of a study if there is one, and the "
    f"baselines; and the network's submission for LUNA16: `submissions/<model>/<fold>.csv`. {FORM}",
    kinds=KINDS,
    code_version="3",
    pool="gpu",
    group_name=GROUP,
    deps=["folds", "tuned_nodule_classifier"],
)
def nodule_predictions(
    context: dg.AssetExecutionContext,
    config: PredictionConfig,
    cutting: CutoutCutting,
    candidates: Any,
    cutout_index: Any,
    nodule_classifier: Any,
    zero_rule_baseline: Any,
    feature_baseline: Any,
) -> Iterator[dg.Output[Any] | dg.AssetCheckResult]:
    """Score the test fold for nodules."""
    from luna_pipeline.core.malloc import keep_freed_memory
    from luna_pipeline.launchers.evaluation import fold_predictions

    started = time.perf_counter()
    keep_freed_memory()
    settings, fold = cutting.paths.settings, fold_of_partition(context)
    tuned = [name for name in fold_predictions.tuned_of_fold(settings, cutout_index, fold) if name not in config.also]
    classifiers = fold_predictions.classifiers_of_fold(
        settings, nodule_classifier, [*config.also, *tuned], test_fold=fold
    )
    reports = _leaks(settings, classifiers.values(), cutout_index, fold)
    yield from stop_at_leak("nodule_predictions", fold, reports)
    predicted = fold_predictions.predict_test_fold(
        index=cutout_index,
        candidates=candidates,
        store=cutting.source,
        test_fold=fold,
        classifiers=classifiers,
        zero_rule_score=float(zero_rule_baseline["probability"].iloc[0]),
        baselines=_baselines(cutting.paths, "feature_baseline", fold, feature_baseline),
    )
    files = fold_predictions.write_submissions(settings, predicted, test_fold=fold)
    submission = {"submission": dg.MetadataValue.path(str(files[nodule_classifier.name]))}
    notes = _notes(context, settings, nodule_classifier.name, cutout_index)
    yield dg.Output(predicted, metadata=_metadata(predicted, started) | submission | notes)
    yield leak_result("nodule_predictions", fold, reports)


@scoring_asset(
    "malignancy_predictions",
    "Scores of the rated nodules and the other candidates of the test fold. Class 1: malignant nodules; nodules "
    f"without a rating are left out. {FORM}",
    kinds=KINDS,
    code_version="1",
    pool="gpu",
    group_name=GROUP,
    deps=["folds"],
)
def malignancy_predictions(
    context: dg.AssetExecutionContext,
    config: PredictionConfig,
    cutting: CutoutCutting,
    candidates: Any,
    cutout_index: Any,
    malignancy_classifier: Any,
    malignancy_feature_baseline: Any,
) -> Iterator[dg.Output[Any] | dg.AssetCheckResult]:
    """Score the test fold for malignancy."""
    from luna_pipeline.core.malloc import keep_freed_memory
    from luna_pipeline.launchers.evaluation import fold_predictions

    started = time.perf_counter()
    keep_freed_memory()
    settings, store, fold = cutting.paths.settings, cutting.source, fold_of_partition(context)
    classifiers = fold_predictions.classifiers_of_fold(settings, malignancy_classifier, config.also, test_fold=fold)
    reports = _leaks(settings, classifiers.values(), cutout_index, fold)
    yield from stop_at_leak("malignancy_predictions", fold, reports)
    predicted = fold_predictions.predict_test_fold(
        index=cutout_index,
        candidates=candidates,
        store=store,
        test_fold=fold,
        classifiers=classifiers,
        dataset=malignancy_classifier.config.dataset,
        baselines=_baselines(cutting.paths, "malignancy_feature_baseline", fold, malignancy_feature_baseline),
        zero_rule_score=fold_predictions.training_share(cutout_index, store, malignancy_classifier),
    )
    notes = _notes(context, settings, malignancy_classifier.name, cutout_index)
    yield dg.Output(predicted, metadata=_metadata(predicted, started) | notes)
    yield leak_result("malignancy_predictions", fold, reports)


def _leaks(settings: "Settings", classifiers: Iterable["Checkpoint"], index: Any, fold: int) -> list["LeakReport"]:
    """Return a report on each classifier."""
    from luna_pipeline.launchers.installation import read_table
    from luna_pipeline.launchers.same_scans import read_same_scans
    from luna_pipeline.launchers.seen_data import leaks_of_checkpoint

    test = index[(index["fold"] == fold) & (index["source"] == "candidate")]
    folds, same_scans = read_table(settings, "folds"), read_same_scans(settings)
    return [leaks_of_checkpoint(checkpoint, test, folds, same_scans) for checkpoint in classifiers]


def _notes(context: dg.AssetExecutionContext, settings: "Settings", classifier: str, index: Any) -> dict[str, str]:
    """Warn of candidates that are a sample, and of a classifier that is older than the cutouts; return the metadata."""
    from luna_pipeline.launchers.cross_validation import describe_older, read_current
    from luna_pipeline.launchers.installation import sample_of

    fold = fold_of_partition(context)
    older = describe_older(read_current(settings, classifier, fold), index)
    notes = list(filter(None, [sample_of(settings, index[index["fold"] == fold]), older]))
    for note in notes:
        context.log.warning(note)
    return {"notes": " ".join([*notes, "Research use only."])}


def _baselines(paths: LunaPaths, asset: str, fold: int, predictions: Any) -> "FoldPredictions":
    from luna_pipeline.launchers.evaluation.fold_predictions import FoldPredictions

    return FoldPredictions(predictions=predictions, models=paths.read_table(MODELS_TABLES[asset], fold))


def _metadata(predicted: "FoldPredictions", started: float) -> dict[str, Any]:
    predictions = predicted.predictions
    return {
        "models": ", ".join(sorted(set(predictions["model"]))),
        "num_candidates": int(predictions["candidate_id"].nunique()),
        "num_series": int(predictions["series_instance_uid"].nunique()),
        **models_metadata(predicted),
        "seconds": round(time.perf_counter() - started, 2),
    }
