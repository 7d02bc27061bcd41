"""`luna status`: what is made, stale and failed, on small states with a fault of each kind."""

import gc
import json
import re
import shutil
from pathlib import Path

from dagster._core.remote_origin import RemoteInstigatorOrigin
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus

from luna_pipeline.cli.status import status_lines
from luna_pipeline.overview import made_in_dagster
from luna_pipeline.overview.states import AssetState, Status
from luna_pipeline.overview.status import status_of
from luna_pipeline.runs.origins import REPOSITORY_ORIGIN
from luna_pipeline_tests.command_line import run_here
from luna_pipeline_tests.prepared import CUT, INDEX, INGEST, local_instance


def state_of(luna) -> Status:
    """The state of an installation whose instance is open."""
    status = Status(home=str(luna.home), dagster_home=None, is_synthetic=True, assets=[])
    status.assets = made_in_dagster.asset_states(luna.instance)
    status.checks = made_in_dagster.failed_checks(luna.instance)
    status.failed_runs = made_in_dagster.last_failed_runs(luna.instance, 5)
    from luna_pipeline.overview.status import _add_stale

    _add_stale(luna.settings, status, luna.instance)
    return status


def asset(status: Status, name: str) -> AssetState:
    return next(state for state in status.assets if state.name == name)


def test_what_was_made_is_counted_and_up_to_date(luna_after):
    status = state_of(luna_after(INGEST, CUT, INDEX))
    assert asset(status, "ct_series").made == "yes"
    assert len(asset(status, "ct_series").made_at) == 16
    assert asset(status, "cutouts").made == "6 of 6"
    assert asset(status, "nodule_classifier").made == "0 of 3"
    assert [state.name for state in status.assets if state.stale or state.failed] == []
    assert (status.checks, status.failed_runs, status.notes, status.unreadable) == ([], [], [], {})


def test_what_would_be_made_anew_is_stale_with_its_reason(luna_after):
    luna = luna_after(INGEST, CUT, INDEX)
    first, second, third = luna.uids[:3]
    luna.remove(f"cutouts/{first}.npz")
    luna.write(f"cutouts/{second}.npz", b"damaged")
    luna.edit("annotations.csv", lambda rows: rows.iloc[1:])
    status = state_of(luna)
    assert asset(status, "ct_series").stale == ["files below LUNA_DATA_DIR have changed since"]
    damaged, missing = asset(status, "cutouts").stale
    assert damaged.startswith(f"1 series damaged ({second}: ")
    assert missing == "1 series have no file"
    assert third not in damaged
    assert luna.run("ingest").success
    status = state_of(luna)
    assert asset(status, "ct_series").stale == []
    assert "candidates has changed since" in asset(status, "cutout_index").stale


def test_a_series_that_cannot_be_read_is_failed_with_its_reason(luna_after):
    luna = luna_after(INGEST, CUT)
    uid = luna.uids[0]
    for path in luna.files_of_ct(uid):
        if path.suffix == ".raw":
            path.unlink()
    assert luna.run("ingest").success
    assert not luna.run("cut").success
    status = state_of(luna)
    assert list(status.unreadable) == [uid]
    assert uid in asset(status, "cutouts").failed
    assert f"{uid}.raw" in asset(status, "cutouts").failed[uid]
    (check,) = status.checks
    assert (check.name, check.severity) == ("ct_series.every_ct_is_readable", "warn")
    assert check.description.startswith("Every CT must be readable, got 1 unreadable of 6")
    (run,) = status.failed_runs
    assert (run["job"], run["is_over"]) == ("cut", False)
    assert run["reason"].startswith("cutouts: Every series must be cut, got 1 of 6 that failed")
    lines = "\n".join(status_lines(status))
    assert f"cutouts {uid}: " in lines
    assert re.search(r"^cutouts +6 of 6 .* 1 failed$", lines, re.MULTILINE)


def test_an_asset_that_failed_is_shown_until_it_is_made(luna_after):
    luna = luna_after(INGEST, CUT)
    whole = luna.read("tables/folds.parquet")
    luna.write("tables/folds.parquet", b"damaged")
    assert not luna.run("index").success
    status = state_of(luna)
    assert list(asset(status, "cutout_index").failed) == [""]
    luna.write("tables/folds.parquet", whole)
    assert luna.run("index").success
    status = state_of(luna)
    assert asset(status, "cutout_index").failed == {}
    assert [run["is_over"] for run in status.failed_runs] == [True]


def test_automations_are_on_or_off_with_their_last_tick(tmp_path: Path):
    with local_instance(tmp_path) as instance:
        given = {one.name: one for one in made_in_dagster.automations(instance)}
        assert (given["inputs_changed"].is_on, given["run_failed"].is_on) == (False, True)
        origin = RemoteInstigatorOrigin(REPOSITORY_ORIGIN, "inputs_changed")
        from dagster._core.definitions.run_request import InstigatorType

        instance.add_instigator_state(InstigatorState(origin, InstigatorType.SENSOR, InstigatorStatus.RUNNING))
        assert next(one.is_on for one in made_in_dagster.automations(instance) if one.name == "inputs_changed")


def test_without_dagster_the_files_are_counted(luna_after):
    luna = luna_after(INGEST, CUT, INDEX)
    luna.remove(luna.cutout_files[0])
    status = status_of(luna.settings, None)
    assert asset(status, "cutouts").made == "5 of 6"
    assert asset(status, "cutouts").stale == ["1 series have no file"]
    assert asset(status, "folds").made == "yes"
    assert asset(status, "nodule_report").made == "0"
    assert status.automations == []


def test_the_command_prints_lines_or_json_and_changes_nothing(tmp_path: Path):
    done = run_here("status", cwd=tmp_path, environment={"LUNA_HOME": str(tmp_path / "home")})
    assert done.returncode == 0, done.stderr
    assert "Nothing is made yet: run `make demo`" in done.stdout
    (tmp_path / "dagster").mkdir()
    shutil.copyfile(Path(__file__).resolve().parents[2] / "dagster.yaml", tmp_path / "dagster/dagster.yaml")
    environment = {"LUNA_HOME": str(tmp_path / "home"), "DAGSTER_HOME": str(tmp_path / "dagster")}
    done = run_here("status", "--json", cwd=tmp_path, environment=environment)
    assert gc.isenabled()
    report = json.loads(done.stdout)
    assert report["dagster_home"] == str(tmp_path / "dagster")
    assert {one["name"]: one["is_on"] for one in report["automations"]}["run_failed"]
    assert not (tmp_path / "home").exists()
