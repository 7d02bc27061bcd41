"""Which old runs are removed, what is removed with them, and that the page shows the same state as before."""

import json
import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill

from luna_pipeline.alerts.records import Records, unreported_runs
from luna_pipeline.cli import cli
from luna_pipeline.jobs.maintenance import prune_runs, prune_runs_weekly
from luna_pipeline.runs import retention
from luna_pipeline.runs.leases import take
from luna_pipeline.runs.nested import PARENT_TAG, UNLAUNCHED_TAG

PARTS = dg.StaticPartitionsDefinition(["x", "y", "z"])
KEYS = [dg.AssetKey(name) for name in ("whole", "part")]
ALWAYS = timedelta(0)


class Settings(dg.Config):
    fails: bool = False


@dg.asset
def whole(context: dg.AssetExecutionContext, config: Settings) -> dg.MaterializeResult:
    print("some output")
    context.log_event(dg.AssetObservation("whole"))
    if config.fails:
        raise ValueError
    return dg.MaterializeResult(data_version=dg.DataVersion("1"))


@dg.asset_check(asset="whole")
def is_whole() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=False)


@dg.asset(partitions_def=PARTS)
def part(config: Settings) -> int:
    if config.fails:
        raise ValueError
    return 1


DEFS = dg.Definitions(
    assets=[whole, part],
    asset_checks=[is_whole],
    jobs=[dg.define_asset_job("make_whole", ["whole"]), dg.define_asset_job("make_part", ["part"])],
    executor=dg.in_process_executor,
)


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    overrides = {"telemetry": {"enabled": False}}
    with dg.DagsterInstance.local_temp(str(tmp_path), overrides=overrides) as instance:
        yield instance


def run(instance: dg.DagsterInstance, job: str, partition: str | None = None, *, fails: bool = False) -> str:
    """Run a job and return the run's id."""
    asset = job.removeprefix("make_")
    config = {"ops": {asset: {"config": {"fails": fails}}}}
    result = DEFS.resolve_job_def(job).execute_in_process(
        instance=instance, partition_key=partition, run_config=config, raise_on_error=False
    )
    assert result.success != fails
    take(instance, result.run_id)
    return result.run_id


def add(instance: dg.DagsterInstance, status: str = "SUCCESS", job: str = "make_whole", **options) -> str:
    """Add the record of a run and return its id."""
    status = dg.DagsterRunStatus(status)
    return instance.create_run_for_job(DEFS.resolve_job_def(job), status=status, **options).run_id


def state(instance: dg.DagsterInstance) -> dict:
    """What the pages of assets show."""
    made = {key: instance.get_latest_materialization_event(key) for key in KEYS}
    check = next(iter(DEFS.resolve_asset_graph().asset_check_keys))
    checks = instance.event_log_storage.get_latest_asset_check_execution_by_key([check])
    observed = instance.fetch_observations(KEYS[0], limit=1).records
    return {
        "made": {key: event and (event.run_id, event.asset_materialization) for key, event in made.items()},
        "parts": instance.get_status_by_partition(KEYS[1], PARTS.get_partition_keys(), PARTS),
        "check": (checks[check].run_id, checks[check].status),
        "observed": observed[0].run_id,
        "tags": instance.event_log_storage.get_latest_tags_by_partition(
            KEYS[1], dg.DagsterEventType.ASSET_MATERIALIZATION, ["dagster/data_version"]
        ),
    }


def removable(instance: dg.DagsterInstance, **options) -> set[str]:
    return {one.run_id for one in retention.find_old_runs(instance, ALWAYS, **options).removable}


def test_what_pages_show_stays_and_of_removed_runs_nothing_is_left(instance, tmp_path):
    old = [run(instance, "make_whole"), run(instance, "make_part", "x"), run(instance, "make_part", "y", fails=True)]
    of_x_and_y = [run(instance, "make_part", key) for key in ("x", "y")]
    of_z = run(instance, "make_part", "z", fails=True)
    made, failed = run(instance, "make_whole"), run(instance, "make_whole", fails=True)
    before = state(instance)
    assert {key: status and status.value for key, status in before["parts"].items()} == {
        "x": "MATERIALIZED",
        "y": "MATERIALIZED",
        "z": "FAILED",
    }
    num_bytes = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    found = retention.prune_old_runs(instance, ALWAYS, is_removed=True, report=print)
    assert {one.run_id for one in found.removable} == set(old)
    assert {one.run_id for one in instance.get_runs()} == {*of_x_and_y, of_z, made, failed}
    assert state(instance) == before
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < num_bytes
    traces = [(path, run_id) for path in files for run_id in old if run_id in str(path)]
    traces += [(path, run_id) for path in files for run_id in old if run_id.encode() in path.read_bytes()]
    assert traces == []


def test_a_dry_run_names_jobs_and_reasons_and_removes_nothing(instance):
    for _ in range(3):
        run(instance, "make_whole")
    lines: list[str] = []
    retention.prune_old_runs(instance, ALWAYS, is_removed=False, report=lines.append)
    assert lines == [
        "Would remove 2 runs of `make_whole`",
        "Kept 1 older: with the newest event of an asset, partition or check",
        "Add --yes to remove them.",
        "2 runs that ended more than 0 days ago, 1 kept.",
    ]
    assert len(instance.get_runs()) == 3


def test_runs_in_progress_and_the_newest_of_each_job_stay(instance):
    first = add(instance)
    going = [add(instance, status) for status in ("STARTED", "NOT_STARTED", "CANCELING", "STARTING")]
    assert removable(instance) == {first}
    last, other = add(instance), add(instance, "FAILURE", "make_part")
    assert removable(instance) == {first}
    assert set(retention.find_old_runs(instance, ALWAYS).kept) == {last, other}
    assert not set(going) & removable(instance)


def test_only_runs_that_ended_before_the_time_are_old(instance):
    for _ in range(3):
        add(instance)
    assert not retention.find_old_runs(instance, timedelta(days=1)).removable
    with instance.run_storage.connect() as connection:
        connection.exec_driver_sql("UPDATE runs SET update_timestamp = datetime('now', '-2 days')")
    assert len(retention.find_old_runs(instance, timedelta(days=1)).removable) == 2
    assert not retention.find_old_runs(instance, timedelta(days=3)).removable


def test_failed_runs_whose_alert_is_still_to_be_sent_stay(instance):
    failed, waiting = add(instance, "FAILURE"), add(instance, "FAILURE")
    add(instance)
    assert unreported_runs(instance) == set(), "no alert is sent about what failed before the first tick"
    records = Records()
    records.add([failed, waiting], now=0.0)
    records.settle(failed)
    records.save(instance)
    undecided = add(instance, "FAILURE")
    assert unreported_runs(instance) == {waiting, undecided}
    assert removable(instance, unreported=unreported_runs(instance)) >= {failed}
    assert not removable(instance, unreported=unreported_runs(instance)) & {waiting, undecided}


def test_the_outer_and_the_first_run_of_one_that_stays_stay_too(instance):
    first = add(instance, "FAILURE")
    outer = add(instance, parent_run_id=first, root_run_id=first)
    alone = add(instance)
    add(instance, "STARTED", tags={PARENT_TAG: outer, UNLAUNCHED_TAG: "another"})
    add(instance)
    assert removable(instance) == {first, outer, alone}, "tags that a re-execution has copied are not its own"
    add(instance, "STARTED", "make_part", tags={PARENT_TAG: outer})
    assert removable(instance) == {alone}


def test_runs_of_a_backfill_in_progress_stay(instance):
    of_backfill = add(instance, tags={"dagster/backfill": "abcdefgh"})
    add(instance)
    backfill = PartitionBackfill("abcdefgh", BulkActionStatus.REQUESTED, False, {}, 0.0, partition_names=["x"])
    instance.add_backfill(backfill)
    assert removable(instance) == set()
    instance.update_backfill(backfill.with_status(BulkActionStatus.COMPLETED_SUCCESS))
    assert removable(instance) == {of_backfill}


@pytest.mark.parametrize("interrupted", ["_remove_rows", "_remove_databases"])
def test_an_interrupted_removal_is_finished_by_the_next_one(instance, monkeypatch, tmp_path, interrupted: str):
    old = [run(instance, "make_whole") for _ in range(3)][:2]

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(retention, interrupted, interrupt)
        with pytest.raises(KeyboardInterrupt):
            retention.prune_old_runs(instance, ALWAYS, is_removed=True, report=print)
    retention.prune_old_runs(instance, ALWAYS, is_removed=True, report=print)
    assert len(instance.get_runs()) == 1
    assert not [path for path in tmp_path.rglob("*") for run_id in old if run_id in path.name]


def test_a_database_in_use_is_said_and_the_runs_are_removed(instance, monkeypatch):
    def locked(_path: str) -> None:
        raise sqlite3.OperationalError("database is locked")

    for _ in range(2):
        run(instance, "make_whole")
    monkeypatch.setattr(retention, "_vacuum", locked)
    lines: list[str] = []
    retention.prune_old_runs(instance, ALWAYS, is_removed=True, report=lines.append)
    assert len([line for line in lines if "is not given back: database is locked" in line]) == 2
    assert len(instance.get_runs()) == 1


@pytest.mark.parametrize("age", ["90", "-1d", "1.5d", "90 days", "d", "99999999d"])
def test_an_age_of_another_form_is_a_usage_error(age: str, monkeypatch):
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    done = CliRunner().invoke(cli, ["prune", "--runs-older-than", age])
    assert done.exit_code == 2
    assert f"got {age}. Example: 90d or 12w" in done.output


def test_the_command_needs_dagster_home_and_takes_its_instance(instance, monkeypatch):
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    done = CliRunner().invoke(cli, ["prune", "--runs-older-than", "90d"])
    assert done.exit_code == 2
    assert "DAGSTER_HOME must be set" in done.output
    monkeypatch.setenv("DAGSTER_HOME", instance.root_directory)
    ids = [add(instance) for _ in range(3)]
    with instance.run_storage.connect() as connection:
        connection.exec_driver_sql("UPDATE runs SET update_timestamp = datetime('now', '-85 days')")
    done = CliRunner().invoke(cli, ["prune", "--runs-older-than", "12w", "--json"], catch_exceptions=False)
    kept = {ids[-1]: "with the newest event of an asset, partition or check"}
    expected = {"is_removed": False, "runs": dict.fromkeys(ids[:2], "make_whole"), "kept": kept}
    assert json.loads(done.stdout) == expected
    for age, num_left in (("90d", 3), ("13w", 3), ("12w", 1), ("0d", 1)):
        done = CliRunner().invoke(cli, ["prune", "--yes", "--runs-older-than", age], catch_exceptions=False)
        assert len(instance.get_runs()) == num_left, done.output
        assert ("Removing 2 runs of `make_whole`" in done.output) == (age == "12w")
    assert instance.get_runs()[0].run_id == ids[-1]


def test_the_job_removes_old_runs_but_not_itself(instance):
    for _ in range(3):
        add(instance)
    with instance.run_storage.connect() as connection:
        connection.exec_driver_sql("UPDATE runs SET update_timestamp = datetime('now', '-2 days')")
    config = {"ops": {"remove_old_runs": {"config": {"days": 1}}}}
    result = prune_runs.execute_in_process(instance=instance, run_config=config)
    assert result.success
    assert {one.job_name for one in instance.get_runs()} == {"prune_runs", "make_whole"}
    assert len(instance.get_runs()) == 2


@pytest.mark.parametrize(("value", "days"), [(None, None), ("", None), ("0", None), ("90", 90), (" 7 ", 7)])
def test_the_schedule_is_off_without_a_number_of_days(value: str | None, days: int | None, monkeypatch):
    monkeypatch.delenv("LUNA_KEEP_RUNS_DAYS", raising=False)
    if value is not None:
        monkeypatch.setenv("LUNA_KEEP_RUNS_DAYS", value)
    with dg.build_schedule_context() as context:
        result = prune_runs_weekly.evaluate_tick(context)
    found = [it.run_config["ops"]["remove_old_runs"]["config"]["days"] for it in result.run_requests or []]
    assert found == ([] if days is None else [days])


@pytest.mark.parametrize("value", ["-1", "90d", "many"])
def test_another_value_than_a_number_of_days_is_an_error_of_the_tick(value: str, monkeypatch):
    monkeypatch.setenv("LUNA_KEEP_RUNS_DAYS", value)
    with dg.build_schedule_context() as context, pytest.raises(dg.DagsterError) as caught:
        prune_runs_weekly.evaluate_tick(context)
    assert "must be a number of days from 1" in str(caught.value.__cause__)
