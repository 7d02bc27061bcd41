"""Partitions of test folds: registered with the table of folds, removed when the data no longer have them."""

import dagster as dg
import pandas as pd
import pytest
from dagster._core.definitions.partitions.context import partition_loading_context

from luna_pipeline.assets.stage_2_candidates import FoldsConfig, folds
from luna_pipeline.checks import no_fold_is_gone
from luna_pipeline.core.storage.files import write_bytes
from luna_pipeline.definitions import defs
from luna_pipeline.jobs.fold_jobs import _make
from luna_pipeline.partitions import (
    CT_SERIES,
    TEST_FOLD_NAME,
    TEST_FOLDS,
    fold_of_partition,
    forget_folds,
    gone_folds,
    register_folds,
    register_series,
)
from luna_pipeline.resources import LunaPaths
from luna_pipeline.runs.partition_keys import RANGE_TAGS


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def paths(tmp_path, monkeypatch) -> LunaPaths:
    monkeypatch.setenv("LUNA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LUNA_DATA_DIR", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    return LunaPaths()


def registered(instance: dg.DagsterInstance) -> list[str]:
    return list(TEST_FOLDS.get_partition_keys(dynamic_partitions_store=instance))


def make_folds(instance: dg.DagsterInstance, paths: LunaPaths, num_folds: int) -> dg.Output:
    """Assign twelve series without subsets to ``num_folds`` folds."""
    uids = [f"1.{number}" for number in range(12)]
    series = pd.DataFrame({"series_instance_uid": uids, "is_readable": True, "subset": None, "patient_hash": uids})
    with dg.build_asset_context(instance=instance) as context:
        return folds(context, FoldsConfig(num_folds=num_folds), paths=paths, ct_series=series)


def test_folds_are_registered_in_the_order_of_their_numbers_and_more_are_added(instance):
    register_folds(instance, [2, 0, 1, 0])
    assert registered(instance) == ["0", "1", "2"]
    register_folds(instance, [11, 10, 9, 2])
    assert registered(instance) == ["0", "1", "2", "9", "10", "11"]
    forget_folds(instance, ["1"])
    register_folds(instance, [1, 3])
    assert registered(instance) == ["0", "1", "2", "3", "9", "10", "11"]


def test_folds_in_use_stay_registered_when_one_before_them_comes_back(instance, monkeypatch):
    register_folds(instance, [0, 2, 3])
    used = {"3": "backfill a"}
    monkeypatch.setattr("luna_pipeline.partitions.partitions_in_use", lambda _: used)
    deleted, delete = [], instance.delete_dynamic_partition
    monkeypatch.setattr(
        instance, "delete_dynamic_partition", lambda name, key: (deleted.append(key), delete(name, key))
    )
    register_folds(instance, [0, 1, 2, 3])
    assert deleted == ["2"]
    assert registered(instance) == ["0", "3", "1", "2"]
    used.clear()
    register_folds(instance, [0, 1, 2, 3])
    assert registered(instance) == ["0", "1", "2", "3"]
    deleted.clear()
    register_folds(instance, [0, 1, 2, 3])
    assert deleted == []


def test_a_fold_that_is_gone_is_named_and_forgotten(instance):
    register_folds(instance, range(12))
    instance.add_dynamic_partitions(TEST_FOLD_NAME, ["first", "007"])
    assert gone_folds(instance, [0, 1, 2, 3, 4, 5, 6, 7, 8]) == ["007", "9", "10", "11", "first"]
    forget_folds(instance, ["10", "first", "never registered"])
    assert gone_folds(instance, range(10)) == ["007", "11"]


def test_the_asset_registers_the_folds_of_the_data_and_more_after_a_split_into_more(instance, paths):
    output = make_folds(instance, paths, 3)
    assert registered(instance) == ["0", "1", "2"]
    assert output.metadata["gone"].value == []
    make_folds(instance, paths, 12)
    assert registered(instance) == [str(fold) for fold in range(12)]


def test_a_fold_without_a_classifier_goes_with_the_data_and_a_trained_one_when_it_is_pruned(instance, paths, capsys):
    make_folds(instance, paths, 5)
    pointer = paths.settings.checkpoints_dir / "malignancy_classifier/current_4.json"
    write_bytes(pointer, b"{}")
    output = make_folds(instance, paths, 3)
    assert registered(instance) == ["0", "1", "2", "4"]
    assert output.metadata["gone"].value == ["4"]
    assert "no longer have the trained folds ['4']" in capsys.readouterr().err
    context = dg.build_asset_check_context(instance=instance)
    check = no_fold_is_gone(context, output.value)
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "got 4 without series" in check.description
    forget_folds(instance, gone_folds(instance, output.value["fold"]))
    assert no_fold_is_gone(context, output.value).passed
    make_folds(instance, paths, 3)
    assert registered(instance) == ["0", "1", "2"]


def test_a_job_registers_the_folds_of_the_index_on_an_instance_without_any(instance, paths, monkeypatch):
    index = paths.settings.tables_dir / "cutout_index.parquet"
    index.parent.mkdir(parents=True)
    pd.DataFrame({"fold": [1, 0, 3]}).to_parquet(index)
    started = []
    monkeypatch.setattr("luna_pipeline.jobs.fold_jobs.materialize_nested", lambda *_, fold, **__: started.append(fold))

    @dg.op
    def train(context: dg.OpExecutionContext) -> None:
        _make(context, ["zero_rule_baseline"], [3], {})

    @dg.job
    def train_once() -> None:
        train()

    assert train_once.execute_in_process(instance=instance).success
    assert registered(instance) == ["0", "1", "3"]
    assert started == [3]


def test_events_of_the_ten_fixed_folds_of_older_versions_keep_their_place(tmp_path):
    older = dg.StaticPartitionsDefinition([str(fold) for fold in range(10)])

    def asset_of(partitions: dg.PartitionsDefinition) -> dg.AssetsDefinition:
        @dg.asset(name="trained", partitions_def=partitions)
        def trained() -> None:
            pass

        return trained

    with dg.DagsterInstance.local_temp(str(tmp_path), overrides={"telemetry": {"enabled": False}}) as instance:
        assert dg.materialize([asset_of(older)], partition_key="1", instance=instance).success
        key = dg.AssetKey("trained")
        assert instance.get_status_by_partition(key, older.get_partition_keys(), older)["1"].value == "MATERIALIZED"
        register_folds(instance, range(3))
        statuses = instance.get_status_by_partition(key, registered(instance), TEST_FOLDS)
        assert {fold: status and status.value for fold, status in statuses.items()} == {
            "0": None,
            "1": "MATERIALIZED",
            "2": None,
        }
        assert dg.materialize([asset_of(TEST_FOLDS)], partition_key="2", instance=instance).success
        assert instance.get_materialized_partitions(key) == {"1", "2"}


UIDS = ["1.2", "1.3", "1.4", "1.5", "1.6", "1.7"]


def in_range(instance: dg.DagsterInstance, start: str, end: str) -> list[str]:
    with partition_loading_context(dynamic_partitions_store=instance):
        return list(CT_SERIES.get_partition_keys_in_range(dg.PartitionKeyRange(start, end)))


def test_a_range_has_the_keys_from_its_start_to_its_end(instance):
    register_series(instance, UIDS)
    assert in_range(instance, "1.3", "1.5") == ["1.3", "1.4", "1.5"]
    assert in_range(instance, "1.4", "1.4") == ["1.4"]
    assert in_range(instance, "1.2", "1.7") == UIDS


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        ("1.4", "1.3", r"^A range of partitions must end at or after its start, got '1.4' to '1.3' \(series_inst"),
        ("9", "1.3", r"^A partition must be registered, got '9' .* Choose one of 1.2, 1.3, 1.4 and 3 more"),
        ("1.3", "9", r"^A partition must be registered, got '9' \(series_instance_uid\)"),
        ("9", "9", r"^A partition must be registered, got '9'"),
    ],
)
def test_an_empty_range_and_one_of_unknown_keys_are_refused(instance, start, end, message):
    register_series(instance, UIDS)
    with pytest.raises(dg.DagsterInvalidInvocationError, match=message):
        in_range(instance, start, end)


def test_an_unknown_partition_of_a_job_is_refused_with_what_to_do(instance, monkeypatch):
    cut = defs.resolve_job_def("cut")

    def refusal() -> str:
        with pytest.raises(dg.DagsterUnknownPartitionError) as error:
            cut.execute_in_process(instance=instance, partition_key="9")
        return str(error.value)

    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    assert refusal().endswith("without DAGSTER_HOME: set it to the folder of Dagster's run history.")
    monkeypatch.setenv("DAGSTER_HOME", "/somewhere")
    assert refusal().endswith("None is registered in DAGSTER_HOME: run the job `ingest` first.")
    register_series(instance, UIDS[:2])
    assert refusal().endswith("Choose one of 1.2, 1.3, or register it with the job `ingest`.")


def test_a_run_of_an_empty_range_does_not_start(instance):
    register_series(instance, UIDS)
    start, end = RANGE_TAGS
    with pytest.raises(dg.DagsterInvalidInvocationError, match="must end at or after its start"):
        defs.resolve_job_def("cut").execute_in_process(instance=instance, tags={start: "1.4", end: "1.3"})
    assert [run.status for run in instance.get_runs()] == [dg.DagsterRunStatus.NOT_STARTED]


@pytest.mark.parametrize("key", ["7", "first", "-1", "\u0663"])
def test_a_fold_that_is_none_is_refused_by_the_assets(instance, key):
    register_folds(instance, [0, 1])
    instance.add_dynamic_partitions(TEST_FOLD_NAME, ["first"])
    message = r"must be registered, got .* \(test_fold\). Choose one of 0, 1, or"
    context = dg.build_asset_context(partition_key=key, instance=instance)
    with pytest.raises(ValueError, match=message):
        fold_of_partition(context)
    assert fold_of_partition(dg.build_asset_context(partition_key="1", instance=instance)) == 1


@pytest.mark.parametrize(
    ("job", "config"),
    [
        ("train_nodule_classifier", {"folds": [1, 2], "validation_fold": 2}),
        ("train_malignancy_classifier", {"folds": [2], "validation_fold": 2}),
        ("tune", {"folds": [2], "validation_fold": 2}),
        ("cross_validate", {"validation_fold": 2}),
        ("cross_validate", {"folds": [0, 2], "validation_fold": 2}),
    ],
)
def test_a_fold_that_is_held_out_twice_is_refused_at_launch(instance, paths, job, config):
    names = {"train_malignancy_classifier": "malignancy_classifier", "tune": "tuning_study"}
    name = names.get(job, "nodule_classifier")
    with pytest.raises(ValueError, match="Test and validation must be two folds, got 2 for both"):
        defs.resolve_job_def(job).execute_in_process(instance=instance, run_config={"ops": {name: {"config": config}}})
    assert instance.get_runs() == []
