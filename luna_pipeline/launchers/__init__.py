"""Launchers: combine core with settings and trackers, for the command line, assets and other programs.

The names below can be imported from here; each is loaded on first use, because importing torch takes seconds.
"""

from importlib import import_module
from typing import Any

_NAMES = {
    "cutting": ["CuttingRequest", "create_cutouts"],
    "evaluation.feature_baselines": ["fit_feature_baselines"],
    "evaluation.mlflow_metrics": ["log_test_metrics"],
    "evaluation.scoring": ["predict_table", "score"],
    "evaluation.fold_predictions": ["predict_test_fold"],
    "training.book_weights": ["import_book_model"],
    "training.classifier": ["LunaClassificationLauncher", "LunaMalignantClassificationLauncher"],
    "training.run": ["RunOptions", "TrainedClassifier"],
    "training.train": ["TrainingRequest", "train", "train_once"],
}


def __getattr__(name: str) -> Any:
    for module, names in _NAMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
