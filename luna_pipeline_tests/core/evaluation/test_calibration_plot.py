"""Reliability diagrams: small, correct and deterministic."""

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from luna_pipeline.core.evaluation.calibration import reliability_table
from luna_pipeline.core.evaluation.calibration_plot import reliability_png

MODELS = ("nodule_classifier", "logistic_regression", "gradient_boosting", "middle_hu", "zero_rule_baseline")
MORE = (*MODELS, "book_nodule_classifier")


def predictions(num: int = 600, models: tuple[str, ...] = MODELS) -> pd.DataFrame:
    """Return predictions of models, of which only the first is calibrated."""
    generator = np.random.default_rng(0)
    tables = []
    for model in models:
        scores = generator.random(num) ** 2
        labels = (np.arange(num) % 7 == 0).astype(int)
        calibrated = scores / 2 if model == models[0] else np.nan
        table = {"candidate_id": range(num), "class": labels, "probability": scores, "calibrated": calibrated}
        tables.append(pd.DataFrame(table).assign(model=model))
    thresholds = {"threshold": 0.5, "threshold_f1": 0.5, "threshold_sensitivity": 0.5}
    return pd.concat(tables).assign(series_instance_uid="A", x_mm=0.0, y_mm=0.0, z_mm=0.0, fold=0, **thresholds)


def test_diagrams_are_a_small_png_that_is_the_same_each_time():
    picture = reliability_png(predictions())
    assert len(picture) < 130_000
    assert Image.open(io.BytesIO(picture)).format == "PNG"
    assert picture == reliability_png(predictions())


def test_each_model_has_a_diagram_above_a_histogram_and_places_without_one_are_empty(figures):
    reliability_png(predictions(models=MORE))
    titles = [axes.get_title() for axes in figures[0].axes if axes.get_visible()]
    assert [title for title in titles if title] == list(MORE)
    assert len(titles) == 2 * len(MORE)
    assert len(figures[0].axes) == 20


def test_curves_are_those_of_the_table_and_differ_by_more_than_colour(figures):
    table = predictions(models=MODELS[:1])
    reliability_png(table)
    diagram, _ = figures[0].axes
    before, after = [line for line in diagram.lines if "ECE" in line.get_label()]
    for line, column in ((before, "probability"), (after, "calibrated")):
        expected = reliability_table(table["class"].to_numpy(), table[column].to_numpy())
        np.testing.assert_array_equal(line.get_xydata(), expected[["mean_score", "share_of_positives"]])
    for look in ("linestyle", "marker", "color"):
        assert getattr(before, f"get_{look}")() != getattr(after, f"get_{look}")()


def test_the_histogram_counts_every_candidate_before_and_after(figures):
    reliability_png(predictions(models=MODELS[:1]))
    _, histogram = figures[0].axes
    counts = [stairs.get_data().values for stairs in histogram.patches]
    assert [values.sum() for values in counts] == [600, 600]
    assert (counts[0] != counts[1]).any()


def test_a_model_without_calibration_says_so(figures):
    table = predictions(models=MODELS[:2])
    half = (table["model"] == MODELS[0]) & (table["candidate_id"] == 0)
    reliability_png(table.assign(calibrated=table["calibrated"].mask(half)))
    for legend in [axes.get_legend() for axes in figures[0].axes if axes.get_legend()]:
        texts = [text.get_text() for text in legend.get_texts()]
        assert texts[-1] == "uncalibrated"
        assert not any(text.startswith("calibrated") for text in texts)


@pytest.mark.parametrize(
    ("is_synthetic", "note"), [(False, "research use only"), (True, "research use only, synthetic data")]
)
def test_every_picture_says_what_it_is_for(figures, is_synthetic, note):
    reliability_png(predictions(50, models=MODELS[:1]), is_synthetic=is_synthetic)
    assert figures[0].get_supxlabel() == note


def test_a_table_without_rows_gives_a_picture_without_diagrams(figures):
    reliability_png(predictions().iloc[:0])
    assert not any(axes.get_visible() for axes in figures[0].axes)
