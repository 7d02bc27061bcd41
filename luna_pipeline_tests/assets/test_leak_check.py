"""The leak check has a result for each test fold, beside that fold's own materialization, and says what holds."""

import dagster as dg
import pytest

from luna_pipeline.assets.leak_check import NO_LEAK, leak_result, no_leak, stop_at_leak
from luna_pipeline.core.evaluation.leaks import LeakReport
from luna_pipeline.partitions import TEST_FOLDS, register_folds

KEY = dg.AssetCheckKey(dg.AssetKey("scores"), NO_LEAK)


def report(*lines: str, **facts) -> LeakReport:
    return LeakReport(**{"lines": lines, "num_unknown_patients": 0, "num_series": 9, **facts})


CLEAN = report()
LEAK = report("Series 1.2 was used in training.")
REPORTS = {"0": [CLEAN], "1": [CLEAN, LEAK], "2": [CLEAN, CLEAN]}


@dg.asset(partitions_def=TEST_FOLDS, check_specs=[no_leak("scores")])
def scores(context: dg.AssetExecutionContext):
    reports = REPORTS[context.partition_key]
    yield from stop_at_leak("scores", int(context.partition_key), reports)
    yield dg.Output(1)
    yield leak_result("scores", int(context.partition_key), reports)


def made(instance: dg.DagsterInstance, fold: str) -> dg.ExecuteInProcessResult:
    return dg.materialize([scores], partition_key=fold, instance=instance, raise_on_error=False)


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as instance:
        register_folds(instance, range(3))
        yield instance


def test_folds_do_not_overwrite_each_others_result(instance):
    assert [made(instance, fold).success for fold in REPORTS] == [True, False, True]
    states = instance.event_log_storage.get_asset_check_partition_info([KEY])
    found = {state.partition_key: state.latest_execution_status.value for state in states}
    assert found == {"0": "SUCCEEDED", "1": "FAILED", "2": "SUCCEEDED"}


def test_a_result_is_beside_the_materialization_of_its_own_run(instance):
    results = {fold: made(instance, fold) for fold in ("0", "2", "0")}
    for fold in ("2", "0"):
        record = next(
            record
            for record in instance.event_log_storage.get_asset_check_execution_history(KEY, limit=9)
            if record.partition == fold
        )
        evaluation = record.event.dagster_event.event_specific_data
        assert evaluation.target_materialization_data.run_id == results[fold].run_id
        assert evaluation.metadata["fold"].value == int(fold)


def test_a_leak_stops_the_asset_before_it_is_made_and_is_named(instance):
    result = made(instance, "1")
    assert not result.asset_materializations_for_node("scores")
    (evaluation,) = result.get_asset_check_evaluations()
    assert evaluation.description == "Series 1.2 was used in training."


@pytest.mark.parametrize(
    ("reports", "words"),
    [
        ([CLEAN], "No series, patient or candidate of fold 3 was used to train the models that score it (1)."),
        (
            [CLEAN, report(is_origin_known=False)],
            "that score it (1). The weights of others (1) come from elsewhere: what they have seen is not known.",
        ),
        ([report(is_origin_known=False)], "The weights of models (1) come from elsewhere"),
        ([CLEAN, report(num_unknown_patients=4)], "The patients of 4 of 9 series are not known."),
        ([report(num_not_compared=2), CLEAN], "2 of 9 series were not compared with other scans."),
        ([], "One model or more must be checked, got none for fold 3."),
    ],
)
def test_the_text_says_what_holds_and_what_is_not_known(reports, words):
    result = leak_result("scores", 3, reports)
    assert words in result.description
    assert result.passed == bool(reports)
    assert "No series" not in result.description or any(each.is_origin_known for each in reports)


@pytest.mark.parametrize(
    ("reports", "state"),
    [
        ([CLEAN, CLEAN], "clean"),
        ([CLEAN, report(num_unknown_patients=1)], "unknown"),
        ([report(is_origin_known=False)], "unknown"),
        ([report(num_unknown_patients=1), report("Series 1.2 was used in training.")], "leak"),
        ([], "unknown"),
    ],
)
def test_the_metadata_hold_one_word_for_the_state(reports, state):
    assert leak_result("scores", 3, reports).metadata["leak_state"].value == state
