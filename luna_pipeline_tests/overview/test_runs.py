"""The list of Dagster's runs."""

from collections.abc import Iterator

import dagster as dg
import pytest

from luna_pipeline.overview.runs import run_rows
from luna_pipeline.runs.nested import PARENT_TAG, UNLAUNCHED_TAG


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@dg.op(config_schema={"is_broken": bool})
def work(context) -> None:
    if context.op_config["is_broken"]:
        raise ValueError("The CT must be readable, got none\n(1.2.3). Repair it.")


@dg.job
def cut() -> None:
    work()


def run(instance: dg.DagsterInstance, *, is_broken: bool = False, **options) -> dg.ExecuteInProcessResult:
    config = {"ops": {"work": {"config": {"is_broken": is_broken}}}}
    return cut.execute_in_process(instance=instance, run_config=config, raise_on_error=False, **options)


def test_runs_are_listed_the_newest_first_with_the_reason_of_a_failure(instance):
    run(instance)
    failed = run(instance, is_broken=True, tags={"dagster/partition": "1.2.3"})
    first, second = run_rows(instance, limit=5)
    assert (second["job"], second["status"], second["reason"], second["partition"]) == ("cut", "success", "", None)
    assert first["seconds"] >= 0
    assert (first["status"], first["partition"], first["run_id"]) == ("failure", "1.2.3", failed.run_id)
    assert first["reason"] == "work: The CT must be readable, got none (1.2.3). Repair it."
    assert [row["run_id"] for row in run_rows(instance, limit=1)] == [failed.run_id]
    assert run_rows(instance, limit=5, statuses=[dg.DagsterRunStatus.CANCELED]) == []


def test_nested_runs_are_listed_only_if_asked_for(instance):
    outer = run(instance)
    nested = dg.DagsterRun(job_name="cut").run_id
    run(instance, run_id=nested, tags={PARENT_TAG: outer.run_id, UNLAUNCHED_TAG: nested})
    assert [row["run_id"] for row in run_rows(instance, limit=5)] == [outer.run_id]
    assert [row["run_id"] for row in run_rows(instance, limit=5, is_with_nested=True)] == [nested, outer.run_id]


def test_a_run_of_assets_is_named_by_them_and_one_whose_process_was_lost_says_so(instance):
    assets = frozenset(dg.AssetKey(name) for name in ("d", "c", "b", "a"))
    lost = instance.create_run_for_job(cut, run_config={"ops": {"work": {"config": {"is_broken": True}}}})
    instance.report_run_failed(lost, message="The process of the run is gone.")
    instance.add_run(dg.DagsterRun(job_name="__ASSET_JOB", asset_selection=assets))
    by_assets, gone = run_rows(instance, limit=5)
    assert (by_assets["job"], by_assets["seconds"]) == ("a, b, c and 1 more", None)
    assert (gone["status"], gone["reason"]) == ("failure", "The process of the run is gone.")
