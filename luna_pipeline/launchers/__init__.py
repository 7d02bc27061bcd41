"""Core and services brought together: what the command line, the assets and other processes call."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from luna_pipeline.launchers.book import import_book_classifier
    from luna_pipeline.launchers.classification import LunaClassificationLauncher, TrainedClassifier
    from luna_pipeline.launchers.cutting import create_cutouts
    from luna_pipeline.launchers.evaluation import log_test_metrics, predict_test_fold

__all__ = [
    "LunaClassificationLauncher",
    "TrainedClassifier",
    "create_cutouts",
    "import_book_classifier",
    "log_test_metrics",
    "predict_test_fold",
]

_MODULES = {
    "LunaClassificationLauncher": "classification",
    "TrainedClassifier": "classification",
    "create_cutouts": "cutting",
    "import_book_classifier": "book",
    "log_test_metrics": "evaluation",
    "predict_test_fold": "evaluation",
}


def __getattr__(name: str) -> Any:
    """Import a launcher when it is asked for: one that cuts need not wait for torch."""
    if name not in _MODULES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
