"""Picture of the leaderboard."""

import pandas as pd

from luna_pipeline.core.evaluation import leaderboard_plot
from luna_pipeline.core.evaluation.leaderboard_plot import leaderboard_png

NAN = float("nan")
BOARD = pd.DataFrame(
    {
        "model": ["network", "zero rule"],
        "folds": "fold 0 of 5",
        "cpm": [0.8, NAN],
        "cpm_lower": [0.7, NAN],
        "cpm_upper": [0.9, NAN],
    }
)


def test_models_stand_in_their_order_with_cpm_and_interval(monkeypatch):
    monkeypatch.setattr(leaderboard_plot, "png_of", lambda figure, **marks: (figure, marks))
    figure, marks = leaderboard_png(BOARD, is_synthetic=True, footnote="a note")
    assert marks == {"is_synthetic": True, "footnote": "a note"}
    (axes,) = figure.axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["network\n0.800 [0.700, 0.900]", "zero rule\nundefined"]
    assert axes.yaxis_inverted()
    assert axes.lines[0].get_xdata()[0] == 0.8
    first, *_ = axes.collections[0].get_segments()
    assert first.tolist() == [[0.7, 0.0], [0.9, 0.0]]
    assert axes.get_title() == "Leaderboard, fold 0 of 5"
