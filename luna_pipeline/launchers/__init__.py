"""Core and services brought together: what the command line, the assets and other processes call."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from luna_pipeline.launchers.cutting import create_cutouts
    from luna_pipeline.launchers.evaluation.feature_baselines import fit_feature_baselines
    from luna_pipeline.launchers.evaluation.mlflow_metrics import log_test_metrics
    from luna_pipeline.launchers.evaluation.scoring import predict_table, score
    from luna_pipeline.launchers.evaluation.test_fold import predict_test_fold
    from luna_pipeline.launchers.training.book_weights import import_book_classifier
    from luna_pipeline.launchers.training.classifier import (
        LunaClassificationLauncher,
        LunaMalignantClassificationLauncher,
    )
    from luna_pipeline.launchers.training.run import RunOptions, TrainedClassifier
    from luna_pipeline.launchers.training.train import TrainingRequest, train

__all__ = [
    "LunaClassificationLauncher",
    "LunaMalignantClassificationLauncher",
    "RunOptions",
    "TrainedClassifier",
    "TrainingRequest",
    "create_cutouts",
    "fit_feature_baselines",
    "import_book_classifier",
    "log_test_metrics",
    "predict_table",
    "predict_test_fold",
    "score",
    "train",
]

_MODULES = {
    "LunaClassificationLauncher": "training.classifier",
    "LunaMalignantClassificationLauncher": "training.classifier",
    "RunOptions": "training.run",
    "TrainedClassifier": "training.run",
    "TrainingRequest": "training.train",
    "create_cutouts": "cutting",
    "fit_feature_baselines": "evaluation.feature_baselines",
    "import_book_classifier": "training.book_weights",
    "log_test_metrics": "evaluation.mlflow_metrics",
    "predict_table": "evaluation.scoring",
    "predict_test_fold": "evaluation.test_fold",
    "score": "evaluation.scoring",
    "train": "training.train",
}


def __getattr__(name: str) -> Any:
    """Import a launcher when it is asked for: one that cuts need not wait for torch."""
    if name not in _MODULES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
