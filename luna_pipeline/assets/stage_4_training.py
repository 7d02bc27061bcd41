"""Stage 4: classifiers and the baseline they have to beat."""

import dataclasses
import time
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from luna_pipeline.assets import markdown
from luna_pipeline.assets.stage_1_ct import OWNERS
from luna_pipeline.resources import CutoutCutting, LunaPaths, MlflowRuns

if TYPE_CHECKING:
    from luna_pipeline.core.datasets.splits import TrainingSplit
    from luna_pipeline.core.training.config import TrainingConfig
    from luna_pipeline.launchers import TrainedClassifier

GROUP = "stage_4_training"


class HeldOutFolds(dg.Config):
    """Which folds stay out of training."""

    test_fold: int | None = Field(default=None, description="Untouched until the report; default: the first fold.")
    validation_fold: int | None = Field(
        default=None,
        description="Chooses epoch and threshold; default: the fold after the test fold, none if there are two.",
    )

    def split_of(self, index: Any) -> "TrainingSplit":
        """Name the held-out folds of an index."""
        from luna_pipeline.core.datasets.splits import default_split

        return default_split(index, test_fold=self.test_fold, validation_fold=self.validation_fold)


class TrainingRunConfig(HeldOutFolds):
    """A recipe and what this run changes in it."""

    recipe: str = Field(default="nodule_baseline", description="A function of core/training/recipes.py.")
    version: str = Field(default="0.0.1", description="Never overwritten: where it exists, the next build is written.")
    epochs: int | None = None
    batch_size: int | None = None
    seed: int | None = None

    def training_config(self) -> "TrainingConfig":
        """Return the complete configuration of the run."""
        from luna_pipeline.core.training.recipes import recipe_by_name

        changes: dict[str, Any] = {
            "num_epochs": self.epochs,
            "batch_size": self.batch_size,
            "seed": self.seed,
            "version": self.version,
        }
        given = {name: value for name, value in changes.items() if value is not None}
        return dataclasses.replace(recipe_by_name(self.recipe), **given)


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"python", "pytorch", "mlflow"},
    code_version="1",
    io_manager_key="checkpoints",
)
def nodule_classifier(
    context: dg.AssetExecutionContext,
    config: TrainingRunConfig,
    cutting: CutoutCutting,
    mlflow_runs: MlflowRuns,
    paths: LunaPaths,
    cutout_index: Any,
) -> dg.Output[Any]:
    """Network that tells nodules from other candidates, trained on all folds but the held-out ones.

    Source: cutouts as HU. Form: `checkpoints/nodule_classifier/<version>/best.pt` (weights, optimizer, epoch,
    configuration, data fingerprints), an MLflow run with the registered model, a TensorBoard log. Research use only.
    """
    from luna_pipeline.launchers import LunaClassificationLauncher

    settings = paths.settings
    training = config.training_config()
    with mlflow_runs.run(context, name=f"{training.name} {training.version}") as run:
        launcher = LunaClassificationLauncher(
            settings.home, mlflow_run=run, local_home=settings.local_home, show_progress=context.log.info
        )
        split = config.split_of(cutout_index)
        trained = launcher.fit(training, index=cutout_index, store=cutting.store, split=split)
    return dg.Output(trained, metadata=_training_metadata(trained, settings.mlflow_ui_url, run))


@dg.asset(group_name=GROUP, owners=OWNERS, kinds={"python"}, code_version="1", io_manager_key="tables")
def zero_rule_baseline(config: HeldOutFolds, cutout_index: Any) -> dg.Output[Any]:
    """The share of nodules in the training folds, given to every candidate: what a model must beat.

    Form: one row with the probability, the number of training candidates and the held-out folds.
    """
    import pandas as pd

    from luna_pipeline.core.datasets.splits import split_index
    from luna_pipeline.core.evaluation.baselines import zero_rule

    started = time.perf_counter()
    split = config.split_of(cutout_index)
    training = split_index(cutout_index, split)[0]
    probability = zero_rule(training)
    row = {
        "model": "zero_rule_baseline",
        "probability": probability,
        "num_training_candidates": len(training),
    }
    table = pd.DataFrame([{**row, "test_fold": split.test_fold}])
    seconds = round(time.perf_counter() - started, 2)
    return dg.Output(table, metadata={"probability": probability, "seconds": seconds})


def _training_metadata(trained: "TrainedClassifier", ui_url: str, run: Any) -> dict[str, Any]:
    checkpoint = trained.checkpoint
    experiment_id = run.client.get_run(run.run_id).info.experiment_id
    return {
        "version": trained.version,
        "epochs": checkpoint.config.num_epochs,
        "chosen_epoch": checkpoint.epoch,
        "num_training_series": len(checkpoint.training_series),
        "num_validation_series": len(checkpoint.validation_series),
        "best_validation_auc": checkpoint.best_score,
        "threshold": checkpoint.threshold,
        "seconds": round(trained.seconds, 1),
        "mlflow_run": dg.MetadataValue.url(f"{ui_url}/#/experiments/{experiment_id}/runs/{run.run_id}"),
        "mlflow_run_id": run.run_id,
        "tensorboard": dg.MetadataValue.path(str(trained.tensorboard_dir)),
        "curves": dg.MetadataValue.md(_curves(trained)),
        "notes": checkpoint.notes or "",
    }


def _curves(trained: "TrainedClassifier") -> str:
    from luna_pipeline.core.evaluation.plots import training_curves_png

    return markdown.picture(training_curves_png(trained.history), "training curves, research use only")
