"""Fixtures of the tuning tests."""

import pytest
from matplotlib.figure import Figure

from luna_pipeline.core.evaluation import plots as plots_of_evaluation
from luna_pipeline.tuning import plots
from luna_pipeline_tests.core.evaluation.conftest import figures as figures_of_evaluation
from luna_pipeline_tests.launchers.conftest import home, small_config

__all__ = ["figures_of_evaluation", "home", "small_config"]


@pytest.fixture
def figures(figures_of_evaluation: list[Figure], monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures drawn of studies."""
    monkeypatch.setattr(plots, "png_of", plots_of_evaluation.png_of)
    return figures_of_evaluation
