"""Stage 4: the network that segments nodules on whole CTs; one partition per test fold."""

from typing import TYPE_CHECKING, Any

import dagster as dg

from luna_pipeline.assets import markdown
from luna_pipeline.assets.stage_4_training import classifier_asset, training_metadata, training_request
from luna_pipeline.assets.training_config import SegmenterTrainingConfig
from luna_pipeline.resources import LunaPaths, MlflowRuns

if TYPE_CHECKING:
    from luna_pipeline.launchers.training.run import TrainedClassifier

NUM_COLOURS = 128
METRICS = ("dice", "crop_dice", "lesion_recall", "false_candidates_per_scan")


@classifier_asset(code_version="1", deps=["ct_series", "candidates", "folds"])
def nodule_segmenter(
    context: dg.AssetExecutionContext, config: SegmenterTrainingConfig, mlflow_runs: MlflowRuns, paths: LunaPaths
) -> dg.Output[Any]:
    """Network that segments nodules on whole CTs, trained on all folds but test and validation fold.

    Source: CTs in HU, annotations as balls of the annotated diameter. Form: as `nodule_classifier`,
    `checkpoints/nodule_segmenter/<version>-fold<fold>/best.pt`; the epoch with the highest `crop_dice` is
    chosen. Research use only.
    """
    from luna_pipeline.core.malloc import keep_freed_memory
    from luna_pipeline.launchers.training.segmenter import train_segmenter
    from luna_pipeline.launchers.training.torchrun import train_together

    settings, folds = paths.settings, paths.read_table("folds")
    if config.processes > 1:
        request = training_request(context, config, settings, folds=folds)
        trained = train_together(settings, request, num_processes=config.processes)
    else:
        keep_freed_memory()
        request = training_request(context, config, settings, folds=folds)
        trained = train_segmenter(settings, request, open_mlflow_run=mlflow_runs.opener(context))
    return dg.Output(trained, metadata=_metadata(context, trained, settings) | _picture(trained))


def _metadata(context: dg.AssetExecutionContext, trained: "TrainedClassifier", settings: Any) -> dict[str, Any]:
    return {
        **training_metadata(context, trained, settings, scores=_chosen_epoch(trained), curve="dice"),
        "data": settings.kind_of_data,
        "notes": f"{trained.checkpoint.notes or ''} Research use only.".strip(),
    }


def _chosen_epoch(trained: "TrainedClassifier") -> dict[str, float]:
    """Return the validation metrics of the chosen epoch, as far as this process has seen it."""
    history = trained.history
    if history.empty:
        return {}
    row = history[history["epoch"] == trained.checkpoint.epoch]
    return {
        name: float(row[f"validation/{name}"].iloc[0]) for name in METRICS if len(row) and f"validation/{name}" in row
    }


def _picture(trained: "TrainedClassifier") -> dict[str, Any]:
    """Return validated slices with outlines for Dagster's page; nothing where this process has validated none."""
    from PIL import Image

    from luna_pipeline.core.ct.pictures import png_bytes

    if trained.picture is None:
        return {}
    # A palette, so that the page, which embeds the picture as text, shows all of it.
    png = png_bytes(Image.fromarray(trained.picture).quantize(NUM_COLOURS, dither=Image.Dither.NONE))
    words = "true outlines green, predicted ones orange, research use only"
    return {"slices": dg.MetadataValue.md(markdown.picture(png, words))}
