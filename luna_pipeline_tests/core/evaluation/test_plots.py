"""Pictures: small, correct and deterministic."""

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from luna_pipeline.core.evaluation.calibration_plot import reliability_png
from luna_pipeline.core.evaluation.plots import roc_and_pr_png, training_curves_png


def predictions(num: int = 400) -> pd.DataFrame:
    generator = np.random.default_rng(0)
    labels = (np.arange(num) < num // 10).astype(int)
    tables = []
    for model, gain in (("nodule_classifier", 2.5), ("middle_hu_baseline", 1.0), ("zero_rule_baseline", 0.0)):
        noise = 0.0 if gain == 0.0 else generator.normal(size=num)
        scores = 1 / (1 + np.exp(-(noise + gain * labels)))
        table = {"candidate_id": range(num), "series_instance_uid": "A", "class": labels, "probability": scores}
        tables.append(pd.DataFrame(table).assign(x_mm=0.0, y_mm=0.0, z_mm=0.0, fold=0, model=model))
    decisions = {"threshold": 0.5, "threshold_f1": 0.5, "threshold_sensitivity": 0.5, "calibrated": np.nan}
    return pd.concat(tables).assign(**decisions)


def test_curves_are_a_small_png_that_is_the_same_each_time():
    picture = roc_and_pr_png(predictions())

    assert len(picture) < 100_000
    assert Image.open(io.BytesIO(picture)).format == "PNG"
    assert picture == roc_and_pr_png(predictions())


def test_models_differ_by_line_style_and_colour(figures):
    roc_and_pr_png(predictions())
    roc_axes, _ = figures[0].axes
    curves = [line for line in roc_axes.lines if ": AUC" in line.get_label()]

    assert len({line.get_linestyle() for line in curves}) == len({line.get_color() for line in curves}) == 3


def test_legend_gives_the_auc_and_the_share_of_nodules(figures):
    roc_and_pr_png(predictions())
    roc_axes, pr_axes = figures[0].axes

    assert "zero_rule_baseline: AUC 0.500" in [line.get_label() for line in roc_axes.lines]
    assert "chance: 0.100" in [line.get_label() for line in pr_axes.lines]


def test_precision_at_recall_0_is_that_of_the_highest_threshold(figures):
    roc_and_pr_png(predictions())
    (zero_rule,) = (line for line in figures[0].axes[1].lines if line.get_label().startswith("zero_rule_baseline"))

    # With one score for all candidates, precision is the share of nodules; scikit-learn ends the curve at 1.
    assert list(zip(zero_rule.get_xdata(), zero_rule.get_ydata(), strict=True)) == [(1.0, 0.1), (0.0, 0.1)]


def test_legend_gives_the_intervals_of_the_report(figures):
    report = pd.DataFrame(
        {
            "model": ["nodule_classifier", "zero_rule_baseline"],
            "auc_lower": [0.9, np.nan],
            "auc_upper": [0.98, np.nan],
            "average_precision_lower": [0.5, 0.1],
            "average_precision_upper": [0.75, 0.1],
        }
    )
    roc_and_pr_png(predictions(), report=report)
    labels = [line.get_label() for axes in figures[0].axes for line in axes.lines]
    assert [label.split(": ")[1][len("AUC 0.960") :] for label in labels if ": AUC" in label] == [
        " [0.900, 0.980]",
        "",
        "",
    ]
    assert any(label.startswith("nodule_classifier: AP ") and label.endswith(" [0.500, 0.750]") for label in labels)


def test_a_model_with_one_class_alone_is_named_and_not_drawn(figures):
    table = predictions()
    roc_and_pr_png(table[table["class"] == 1])

    labels = [line.get_label() for line in figures[0].axes[0].lines]
    assert "nodule_classifier: AUC undefined" in labels


@pytest.mark.parametrize(
    ("is_synthetic", "note"), [(False, "research use only"), (True, "research use only, synthetic data")]
)
def test_every_picture_says_what_it_is_for(figures, is_synthetic, note):
    roc_and_pr_png(predictions(50), is_synthetic=is_synthetic)
    training_curves_png(pd.DataFrame({"epoch": [1], "training/loss": [0.5]}), is_synthetic=is_synthetic)
    assert [figure.get_supxlabel() for figure in figures] == [note, note]


def test_a_limitation_of_the_models_stands_above_what_the_picture_is_for(figures):
    footnote = "a, b trained on older cutouts"
    one = predictions(50).assign(calibrated=0.5)
    roc_and_pr_png(one, footnote=footnote)
    reliability_png(one, footnote=footnote)
    assert [figure.get_supxlabel() for figure in figures] == [f"{footnote}\nresearch use only"] * 2


def test_training_curves_leave_out_epochs_that_were_not_validated(figures):
    history = pd.DataFrame(
        {"epoch": [1, 2, 3], "training/loss": [0.7, 0.5, 0.4], "validation/loss": [0.6, np.nan, 0.5]}
    )
    assert len(training_curves_png(history)) < 100_000

    loss_axes, auc_axes = figures[0].axes
    assert [list(line.get_xdata()) for line in loss_axes.lines] == [[1, 2, 3], [1, 3]]
    assert len(auc_axes.lines) == 0
