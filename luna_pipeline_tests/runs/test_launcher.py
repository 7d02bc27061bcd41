"""The launcher that dagster.yaml names: which runs it takes for lost. Launching itself is shown on the whole stack."""

from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.launcher import DefaultRunLauncher, LaunchRunContext, WorkerStatus
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin

from luna_pipeline.runs import leases
from luna_pipeline.runs.launcher import LOCATION, LeasedRunLauncher
from luna_pipeline.runs.nested import PARENT_TAG
from luna_pipeline_tests.processes import REPOSITORY

CONFIGURATIONS = ["dagster.yaml", "deploy/stack/dagster.yaml"]


@dg.job
def _job() -> None:
    pass


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_configurations_name_it_watch_runs_and_phone_nobody(name: str):
    settings = yaml.safe_load((REPOSITORY / name).read_text())
    assert settings["run_launcher"] == {"module": "luna_pipeline.runs.launcher", "class": "LeasedRunLauncher"}
    assert settings["run_monitoring"]["enabled"]
    # A look that comes later counts for less than the time that went by.
    assert settings["run_monitoring"]["poll_interval_seconds"] <= leases.COUNTED_SECONDS / 2
    assert settings["telemetry"] == {"enabled": False}
    assert settings["run_retries"]["enabled"]
    assert not settings["run_retries"]["retry_on_asset_or_op_failure"]


def test_run_is_running_while_its_lease_is_renewed_and_lost_when_it_is_not(instance, monkeypatch):
    launcher = instance.run_launcher
    assert isinstance(launcher, LeasedRunLauncher)
    assert launcher.supports_check_run_worker_health
    run = instance.create_run_for_job(_job, status=dg.DagsterRunStatus.STARTED)
    moment = 0.0
    monkeypatch.setattr(leases.time, "monotonic", lambda: moment)
    leases.take(instance, run.run_id)
    found = []
    for moment in (0.0, 20.0, 40.0, 59.0, 60.0, 75.0):  # noqa: B007  # the clock reads it
        found.append(launcher.check_run_worker_health(run))
    assert [result.status for result in found] == [WorkerStatus.RUNNING] * 4 + [WorkerStatus.FAILED] * 2
    assert "no sign of it for 75 s" in str(found[-1].msg)


@pytest.mark.parametrize(
    ("outer", "expected"),
    [
        (dg.DagsterRunStatus.STARTED, WorkerStatus.RUNNING),
        (dg.DagsterRunStatus.CANCELING, WorkerStatus.RUNNING),
        (dg.DagsterRunStatus.FAILURE, WorkerStatus.FAILED),
        (dg.DagsterRunStatus.CANCELED, WorkerStatus.FAILED),
        (None, WorkerStatus.FAILED),
    ],
)
@pytest.mark.parametrize("is_leased", [True, False])
def test_run_inside_a_run_is_lost_when_that_one_has_ended(instance, outer, expected, is_leased):
    run_id = instance.create_run_for_job(_job, status=outer).run_id if outer else "deleted meanwhile"
    inner = instance.create_run_for_job(_job, status=dg.DagsterRunStatus.STARTED, tags={PARENT_TAG: run_id})
    if is_leased:
        leases.take(instance, inner.run_id)
    result = instance.run_launcher.check_run_worker_health(inner)
    assert result.status == expected
    assert (run_id in str(result.msg)) == (expected == WorkerStatus.FAILED)


@pytest.mark.parametrize(("location", "is_judged"), [(LOCATION, True), ("somebody_elses", False)])
def test_run_of_this_location_has_a_lease_before_its_process_can_take_one(instance, monkeypatch, location, is_judged):
    origin = RemoteJobOrigin(RemoteRepositoryOrigin(GrpcServerCodeLocationOrigin("here", 1, None, location), "r"), "j")
    run = instance.create_run_for_job(_job).with_job_origin(origin)
    # A code location that takes the run and dies: nobody else ever renews.
    monkeypatch.setattr(DefaultRunLauncher, "launch_run", lambda launcher, context: None)
    instance.run_launcher.launch_run(LaunchRunContext(dagster_run=run, workspace=None))
    watch = leases.LeaseWatch()
    watch.silent_seconds(instance, run.run_id, now=0)
    assert (watch.silent_seconds(instance, run.run_id, now=10) == 10) == is_judged


def test_dagster_home_of_the_version_before_names_the_launcher_by_its_old_module(tmp_path: Path):
    settings = (REPOSITORY / "dagster.yaml").read_text()
    old = settings.replace("luna_pipeline.runs.launcher", "luna_pipeline.run_launcher")
    assert old != settings
    (tmp_path / "dagster.yaml").write_text(old)
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert isinstance(instance.run_launcher, LeasedRunLauncher)
        assert instance.run_launcher.supports_check_run_worker_health
