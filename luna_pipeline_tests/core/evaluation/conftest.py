"""Fixtures for the tests of all plots."""

from typing import Any

import pytest
from matplotlib.figure import Figure

from luna_pipeline.core.evaluation import calibration_plot, froc_plot, picture, plots


@pytest.fixture
def figures(monkeypatch) -> list[Figure]:
    """Return a list that collects all figures drawn."""
    drawn: list[Figure] = []

    def keep(figure: Figure, **options: Any) -> bytes:
        drawn.append(figure)
        return picture.png_of(figure, **options)

    for module in (calibration_plot, froc_plot, plots):
        monkeypatch.setattr(module, "png_of", keep)
    return drawn
