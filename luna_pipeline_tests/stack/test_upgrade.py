"""Databases that older versions made: nothing starts on them unasked, `make upgrade` brings them here, a backup back.

`of_before/` holds dumps of what Dagster 1.8.0 and MLflow 2.10.0 themselves made in PostgreSQL 15: a run that
materialised the asset `thing`, and a run with a parameter, three steps of a metric and a registered model.
"""

import subprocess
from pathlib import Path

import backup
import dagster as dg
import mlflow
import pytest

from luna_pipeline_tests.s3_server import forget_connections
from luna_pipeline_tests.stack.as_processes import StackOfProcesses
from luna_pipeline_tests.stack.asking import instance_of, runs_of
from luna_pipeline_tests.stack.backing_up import StackProcesses, new_stack, run, start

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

OF_BEFORE = Path(__file__).with_name("of_before")
OLD = {"dagster": "284a732df317", "mlflow": "acf3f17fdcc7", "jobs": ""}
# The older version had no service: neither role nor database.
WITHOUT_JOBS = (
    'PGPASSWORD="$POSTGRES_PASSWORD" psql -q -h 127.0.0.1 -U postgres -c "DROP DATABASE jobs" -c "DROP ROLE jobs"'
)


def test_databases_of_older_versions_are_migrated_and_keep_what_they_hold(tmp_path, capfd):
    stack = new_stack(tmp_path / "old")
    processes = StackProcesses(stack)
    try:
        processes.start_storages()
        for dump in sorted(OF_BEFORE.glob("*.dump")):
            load = backup.by_role(dump.name.split("_")[0], "pg_restore", "--no-owner", "--exit-on-error")
            with dump.open("rb") as file:
                subprocess.run(processes.inside("postgres", *load), stdin=file, check=True)
        assert backup.schemas(processes) == OLD
        subprocess.run(processes.inside("postgres", "sh", "-c", WITHOUT_JOBS), check=True, stdin=subprocess.DEVNULL)

        # `make up` makes it, and keeps it when it is there.
        for _ in range(2):
            assert run(stack, "databases") == 0
            assert backup.ask(processes, "jobs", "SELECT current_user") == "jobs"
        subprocess.run(processes.inside("postgres", "sh", "-c", WITHOUT_JOBS), check=True, stdin=subprocess.DEVNULL)

        # Not migrated: one line, and nothing that waits for it is started.
        start(stack, "prepare")
        assert stack.services["prepare"].process.wait(timeout=120) == 1
        assert stack.services["prepare"].log.read_text().splitlines()[-1].endswith("Run `make upgrade`.")

        capfd.readouterr()
        assert run(stack, "--backups", str(tmp_path / "backups"), "upgrade") == 0
        said = capfd.readouterr().out
        now = backup.schemas(processes)
        # The service makes the tables of its jobs at its start.
        assert now.pop("jobs") == ""
        assert "Tables of jobs: none, as they were" in said
        assert not set(now.values()) & set(OLD.values())
        assert all(f"Tables of {name}: {OLD[name]} -> {now[name]}" in said for name in now)
        assert run(stack, "--backups", str(tmp_path / "backups"), "upgrade") == 0
        assert "as they were" in capfd.readouterr().out

        start(stack, "prepare", "mlflow", "code", "webserver", "daemon", "serve")
        stack.wait()
        assert int(backup.schemas(processes)["jobs"]) > 0
        _assert_what_was_made_before_is_there(stack)

        # And back: a backup brings its own tables, whatever newer ones there are.
        processes.stop(["serve", "daemon", "webserver", "code", "mlflow"])
        (of_before, _) = sorted((tmp_path / "backups").glob("2*"))
        assert run(stack, "restore", str(of_before), "--replace") == 0
        assert backup.schemas(processes) == OLD
        num_tables = backup.ask(processes, "mlflow", "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
        assert num_tables == "16"
    finally:
        forget_connections()
        stack.down()


def _assert_what_was_made_before_is_there(stack: StackOfProcesses) -> None:
    (shown,) = runs_of(stack.address("webserver"))
    with instance_of(stack.environment()) as instance:
        event = instance.get_latest_materialization_event(dg.AssetKey("thing"))
    assert (event.run_id, shown["status"]) == (shown["runId"], "SUCCESS")
    assert event.asset_materialization.metadata["rows"].value == 7
    client = mlflow.MlflowClient(stack.address("mlflow"))
    (found,) = client.search_runs([client.get_experiment_by_name("of before").experiment_id])
    losses = [metric.value for metric in client.get_metric_history(found.info.run_id, "loss")]
    assert losses == [1 / (step + 1) for step in range(3)]
    assert found.data.params == {"epochs": "3"}
    assert client.get_model_version_by_alias("m", "champion").run_id == found.info.run_id
