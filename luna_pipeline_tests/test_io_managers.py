"""Tables and checkpoints as Dagster keeps them, with a home on a disk and in S3."""

import json

import dagster as dg
import pandas as pd
import pytest

from luna_pipeline.core.files import listing, read_bytes, write_bytes
from luna_pipeline.core.training.checkpoints import save_checkpoint
from luna_pipeline.io_managers import CheckpointIOManager, TablesIOManager
from luna_pipeline.launchers import TrainedClassifier
from luna_pipeline.resources import LunaPaths
from luna_pipeline.settings import Settings
from luna_pipeline_tests.core.training.test_checkpoints import equal, make_checkpoint

ASSET = dg.AssetKey("classification")


@pytest.fixture(params=["local", "remote"])
def settings(request: pytest.FixtureRequest, tmp_path, monkeypatch) -> Settings:
    home = str(tmp_path / "home") if request.param == "local" else f"{request.getfixturevalue('s3_home')}/"
    monkeypatch.setenv("LUNA_HOME", home)
    monkeypatch.setenv("LUNA_CACHE", str(tmp_path / "cache"))
    return Settings.from_environment()


def train(settings: Settings, version: str) -> TrainedClassifier:
    """Leave what a training run leaves."""
    checkpoint = make_checkpoint(version=version)
    path = settings.checkpoints_dir / checkpoint.name / version / "best.pt"
    save_checkpoint(path, checkpoint)
    return TrainedClassifier(
        checkpoint=checkpoint, path=path, version=version, history=pd.DataFrame(),
        tensorboard_dir=settings.local_home / "tensorboard", seconds=0.0,
    )  # fmt: skip


def hand_over(trained: TrainedClassifier) -> None:
    CheckpointIOManager().handle_output(dg.build_output_context(asset_key=ASSET, run_id="run"), trained)


def load():
    return CheckpointIOManager().load_input(dg.build_input_context(asset_key=ASSET))


def test_a_table_is_kept_and_read_by_its_asset_and_by_name(settings):
    @dg.asset(io_manager_key="tables")
    def numbers():
        return pd.DataFrame({"number": [1, 2], "text": ["a", None]})

    @dg.asset(io_manager_key="tables")
    def doubled(numbers: object):
        return numbers.assign(number=2 * numbers["number"])

    assert dg.materialize([numbers, doubled], resources={"tables": TablesIOManager()}).success
    assert list(listing(settings.home)) == ["tables/doubled.parquet", "tables/numbers.parquet"]
    assert LunaPaths().read_table("doubled")["number"].tolist() == [2, 4]


def test_a_table_that_was_never_made_is_named(settings):
    with pytest.raises(FileNotFoundError, match=r"got no candidates\.parquet .*Materialize `candidates` first"):
        LunaPaths().read_table("candidates")


def test_the_checkpoint_in_use_is_the_last_that_was_handed_over(settings):
    with pytest.raises(FileNotFoundError, match="Classifier must be trained before it is used"):
        load()
    hand_over(first := train(settings, "0.0.1"))
    assert equal(load().model_state, first.checkpoint.model_state)
    hand_over(train(settings, "0.0.2"))
    assert load().version == "0.0.2"
    record = json.loads(read_bytes(settings.checkpoints_dir / "classification/current.json"))
    assert record["path"] == "checkpoints/classification/0.0.2/best.pt"


def test_another_checkpoint_in_its_place_is_refused(settings):
    hand_over(train(settings, "0.0.1"))
    save_checkpoint(settings.checkpoints_dir / "classification/0.0.1/best.pt", make_checkpoint(epoch=3))
    with pytest.raises(ValueError, match="Checkpoint must be the one that was trained, got SHA-256"):
        load()


def test_a_damaged_checkpoint_is_not_handed_over(settings):
    trained = train(settings, "0.0.1")
    write_bytes(trained.path, b"PK")
    with pytest.raises(ValueError, match="The checkpoint must be whole"):
        hand_over(trained)
    assert "checkpoints/classification/current.json" not in listing(settings.home)
