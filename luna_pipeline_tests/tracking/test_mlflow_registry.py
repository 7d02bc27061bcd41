"""Checkpoints of registered models are loaded by number, alias or version; errors are one line."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient

from luna_pipeline.core.metrics.decision import Decision
from luna_pipeline.core.training.checkpoints import CheckpointError
from luna_pipeline.tracking import mlflow_requests
from luna_pipeline.tracking.mlflow_handlers import MlflowHandlers
from luna_pipeline.tracking.mlflow_registry import (
    MAX_DESCRIPTION,
    champion_of,
    load_registered_checkpoint,
    log_model_card,
    promote,
    registered_version_of,
)
from luna_pipeline.tracking.mlflow_run import mlflow_run
from luna_pipeline.tracking.outbox import TrackerUnavailableError
from luna_pipeline_tests.processes import free_port
from luna_pipeline_tests.tracking.test_mlflow_handlers import checkpoint, model_message, small_network

NAME = "nodule_classifier"


def register(tracking_uri, tmp_path, *, version, threshold):
    """Register a version as its training does; return its run."""
    kept = replace(checkpoint(), version=version, decision=Decision.at(threshold))
    message = replace(model_message(small_network(), version), checkpoint=kept)
    with mlflow_run(
        tracking_uri, experiment="a", artifact_location=tmp_path / "artifacts", system_metrics_seconds=None
    ) as run:
        MlflowHandlers(run).log_model(message)
    return run


@pytest.fixture
def registry(tracking_uri, tmp_path):
    """Register two runs of 0.0.1 as 1 and 2, and one of 0.0.2 as 3; return MLflow's address."""
    for version, threshold in [("0.0.1", 0.1), ("0.0.1", 0.2), ("0.0.2", 0.3)]:
        run = register(tracking_uri, tmp_path, version=version, threshold=threshold)
    run.client.set_registered_model_alias(NAME, "champion", "1")
    return tracking_uri


def test_a_registered_version_is_found_by_number_alias_and_own_version(registry):
    wanted = {"1": 0.1, "2": 0.2, "3": 0.3, "@champion": 0.1, "0.0.1": 0.2, "0.0.2": 0.3}
    found = {version: load_registered_checkpoint(registry, NAME, version).threshold for version in wanted}
    assert found == wanted

    loaded = load_registered_checkpoint(registry, NAME, "3")
    assert (loaded.name, loaded.version) == (NAME, "0.0.2")
    expected = small_network().state_dict()
    assert loaded.model_state.keys() == expected.keys()
    assert all(torch.equal(loaded.model_state[name], value) for name, value in expected.items())

    unknown = r"got no nodule_classifier 0\.0\.9 \(registered: 3 = nodule_classifier 0\.0\.2, 2 = .*0\.0\.1, 1 = "
    with pytest.raises(FileNotFoundError, match=unknown):
        load_registered_checkpoint(registry, NAME, "0.0.9")
    with pytest.raises(FileNotFoundError, match="got no nodule_classifier @best"):
        load_registered_checkpoint(registry, NAME, "@best")


@pytest.mark.parametrize("version", ["0.0.1", "@champion", "1"])
def test_a_name_that_is_not_registered_is_named(tracking_uri, version):
    with pytest.raises(FileNotFoundError, match=rf"got no x {version} \(registered: none\). Choose a registered name"):
        load_registered_checkpoint(tracking_uri, "x", version)


def test_a_run_whose_artifact_is_no_checkpoint_is_named_by_its_registered_version(tracking_uri, tmp_path):
    run = register(tracking_uri, tmp_path, version="0.0.1", threshold=0.1)
    run.client.log_text(run.run_id, "not weights", "checkpoint/best.pt")
    with pytest.raises(CheckpointError, match=r"must be a checkpoint .* \(checkpoint/best\.pt of models:/.*/1\)"):
        load_registered_checkpoint(tracking_uri, NAME, "1")


def test_a_model_that_somebody_else_registered_holds_no_checkpoint(tracking_uri, tmp_path):
    with mlflow_run(
        tracking_uri, experiment="a", artifact_location=tmp_path / "artifacts", system_metrics_seconds=None
    ) as run:
        run.client.create_registered_model("theirs")
        run.client.create_model_version("theirs", source=str(tmp_path), run_id=run.run_id)
    with pytest.raises(FileNotFoundError, match=r"got none \(checkpoint/best\.pt of models:/theirs/1\)"):
        load_registered_checkpoint(tracking_uri, "theirs", "1")


def test_a_server_that_is_away_is_one_line_without_its_password(monkeypatch):
    monkeypatch.setattr(mlflow_requests, "SECONDS_TO_FIRST_ANSWER", 0.0)
    port = free_port()
    with pytest.raises(TrackerUnavailableError) as caught:
        load_registered_checkpoint(f"http://me:secret@127.0.0.1:{port}", NAME, "1")
    address = f"http://127.0.0.1:{port}"
    assert str(caught.value) == f"MLflow must answer, got no answer ({address}). Start it, or set MLFLOW_TRACKING_URI."


def test_a_database_that_is_not_there_is_not_made_by_asking(tmp_path):
    with pytest.raises(FileNotFoundError, match="got no file"):
        load_registered_checkpoint(f"sqlite:///{tmp_path}/mlflow.db", NAME, "1")
    assert list(tmp_path.iterdir()) == []


def described(tracking_uri, version: str) -> str | None:
    return MlflowClient(tracking_uri).get_model_version(NAME, version).description


def test_a_run_knows_what_it_registered_the_newest_of_several(tracking_uri, tmp_path):
    first, second = (register(tracking_uri, tmp_path, version="0.0.1", threshold=0.1) for _ in range(2))
    first.client.create_model_version(NAME, source=str(tmp_path), run_id=first.run_id)

    found = [registered_version_of(tracking_uri, NAME, run.run_id) for run in (first, second)]
    assert found == ["3", "2"]
    assert registered_version_of(tracking_uri, NAME, "0" * 32) is None
    assert registered_version_of(tracking_uri, "another", first.run_id) is None


def test_a_model_card_lies_with_its_run_and_describes_its_version_alone(tracking_uri, tmp_path):
    runs = [register(tracking_uri, tmp_path, version=version, threshold=0.1) for version in ("0.0.1", "0.0.2")]
    for text in ("# Old\n", "# Card\n", "# Card\n"):
        log_model_card(tracking_uri, runs[1].run_id, text)

    kept = runs[1].client.download_artifacts(runs[1].run_id, "model_card.md", str(tmp_path))
    assert Path(kept).read_text() == "# Card\n"
    assert [described(tracking_uri, version) or "" for version in ("1", "2")] == ["", "# Card\n"]


def test_a_card_of_a_run_without_a_registered_version_is_kept_all_the_same(tracking_uri, tmp_path):
    with mlflow_run(
        tracking_uri, experiment="a", artifact_location=tmp_path / "artifacts", system_metrics_seconds=None
    ) as run:
        log_model_card(tracking_uri, run.run_id, "# Card\n")
    assert [found.path for found in run.client.list_artifacts(run.run_id)] == ["model_card.md"]


@pytest.mark.parametrize("num_lines", [MAX_DESCRIPTION // 10, MAX_DESCRIPTION // 10 + 1])
def test_a_card_that_is_too_long_is_cut_at_a_line_and_says_where_it_is_whole(tracking_uri, tmp_path, num_lines):
    run = register(tracking_uri, tmp_path, version="0.0.1", threshold=0.1)
    card = "| a | b |\n" * num_lines
    log_model_card(tracking_uri, run.run_id, card)

    description = described(tracking_uri, "1")
    if len(card) <= MAX_DESCRIPTION:
        assert description == card
    else:
        assert len(description) <= MAX_DESCRIPTION
        assert description.endswith("| a | b |\n\n… The whole card is the run's artifact model_card.md.\n")


def test_the_alias_moves_and_says_who_held_it(registry):
    assert champion_of(registry, NAME) == "1"
    assert promote(registry, NAME, "3", tags={"cpm": "0.9"}) == "1"
    assert promote(registry, NAME, "3", tags={"cpm": "0.9"}) == "3"

    assert champion_of(registry, NAME) == "3"
    assert load_registered_checkpoint(registry, NAME, "@champion").version == "0.0.2"
    tags = {version: MlflowClient(registry).get_model_version(NAME, version).tags.get("cpm") for version in "123"}
    assert tags == {"1": None, "2": None, "3": "0.9"}


def test_each_alias_has_a_holder_of_its_own(registry):
    assert champion_of(registry, NAME, "challenger") is None
    assert promote(registry, NAME, "2", alias="challenger") is None
    assert [champion_of(registry, NAME), champion_of(registry, NAME, "challenger")] == ["1", "2"]


def test_a_model_that_nobody_registered_has_no_champion(tracking_uri):
    assert champion_of(tracking_uri, "another") is None


@pytest.mark.parametrize("version", ["4", "0.0.2", "@champion"])
def test_only_a_registered_number_is_promoted_and_the_champion_stays(registry, version):
    with pytest.raises(FileNotFoundError, match=rf"got no {NAME} {version} \(registered: 3 = "):
        promote(registry, NAME, version, tags={"cpm": "0.9"})
    assert champion_of(registry, NAME) == "1"


@pytest.mark.parametrize(
    "ask",
    [
        lambda uri: champion_of(uri, NAME),
        lambda uri: promote(uri, NAME, "1"),
        lambda uri: registered_version_of(uri, NAME, "0" * 32),
        lambda uri: log_model_card(uri, "0" * 32, "# Card"),
    ],
)
def test_every_question_to_a_server_that_is_away_is_answered_in_one_line(ask, monkeypatch):
    monkeypatch.setattr(mlflow_requests, "SECONDS_TO_FIRST_ANSWER", 0.0)
    with pytest.raises(TrackerUnavailableError, match="MLflow must answer, got no answer"):
        ask(f"http://127.0.0.1:{free_port()}")
