"""Stage 4: networks and the zero rule; one partition per test fold."""

import time
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import dagster as dg

from luna_pipeline.assets import markdown
from luna_pipeline.assets.stage_1_ct import OWNERS
from luna_pipeline.assets.training_config import (
    HeldOutFolds,
    MalignancyTrainingConfig,
    NoduleTrainingConfig,
    WeightsConfig,
)
from luna_pipeline.partitions import TEST_FOLDS, fold_of_partition
from luna_pipeline.resources import CutoutCutting, LunaPaths, MlflowRuns, dagster_tags

if TYPE_CHECKING:
    from luna_pipeline.launchers.training.run import TrainedClassifier
    from luna_pipeline.launchers.training.train import TrainingRequest
    from luna_pipeline.settings import Settings

GROUP = "stage_4_training"
KINDS = {"python", "pytorch", "mlflow"}
classifier_asset = partial(
    dg.asset,
    pool="gpu",
    partitions_def=TEST_FOLDS,
    group_name=GROUP,
    owners=OWNERS,
    kinds=KINDS,
    io_manager_key="checkpoints",
)


@classifier_asset(code_version="3")
def nodule_classifier(
    context: dg.AssetExecutionContext,
    config: NoduleTrainingConfig,
    cutting: CutoutCutting,
    mlflow_runs: MlflowRuns,
    paths: LunaPaths,
    cutout_index: Any,
) -> dg.Output[Any]:
    """Network that classifies candidates as nodules, trained on all folds but test and validation fold.

    Source: cutouts in HU. Form: `checkpoints/nodule_classifier/<version>-fold<fold>/best.pt` (weights, optimizer,
    epoch, configuration, data fingerprints), an MLflow run with the registered model, a TensorBoard log. Research use
    only.
    """
    return _trained(context, config, cutting=cutting, mlflow_runs=mlflow_runs, paths=paths, index=cutout_index)


@classifier_asset(code_version="3")
def malignancy_classifier(
    context: dg.AssetExecutionContext,
    config: MalignancyTrainingConfig,
    cutting: CutoutCutting,
    mlflow_runs: MlflowRuns,
    paths: LunaPaths,
    cutout_index: Any,
) -> dg.Output[Any]:
    """Network that classifies malignant nodules against benign ones and other candidates.

    Source: cutouts in HU and the readers' ratings; nodules without a rating are left out. Form: as
    `nodule_classifier`. With `start_name`, training starts from another classifier's weights. Research use only.
    """
    return _trained(context, config, cutting=cutting, mlflow_runs=mlflow_runs, paths=paths, index=cutout_index)


@dg.asset(
    partitions_def=TEST_FOLDS,
    group_name=GROUP,
    owners=OWNERS,
    kinds={"python"},
    code_version="2",
    io_manager_key="tables",
)
def zero_rule_baseline(context: dg.AssetExecutionContext, config: HeldOutFolds, cutout_index: Any) -> dg.Output[Any]:
    """Baseline that scores every candidate with the share of nodules in the training folds.

    Form: one row with the probability, the number of training candidates and the test fold.
    """
    import pandas as pd

    from luna_pipeline.core.datasets.splits import split_index
    from luna_pipeline.core.evaluation.baselines import zero_rule

    started = time.perf_counter()
    split = config.split_of(cutout_index, test_fold=fold_of_partition(context))
    training = split_index(cutout_index, split)[0]
    probability = zero_rule(training)
    row = {"model": "zero_rule_baseline", "probability": probability, "num_training_candidates": len(training)}
    table = pd.DataFrame([{**row, "test_fold": split.test_fold}])
    seconds = round(time.perf_counter() - started, 2)
    return dg.Output(table, metadata={"probability": probability, "seconds": seconds})


def _trained(
    context: dg.AssetExecutionContext,
    config: WeightsConfig,
    *,
    cutting: CutoutCutting,
    mlflow_runs: MlflowRuns,
    paths: LunaPaths,
    index: Any,
) -> dg.Output[Any]:
    """Train in this process, or in several processes started by torchrun."""
    from luna_pipeline.core.malloc import keep_freed_memory
    from luna_pipeline.launchers.training.torchrun import train_together
    from luna_pipeline.launchers.training.train import train_on

    settings = paths.settings
    request = training_request(context, config, settings, folds=index, cutouts=cutting.cutouts)
    if config.processes > 1:
        trained = train_together(settings, request, num_processes=config.processes)
    else:
        # On a CPU this saves up to a third of the time of a training step.
        keep_freed_memory()
        trained = train_on(
            settings, request, index=index, store=cutting.source, open_mlflow_run=mlflow_runs.opener(context)
        )
    scores = {"best_validation_auc": trained.checkpoint.best_score, "threshold": trained.checkpoint.threshold}
    return dg.Output(trained, metadata=training_metadata(context, trained, settings, scores=scores))


def training_request(
    context: dg.AssetExecutionContext, config: WeightsConfig, settings: Any, *, folds: Any, **options: Any
) -> "TrainingRequest":
    """Return the training of the asset's test fold.

    Args:
        context: The asset and its partition.
        config: Recipe, changes and initial weights.
        settings: The installation.
        folds: Table with the folds of the data.
        options: Further options of the run.

    Raises:
        ValueError: If the configuration is of another model than the asset, or a fold does not exist.
    """
    from luna_pipeline.launchers.training.run import RunOptions
    from luna_pipeline.launchers.training.train import TrainingRequest

    asset, test_fold = context.asset_key.to_user_string(), fold_of_partition(context)
    split = config.split_of(folds, test_fold=test_fold)
    training = config.training_config(test_fold=test_fold)
    if training.name != asset:
        msg = f"The configuration must be of the asset's own name, got {training.name} ({asset})."
        raise ValueError(f"{msg} Choose another recipe, or materialize `{training.name}`.")
    return TrainingRequest(
        config=training,
        start=config.start(settings, test_fold=test_fold),
        head_only=config.head_only,
        test_fold=split.test_fold,
        validation_fold=split.validation_fold,
        tags=dagster_tags(context, settings),
        options=RunOptions(show_progress=context.log.info, is_profiled=config.profile, **options),
    )


def training_metadata(
    context: dg.AssetExecutionContext,
    trained: "TrainedClassifier",
    settings: "Settings",
    *,
    scores: Mapping[str, float],
    curve: str = "auc",
) -> dict[str, Any]:
    """Return the metadata of a training: ``scores`` of the chosen epoch; ``curve`` is drawn against the epoch."""
    checkpoint, run_id = trained.checkpoint, str(trained.mlflow_run_id)
    return {
        "version": trained.version,
        "epochs": checkpoint.config.num_epochs,
        "chosen_epoch": checkpoint.epoch,
        "num_training_series": len(checkpoint.training_series),
        "num_validation_series": len(checkpoint.validation_series),
        **scores,
        "seconds": round(trained.seconds, 1),
        "mlflow_run_id": run_id,
        "tensorboard": dg.MetadataValue.path(str(trained.tensorboard_dir)),
        **training_links(trained, settings),
        "configuration": dg.MetadataValue.json(checkpoint.config.to_dict()),
        "curves": dg.MetadataValue.md(_curves(context, trained, settings, curve)),
        "notes": checkpoint.notes or "",
    }


def training_links(trained: "TrainedClassifier", settings: "Settings") -> dict[str, Any]:
    """Return the pages of a training: MLflow's run and registered model, TensorBoard's curves."""
    from luna_pipeline.tracking.pages import mlflow_page, tensorboard_page

    links = {"mlflow_run": mlflow_link(settings, str(trained.mlflow_run_id))}
    if trained.model_uri:
        name, number = trained.model_uri.removeprefix("models:/").split("/")
        page = mlflow_page(settings.mlflow_ui_url, "models", name, "versions", number)
        links["mlflow_model"] = dg.MetadataValue.url(page)
    page = tensorboard_page(settings.tensorboard_ui_url, trained.version)
    return {**links, "tensorboard_page": dg.MetadataValue.url(page)}


def mlflow_link(settings: Any, run_id: str) -> dg.UrlMetadataValue:
    """Return the address of an MLflow run in a browser."""
    from luna_pipeline.tracking.mlflow_run import MlflowRun
    from luna_pipeline.tracking.pages import mlflow_page

    client = MlflowRun.at(settings.mlflow_tracking_uri, run_id).client
    experiment_id = client.get_run(run_id).info.experiment_id
    return dg.MetadataValue.url(mlflow_page(settings.mlflow_ui_url, "experiments", experiment_id, "runs", run_id))


def _curves(context: dg.AssetExecutionContext, trained: "TrainedClassifier", settings: "Settings", score: str) -> str:
    """Draw the training curves for Dagster's page and MLflow's run."""
    from luna_pipeline.core.evaluation.plots import training_curves_png
    from luna_pipeline.tracking.mlflow_figures import log_png
    from luna_pipeline.tracking.mlflow_run import MlflowRun
    from luna_pipeline.tracking.outbox import TrackerUnavailableError

    if trained.history.empty:
        return "The run was complete before this process started; see MLflow and TensorBoard for its curves."
    png = training_curves_png(trained.history, score=score, is_synthetic=settings.is_synthetic)
    try:
        run = MlflowRun.at(settings.mlflow_tracking_uri, str(trained.mlflow_run_id))
        log_png(run, png, "pictures/training_curves.png")
    except TrackerUnavailableError as outage:
        # The trained model counts; the picture is on Dagster's page too.
        context.log.warning("The training curves are not in MLflow, which is unavailable: %s", outage)
    return markdown.picture(png, "training curves, research use only")
