"""Content and size of the FROC picture."""

import io

import pytest
from PIL import Image

from luna_pipeline.core.evaluation.froc import OPERATING_POINTS
from luna_pipeline.core.evaluation.froc_plot import froc_png
from luna_pipeline_tests.core.evaluation.test_comparison import evaluated


@pytest.fixture
def axes(figures):
    """Return a function for the axes of the last figure."""
    return lambda: figures[-1].axes[0]


def test_a_picture_is_small_and_the_same_each_time():
    results = {"net": evaluated(0.2), "other": evaluated(0.1)}
    picture = froc_png(results)
    assert Image.open(io.BytesIO(picture)).format == "PNG"
    assert len(picture) < 75_000
    assert picture == froc_png(results)


def test_points_lie_at_the_seven_rates_and_the_first_system_has_a_band(axes):
    results = {"net": evaluated(0.2), "other": evaluated(0.1)}
    froc_png(results, title="folds 0, 1 of 5", is_synthetic=True)
    points = [line for line in axes().lines if list(line.get_xdata()) == list(OPERATING_POINTS)]
    assert [list(line.get_ydata()) for line in points] == [
        list(result.curve.sens_at_points) for result in results.values()
    ]
    assert len(axes().collections) == 1
    assert axes().get_title() == "FROC, folds 0, 1 of 5"
    assert axes().figure.get_supxlabel() == "research use only, synthetic data"


def test_the_legend_gives_the_cpm_and_its_interval(axes):
    result = evaluated(0.2)
    froc_png({"net": result, "bare": evaluated(0.1, num_bootstraps=0)})
    labels = [text.get_text() for text in axes().get_legend().get_texts()]
    lower, upper = result.band.cpm_interval
    assert f"net: CPM {result.curve.cpm:.3f} [{lower:.3f}, {upper:.3f}]" in labels
    assert any(label.startswith("bare: CPM") and "[" not in label for label in labels)


def test_a_limitation_of_the_models_stands_below_the_curves(figures):
    results = {"net": evaluated(0.2, num_bootstraps=0)}
    froc_png(results, footnote="net trained on older cutouts", is_synthetic=True)
    assert figures[0].get_supxlabel() == "net trained on older cutouts\nresearch use only, synthetic data"


def test_an_undefined_curve_is_named_and_not_drawn(axes):
    froc_png({"blind": evaluated(0.2, scans=["S10", "S11"], num_bootstraps=0)})
    assert [text.get_text() for text in axes().get_legend().get_texts()] == ["blind: CPM undefined"]
    assert all(len(line.get_xdata()) == 0 for line in axes().lines)
