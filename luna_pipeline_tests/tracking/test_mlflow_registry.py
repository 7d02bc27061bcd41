"""A registered model's checkpoint comes back by number, alias or version; what cannot come back says so in a line."""

from dataclasses import replace

import pytest
import torch

from luna_pipeline.core.messages import TrackerUnavailableError
from luna_pipeline.core.training.checkpoints import CheckpointError
from luna_pipeline.tracking.mlflow_handlers import MlflowHandlers
from luna_pipeline.tracking.mlflow_registry import load_registered_checkpoint
from luna_pipeline.tracking.mlflow_run import mlflow_run
from luna_pipeline_tests.processes import free_port
from luna_pipeline_tests.tracking.test_mlflow_handlers import checkpoint, model_message, small_network

NAME = "nodule_classifier"


def register(tracking_uri, tmp_path, *, version, threshold):
    """Train a version, as far as MLflow sees of it; return its run."""
    kept = replace(checkpoint(), version=version, threshold=threshold)
    message = replace(model_message(small_network(), version), checkpoint=kept)
    with mlflow_run(
        tracking_uri, experiment="a", artifact_location=tmp_path / "artifacts", system_metrics_seconds=None
    ) as run:
        MlflowHandlers(run).log_model(message)
    return run


@pytest.fixture
def registry(tracking_uri, tmp_path):
    """Registered 1 and 2 are runs of 0.0.1, of which the second was trained later; 3 is 0.0.2."""
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


def test_a_server_that_is_away_is_one_line_without_its_password():
    port = free_port()
    with pytest.raises(TrackerUnavailableError) as caught:
        load_registered_checkpoint(f"http://me:secret@127.0.0.1:{port}", NAME, "1")
    address = f"http://127.0.0.1:{port}"
    assert str(caught.value) == f"MLflow must answer, got no answer ({address}). Start it, or set MLFLOW_TRACKING_URI."


def test_a_database_that_is_not_there_is_not_made_by_asking(tmp_path):
    with pytest.raises(FileNotFoundError, match="got no file"):
        load_registered_checkpoint(f"sqlite:///{tmp_path}/mlflow.db", NAME, "1")
    assert list(tmp_path.iterdir()) == []
