"""What the page of a training shows."""

from types import SimpleNamespace

import pandas as pd

from luna_pipeline.assets import stage_4_training
from luna_pipeline.settings import Settings
from luna_pipeline.tracking import mlflow_figures
from luna_pipeline.tracking.outbox import TrackerUnavailableError


class Trained:
    """A training of two epochs with an MLflow run."""

    mlflow_run_id = "a" * 32
    history = pd.DataFrame({"epoch": [1, 2], "training/loss": [0.5, 0.25]})


def test_curves_are_on_the_page_also_while_mlflow_is_away(tmp_path, monkeypatch):
    lines: list[str] = []
    context = SimpleNamespace(log=SimpleNamespace(warning=lambda text, *values: lines.append(text % values)))

    def refuse(_run, _png, file: str) -> None:
        raise TrackerUnavailableError(f"no place for {file}")

    monkeypatch.setattr(mlflow_figures, "log_png", refuse)
    settings = Settings(data_dir=tmp_path, home=tmp_path, mlflow_tracking_uri="http://127.0.0.1:9")
    shown = stage_4_training._curves(context, Trained(), settings, "auc")
    assert "data:image/png;base64," in shown
    (line,) = lines
    assert line.endswith("unavailable: no place for pictures/training_curves.png")
