"""IO managers of tables and checkpoints, with a home on a disk and in S3."""

import json
from dataclasses import replace

import dagster as dg
import pandas as pd
import pytest

from luna_pipeline.core.storage.files import listing, read_bytes, write_bytes
from luna_pipeline.core.training.checkpoints import save_checkpoint
from luna_pipeline.io_managers import CheckpointIOManager, ScoredFoldsIOManager, TablesIOManager
from luna_pipeline.launchers import TrainedClassifier
from luna_pipeline.launchers.evaluation.fold_predictions import FoldPredictions
from luna_pipeline.partitions import TEST_FOLDS, register_folds
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
    """Write the files of a training run."""
    checkpoint = make_checkpoint(version=version)
    path = settings.checkpoints_dir / checkpoint.name / version / "best.pt"
    save_checkpoint(path, checkpoint)
    return TrainedClassifier(
        checkpoint=checkpoint,
        path=path,
        version=version,
        history=pd.DataFrame(),
        tensorboard_dir=settings.local_home / "tensorboard",
        seconds=0.0,
    )


def hand_over(trained: TrainedClassifier, fold: int = 0) -> None:
    context = dg.build_output_context(asset_key=ASSET, run_id="run", partition_key=str(fold))
    CheckpointIOManager().handle_output(context, trained)


def load(fold: int = 0):
    partition = dg.PartitionKeyRange(str(fold), str(fold))
    # Without an instance, the keys of the dynamic TEST_FOLDS are unknown.
    folds = dg.StaticPartitionsDefinition([str(fold)])
    context = dg.build_input_context(asset_key=ASSET, asset_partition_key_range=partition, asset_partitions_def=folds)
    return CheckpointIOManager().load_input(context)


def fold_predictions(*, score: float) -> FoldPredictions:
    """Scores of a candidate of fold 2 by one model."""
    point = {"candidate_id": 1, "series_instance_uid": "1.2", "x_mm": 0.0, "y_mm": 0.0, "z_mm": 0.0, "class": 1}
    limits = {"threshold": 0.5, "threshold_f1": 0.5, "threshold_sensitivity": 0.5, "calibrated": score}
    predictions = pd.DataFrame([{**point, "fold": 2, "model": "nodule_classifier", "probability": score, **limits}])
    facts = {"version": "0.0.1-fold2", "fold": 2, "num_parameters": 3, "training_seconds": 1.0, "scoring_seconds": 1.0}
    ids = {"num_candidates": 1, "mlflow_run_id": "r", "recipe_digest": "d", "is_origin_known": True, "fold_digest": "f"}
    models = pd.DataFrame([{"model": "nodule_classifier", **facts, "candidates_per_second": 1.0, **ids}])
    predictions = predictions.astype({"class": "int8"})
    return FoldPredictions(predictions=predictions, models=models.astype({"num_parameters": "Int64"}))


def make_scores(scores: FoldPredictions) -> dg.ExecuteInProcessResult:
    @dg.asset(io_manager_key="scores", partitions_def=TEST_FOLDS)
    def nodule_predictions():
        return scores

    options = {"resources": {"scores": ScoredFoldsIOManager()}, "partition_key": "2", "raise_on_error": False}
    with dg.DagsterInstance.ephemeral() as instance:
        register_folds(instance, [2])
        return dg.materialize([nodule_predictions], instance=instance, **options)


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


def test_a_fold_has_a_table_of_its_own_which_is_checked_by_the_assets_name(settings):
    @dg.asset(io_manager_key="tables", partitions_def=TEST_FOLDS)
    def folds(context: dg.AssetExecutionContext):
        return pd.DataFrame({"series_instance_uid": ["1.2"], "fold": [int(context.partition_key) - 1], "rule": ["a"]})

    @dg.asset(io_manager_key="tables", partitions_def=TEST_FOLDS)
    def same(folds: object):
        return folds

    def make(fold: str) -> dg.ExecuteInProcessResult:
        resources = {"tables": TablesIOManager()}
        options = {"resources": resources, "partition_key": fold, "raise_on_error": False}
        with dg.DagsterInstance.ephemeral() as instance:
            register_folds(instance, [0, 3])
            return dg.materialize([folds, same], instance=instance, **options)

    assert make("3").success
    assert list(listing(settings.home)) == ["tables/folds/3.parquet", "tables/same/3.parquet"]
    assert LunaPaths().read_table("same", 3)["fold"].tolist() == [2]
    assert not make("0").success
    with pytest.raises(FileNotFoundError, match=r"got no 0\.parquet .*Materialize `folds` of fold 0 first"):
        LunaPaths().read_table("folds", 0)


def test_scores_of_a_fold_are_two_tables_which_are_written_both_or_none(settings):
    first = fold_predictions(score=0.25)
    assert make_scores(first).success
    names = ["tables/nodule_models/2.parquet", "tables/nodule_predictions/2.parquet"]
    assert list(listing(settings.home)) == names
    pd.testing.assert_frame_equal(LunaPaths().read_table("nodule_models", 2), first.models)
    assert LunaPaths().read_table("nodule_predictions", 2)["probability"].tolist() == [0.25]
    before = [read_bytes(settings.home / name) for name in names]
    second = fold_predictions(score=0.75)
    assert not make_scores(replace(second, models=second.models.assign(fold=-1))).success
    assert [read_bytes(settings.home / name) for name in names] == before
    assert make_scores(second).success
    assert LunaPaths().read_table("nodule_predictions", 2)["probability"].tolist() == [0.75]


def test_the_table_of_models_is_written_after_the_predictions_that_it_confirms(settings, monkeypatch):
    written = []
    monkeypatch.setattr("luna_pipeline.core.storage.tables.write_table", lambda path, _, name: written.append(name))
    assert make_scores(fold_predictions(score=0.25)).success
    assert written == ["nodule_predictions", "nodule_models"]


def test_a_table_that_was_never_made_is_named(settings):
    with pytest.raises(FileNotFoundError, match=r"got no candidates\.parquet .*Materialize `candidates` first"):
        LunaPaths().read_table("candidates")


def test_the_checkpoint_in_use_is_the_last_that_was_handed_over(settings):
    with pytest.raises(
        FileNotFoundError, match="Inputs must be made before they are read, got no `classification` of fold 0 "
    ):
        load()
    hand_over(first := train(settings, "0.0.1"))
    assert equal(load().model_state, first.checkpoint.model_state)
    hand_over(train(settings, "0.0.2"))
    assert load().version == "0.0.2"
    record = json.loads(read_bytes(settings.checkpoints_dir / "classification/current_0.json"))
    assert (record["path"], record["test_fold"]) == ("checkpoints/classification/0.0.2/best.pt", 0)
    with pytest.raises(FileNotFoundError, match="Materialize `classification` of fold 3 first"):
        load(3)
    hand_over(train(settings, "0.0.3"), 3)
    assert (load().version, load(3).version) == ("0.0.2", "0.0.3")


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
    assert "checkpoints/classification/current_0.json" not in listing(settings.home)


def asset_of_missing_inputs(**options):
    @dg.asset(name="scores", deps=["optional"], **options)
    def scores(numbers: object, board: object, classification: object): ...

    checkpoint = dg.AssetSpec("classification", partitions_def=options.get("partitions_def"))
    tables = [dg.AssetSpec(name, partitions_def=options.get("partitions_def")) for name in ("numbers", "board")]
    specs = [spec.with_io_manager_key("tables") for spec in tables] + [checkpoint.with_io_manager_key("checkpoints")]
    return [scores, *specs]


@pytest.mark.parametrize("present", [[], ["numbers"], ["numbers", "board"]])
def test_all_missing_inputs_of_an_asset_are_named_at_once(settings, present):
    for name in present:
        write_bytes(settings.tables_dir / f"{name}/2.parquet", pd.DataFrame({"number": [1]}).to_parquet())
    resources = {"tables": TablesIOManager(), "checkpoints": CheckpointIOManager()}
    with dg.DagsterInstance.ephemeral() as instance:
        register_folds(instance, [2])
        options = {"resources": resources, "partition_key": "2", "instance": instance, "raise_on_error": False}
        result = dg.materialize(asset_of_missing_inputs(partitions_def=TEST_FOLDS), selection=["scores"], **options)
    error = result.failure_data_for_node("scores").error.cause
    missing = ", ".join(f"`{name}`" for name in ("board", "classification", "numbers") if name not in present)
    assert f"got no {missing} of fold 2 (in " in error.message
    assert error.message.strip().endswith(f"Materialize {missing} of fold 2 first.")
    assert "optional" not in error.message
