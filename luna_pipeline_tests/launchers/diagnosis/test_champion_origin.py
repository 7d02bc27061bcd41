"""The check that fails while a model of unknown origin is the champion."""

from dataclasses import replace
from pathlib import Path

import pytest

from luna_pipeline.checks import champion_origin
from luna_pipeline.resources import LunaPaths
from luna_pipeline.tracking.mlflow_handlers import MlflowHandlers
from luna_pipeline.tracking.mlflow_run import mlflow_run
from luna_pipeline_tests.tracking.test_mlflow_handlers import checkpoint, model_message, small_network

NAME = "nodule_classifier"


@pytest.fixture
def check(tracking_uri, tmp_path: Path, monkeypatch):
    """The check in an installation whose registry has version 1 of known and version 2 of unknown origin."""
    monkeypatch.setenv("LUNA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri)
    for version, is_unknown in (("0.0.1", False), ("0.0.2", True)):
        kept = replace(checkpoint(), version=version, has_unknown_origin=is_unknown)
        message = replace(model_message(small_network(), version), checkpoint=kept)
        with mlflow_run(
            tracking_uri, experiment="a", artifact_location=tmp_path / "artifacts", system_metrics_seconds=None
        ) as run:
            MlflowHandlers(run).log_model(message)

    def evaluate(champion: str | None):
        if champion:
            run.client.set_registered_model_alias(NAME, "champion", champion)
        return champion_origin(LunaPaths())

    return evaluate


def test_a_champion_of_unknown_origin_fails_the_check_by_name(check):
    assert check(None).passed, "there is no champion"
    assert check("1").passed
    failed = check("2")
    assert not failed.passed
    assert failed.severity.value == "ERROR"
    assert failed.metadata["unknown"].value == {f"{NAME} 2": f"{NAME} 0.0.2 was trained elsewhere, on unknown scans"}
    assert "Move MLflow's alias `champion`" in failed.description
    assert check("1").passed


def test_an_mlflow_that_does_not_answer_is_a_warning_and_no_error(monkeypatch):
    from luna_pipeline.launchers.diagnosis import champion_origin as origin
    from luna_pipeline.tracking.outbox import TrackerUnavailableError

    def away(_settings):
        raise TrackerUnavailableError("MLflow must answer, got no answer (http://mlflow). Start it.")

    monkeypatch.setattr(origin, "champions", away)
    result = champion_origin(LunaPaths())
    assert (result.passed, result.severity.value) == (False, "WARN")
    assert "got no answer" in result.description
