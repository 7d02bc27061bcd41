"""Stage 4: search for a better configuration of the nodule classifier, and the retrained winner."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import dagster as dg

from luna_pipeline.assets import markdown
from luna_pipeline.assets.sources import REFERENCE_SOURCES
from luna_pipeline.assets.stage_1_ct import OWNERS
from luna_pipeline.assets.stage_4_training import GROUP, mlflow_link, training_links
from luna_pipeline.assets.tuning_config import TuningConfig
from luna_pipeline.partitions import TEST_FOLDS, fold_of_partition
from luna_pipeline.resources import LunaPaths, RayCluster, dagster_tags
from luna_pipeline.table_columns import shown_table

if TYPE_CHECKING:
    from luna_pipeline.settings import Settings
    from luna_pipeline.tuning.request import TunedParameters

KINDS = {"python", "pytorch", "ray"}
# Trials are scored by LUNA16's metric, which needs positions and the reference.
STUDIED = ["candidates", "folds", *REFERENCE_SOURCES]


@dg.multi_asset(
    pool="gpu",
    partitions_def=TEST_FOLDS,
    group_name=GROUP,
    deps=STUDIED,
    # The winner is trained with the study's best configuration.
    internal_asset_deps={
        "tuning_study": {dg.AssetKey(name) for name in ("cutout_index", *STUDIED)},
        "tuned_nodule_classifier": {dg.AssetKey("tuning_study"), dg.AssetKey("cutout_index")},
    },
    outs={
        "tuning_study": dg.AssetOut(
            io_manager_key="tables",
            owners=OWNERS,
            kinds=KINDS,
            code_version="1",
            description="Trials of a search for a better configuration, scored on the validation fold; the test fold "
            "is not used. Source: cutouts in HU. Form: one row per trial with state, score, best epoch and the tried "
            "values; files in `tuning/nodule_classifier/<version>-fold<fold>`: best configuration, plots, comparison "
            "with the unchanged recipe. Research use only.",
        ),
        "tuned_nodule_classifier": dg.AssetOut(
            io_manager_key="checkpoints",
            owners=OWNERS,
            kinds=KINDS | {"mlflow"},
            code_version="1",
            description="The study's winner, retrained on all folds but the test fold; without a validation fold, its "
            "thresholds are 0.5. Form: `checkpoints/tuned_nodule_classifier/<version>-fold<fold>/best.pt`. "
            "Research use only.",
        ),
    },
)
def tuning_study(
    context: dg.AssetExecutionContext, config: TuningConfig, paths: LunaPaths, ray: RayCluster, cutout_index: Any
) -> Iterator[dg.Output[Any]]:
    """Run the study, then retrain the winner."""
    from luna_pipeline.core.malloc import keep_freed_memory
    from luna_pipeline.tuning.request import TuningRequest
    from luna_pipeline.tuning.tune import tune_parameters

    settings, test_fold = paths.settings, fold_of_partition(context)
    study = config.study(test_fold=test_fold)
    if study.base.name != "nodule_classifier":
        msg = f"The study must be of the nodule classifier, got {study.base.name}. Choose another recipe, or use"
        raise ValueError(f"{msg} `luna tune_luna_malignant_classification`.")
    split = config.split_of(cutout_index, test_fold=test_fold)
    keep_freed_memory()
    request = TuningRequest(
        study=study,
        test_fold=split.test_fold,
        validation_fold=split.validation_fold,
        resources=config.resources(),
        address=ray.address,
        has_dashboard=ray.dashboard,
        num_bootstraps=config.num_bootstraps,
        report=context.log.info,
        tags=dagster_tags(context, settings) | {"luna.test_fold": str(test_fold)},
    )
    tuned = tune_parameters(settings, request)
    context.log.info(tuned.conclusion)
    yield dg.Output(tuned.table, "tuning_study", metadata=_metadata(tuned, settings))
    yield dg.Output(tuned.classifier, "tuned_nodule_classifier", metadata=_classifier_metadata(tuned, settings))


def _metadata(tuned: "TunedParameters", settings: "Settings") -> dict[str, Any]:
    places = [column for column in tuned.table.columns if "." in column or column in tuned.config.flat()]
    shown = tuned.table.sort_values("rank")[["rank", "trial", "state", "score", "best_epoch", *places]]
    pictures = {
        name.removesuffix(".png"): dg.MetadataValue.md(markdown.picture(png, f"{name}, research use only"))
        for name, png in tuned.pictures.items()
    }
    return {
        "conclusion": tuned.conclusion,
        "data": settings.kind_of_data,
        "trials": shown_table(shown.head(20)),
        **pictures,
        "best_configuration": dg.MetadataValue.json(tuned.config.to_dict()),
        "folder": dg.MetadataValue.path(str(tuned.place.folder)),
        "tensorboard": dg.MetadataValue.path(str(tuned.place.local_folder / "tensorboard")),
        "mlflow_run": mlflow_link(settings, str(tuned.mlflow_run_id)),
    }


def _classifier_metadata(tuned: "TunedParameters", settings: "Settings") -> dict[str, Any]:
    if tuned.classifier is None:
        return {}
    checkpoint = tuned.classifier.checkpoint
    return {
        "version": checkpoint.version,
        "epochs": checkpoint.config.num_epochs,
        "winner": str(tuned.winner),
        "num_training_series": len(checkpoint.training_series),
        **training_links(tuned.classifier, settings),
        "notes": checkpoint.notes,
    }
