"""Core and services brought together: what the command line, the assets and other processes call."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from luna_pipeline.launchers.baselines import fit_feature_baselines
    from luna_pipeline.launchers.book import import_book_classifier
    from luna_pipeline.launchers.classification import LunaClassificationLauncher, LunaMalignantClassificationLauncher
    from luna_pipeline.launchers.commands import TrainingRequest, train
    from luna_pipeline.launchers.cutting import create_cutouts
    from luna_pipeline.launchers.evaluation import log_test_metrics, predict_test_fold
    from luna_pipeline.launchers.run_values import RunOptions, TrainedClassifier
    from luna_pipeline.launchers.scoring import predict_table, score

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
    "LunaClassificationLauncher": "classification",
    "LunaMalignantClassificationLauncher": "classification",
    "RunOptions": "run_values",
    "TrainedClassifier": "run_values",
    "TrainingRequest": "commands",
    "create_cutouts": "cutting",
    "fit_feature_baselines": "baselines",
    "import_book_classifier": "book",
    "log_test_metrics": "evaluation",
    "predict_table": "scoring",
    "predict_test_fold": "evaluation",
    "score": "scoring",
    "train": "commands",
}


def __getattr__(name: str) -> Any:
    """Import a launcher when it is asked for: one that cuts need not wait for torch."""
    if name not in _MODULES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
