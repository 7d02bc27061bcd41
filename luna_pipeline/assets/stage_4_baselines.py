"""Stage 4 without a network: classifiers of interpretable features as baselines."""

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import dagster as dg

from luna_pipeline.assets.leak_check import leak_result, no_leak, stop_at_leak
from luna_pipeline.assets.stage_1_ct import OWNERS
from luna_pipeline.assets.stage_4_training import GROUP
from luna_pipeline.assets.training_config import BaselineConfig
from luna_pipeline.launchers.installation import MODELS_TABLES
from luna_pipeline.partitions import TEST_FOLDS, fold_of_partition
from luna_pipeline.resources import CutoutCutting, LunaPaths
from luna_pipeline.table_columns import shown_table

if TYPE_CHECKING:
    from luna_pipeline.core.evaluation.leaks import LeakReport
    from luna_pipeline.launchers.evaluation.feature_baselines import FittedBaselines
    from luna_pipeline.launchers.evaluation.fold_predictions import FoldPredictions

KINDS = {"python", "scikitlearn"}
NUM_FEATURES_SHOWN = 10


def scoring_asset(name: str, description: str, **options: Any) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """Return the decorator of an asset that scores test folds: tables of predictions and models, and the leak check."""
    models = (
        f"A second table, `{MODELS_TABLES[name]}/<fold>.parquet`, has one row per model: version, number of "
        "parameters, seconds of training and scoring, candidates per second, MLflow run, recipe."
    )
    decorator: Callable[[Callable[..., Any]], dg.AssetsDefinition] = dg.asset(
        name=name,
        description=f"{description} {models}",
        partitions_def=TEST_FOLDS,
        owners=OWNERS,
        io_manager_key="scores",
        check_specs=[no_leak(name)],
        **options,
    )
    return decorator


@scoring_asset(
    "feature_baseline",
    "Scores of the test fold by feature classifiers: nodules against other candidates. Research use only. Source: "
    "cutouts in HU with their spacing. Form: as `nodule_predictions`, one row per candidate and classifier. Fitted "
    "on all folds but the held-out ones; thresholds and calibration are fitted on the validation fold.",
    kinds=KINDS,
    code_version="2",
    group_name=GROUP,
    deps=["folds"],
)
def feature_baseline(
    context: dg.AssetExecutionContext,
    config: BaselineConfig,
    cutting: CutoutCutting,
    candidates: Any,
    cutout_index: Any,
) -> Iterator[dg.Output[Any] | dg.AssetCheckResult]:
    """Fit feature classifiers of nodules."""
    yield from _fitted(
        context, config, cutting, "feature_baseline", "cutouts", candidates=candidates, index=cutout_index
    )


@scoring_asset(
    "malignancy_feature_baseline",
    "Scores of the test fold by feature classifiers: malignant nodules against all other candidates. Research use "
    "only. Form: as `feature_baseline`; class 1: malignant nodules; nodules without a rating are left out.",
    kinds=KINDS,
    code_version="2",
    group_name=GROUP,
    deps=["folds"],
)
def malignancy_feature_baseline(
    context: dg.AssetExecutionContext,
    config: BaselineConfig,
    cutting: CutoutCutting,
    candidates: Any,
    cutout_index: Any,
) -> Iterator[dg.Output[Any] | dg.AssetCheckResult]:
    """Fit feature classifiers of malignant nodules."""
    yield from _fitted(
        context,
        config,
        cutting,
        "malignancy_feature_baseline",
        "malignant_cutouts",
        candidates=candidates,
        index=cutout_index,
    )


def _fitted(
    context: dg.AssetExecutionContext,
    config: BaselineConfig,
    cutting: CutoutCutting,
    name: str,
    dataset: str,
    *,
    candidates: Any,
    index: Any,
) -> Iterator[dg.Output[Any] | dg.AssetCheckResult]:
    from luna_pipeline.launchers.evaluation.feature_baselines import fit_feature_baselines
    from luna_pipeline.launchers.evaluation.fold_predictions import FoldPredictions, models_of_baselines

    started, fold = time.perf_counter(), fold_of_partition(context)
    fitted = fit_feature_baselines(
        index=index,
        candidates=candidates,
        store=cutting.source,
        dataset=dataset,
        split=config.split_of(index, test_fold=fold),
        estimators=config.estimators,
        seed=config.seed,
        on_progress=lambda done, total: context.log.info(f"Features of {done} of {total} candidates."),
    )
    seconds = round(time.perf_counter() - started, 2)
    reports = _leaks(fitted, cutting.paths)
    yield from stop_at_leak(name, fold, reports)
    scores = FoldPredictions(predictions=fitted.predictions, models=models_of_baselines(fitted))
    yield dg.Output(scores, metadata={**_metadata(fitted), **models_metadata(scores), "seconds": seconds})
    yield leak_result(name, fold, reports)


def models_metadata(scores: "FoldPredictions") -> dict[str, Any]:
    """Return the models that scored a fold, for Dagster's page."""
    return {"models_table": shown_table(scores.models)}


def _leaks(fitted: "FittedBaselines", paths: LunaPaths) -> list["LeakReport"]:
    from luna_pipeline.core.evaluation.leaks import SeenData, leaks_of
    from luna_pipeline.launchers.same_scans import read_same_scans

    test, folds, same_scans = fitted.predictions, paths.read_table("folds"), read_same_scans(paths.settings)
    seen = [SeenData(model=each.model.name, training_series=each.seen_series) for each in fitted.baselines]
    return [leaks_of(data, test=test, folds=folds, same_scans=same_scans) for data in seen]


def _metadata(fitted: "FittedBaselines") -> dict[str, Any]:
    counts = {f"num_{part}_candidates": count for part, count in fitted.num_candidates.items()}
    thresholds = {f"threshold_{baseline.model.name}": baseline.decision.threshold for baseline in fitted.baselines}
    undefined = ", ".join(f"{name} {count}" for name, count in fitted.num_undefined.items())
    return {
        **counts,
        **thresholds,
        "candidates_per_second": round(fitted.candidates_per_second),
        "candidates_without_a_feature": undefined or "none",
        "importances": _most_important(fitted),
        "notes": "Importances on the validation fold; research use only.",
    }


def _most_important(fitted: "FittedBaselines") -> dg.TableMetadataValue:
    """Return a table of the most important features of each classifier."""
    import pandas as pd

    tables = []
    for _, rows in fitted.importances.groupby("model", sort=False):
        by = "permutation_importance" if rows["permutation_importance"].notna().any() else "standardised_coefficient"
        order = rows[by].abs().sort_values(ascending=False, kind="stable").index
        tables.append(rows.loc[order[:NUM_FEATURES_SHOWN]])
    return shown_table(pd.concat(tables))
