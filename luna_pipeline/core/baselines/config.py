"""Names of the feature classifiers; scikit-learn is not imported."""

from collections.abc import Callable
from typing import Any

from luna_pipeline.core.config.registry import Registry

ESTIMATORS: Registry[Callable[[int], Any]] = Registry(
    "estimator",
    {
        name: f"luna_pipeline.core.baselines.feature_model:{name}"
        for name in ("logistic_regression", "gradient_boosting")
    },
)
"""Functions that make an unfitted scikit-learn classifier from a seed, by name; the classifiers must accept nan."""
