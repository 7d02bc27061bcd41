"""Core and services brought together: what the command line, the assets and other processes call."""

from luna_pipeline.launchers.book import import_book_classifier
from luna_pipeline.launchers.classification import LunaClassificationLauncher, TrainedClassifier
from luna_pipeline.launchers.evaluation import log_test_metrics, predict_test_fold

__all__ = [
    "LunaClassificationLauncher",
    "TrainedClassifier",
    "import_book_classifier",
    "log_test_metrics",
    "predict_test_fold",
]
