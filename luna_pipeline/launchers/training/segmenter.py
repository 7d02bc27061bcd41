"""Training of the nodule segmenter on the data of an installation."""

from luna_pipeline.core.distributed import SINGLE_PROCESS
from luna_pipeline.launchers.installation import mlflow_opener
from luna_pipeline.launchers.training.places import segmentation_data
from luna_pipeline.launchers.training.run import TrainedClassifier
from luna_pipeline.launchers.training.train import TrainingRequest, train_on
from luna_pipeline.settings import Settings
from luna_pipeline.tracking.mlflow_run import OpenMlflowRun

SegmenterRequest = TrainingRequest
SEGMENTER = "nodule_segmenter"


def train_segmenter(
    settings: Settings, request: SegmenterRequest, *, open_mlflow_run: OpenMlflowRun | None = None
) -> TrainedClassifier:
    """Train a segmenter in this process, or resume an unfinished run of the same configuration and data.

    Args:
        settings: Paths of the installation, whose tables ``ct_series``, ``candidates`` and ``folds`` are read.
        request: What to train, such as the recipe ``segmenter_baseline``.
        open_mlflow_run: Opens the MLflow run; None for the installation's own, if the request uses MLflow.

    Raises:
        FileNotFoundError: If a table is missing.
        ValueError: If the configuration is not one of segmentation, or does not fit folds and data.
    """
    if not request.config.is_segmentation:
        msg = f"A segmenter's configuration must have the data set nodule_masks, got {request.config.dataset}."
        raise ValueError(f"{msg} Start from the recipe segmenter_baseline.")
    index, store = segmentation_data(settings, request.config)
    if open_mlflow_run is None and request.uses_mlflow:
        open_mlflow_run = mlflow_opener(settings)
    return train_on(
        settings, request, index=index, store=store, open_mlflow_run=open_mlflow_run, processes=SINGLE_PROCESS
    )
