"""When the sensor and the nightly schedule request a run, and when they do not."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest

from luna_pipeline import automation
from luna_pipeline.core.storage.files import folder_digest
from luna_pipeline.definitions import defs
from luna_pipeline.jobs.recut import recut_changed
from luna_pipeline.resources import CutoutCutting, LunaPaths
from luna_pipeline_tests.installation import Luna


@pytest.fixture
def rested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator["Sensor"]:
    """A sensor that has seen a data root whose tables are current."""
    (tmp_path / "data").mkdir()
    (tmp_path / "dagster").mkdir()
    monkeypatch.setenv("LUNA_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("LUNA_HOME", str(tmp_path / "home"))
    (tmp_path / "data/candidates_V2.csv").write_text("first")
    with dg.DagsterInstance.local_temp(
        str(tmp_path / "dagster"), overrides={"telemetry": {"enabled": False}}
    ) as instance:
        sensor = Sensor(tmp_path / "data", instance)
        sensor.record_inputs()
        assert not sensor.ask()
        assert not sensor.ask()
        yield sensor


class Sensor:
    """Ticks of `inputs_changed`, each with the cursor of the previous one."""

    def __init__(self, data: Path, instance: dg.DagsterInstance) -> None:
        self.data, self.instance, self.cursor, self.said = data, instance, None, ""

    def ask(self) -> int:
        """Tick once; return how many runs were requested."""
        context = dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, resources={"paths": LunaPaths()}, definitions=defs
        )
        result = automation.inputs_changed.evaluate_tick(context)
        self.cursor, self.said = result.cursor or self.cursor, result.skip_message or ""
        return len(result.run_requests or [])

    def record_inputs(self) -> None:
        """Record the digest as an ingest does."""
        digest = folder_digest(self.data, by_content=".csv")
        for name in ("ct_series", "candidates"):
            event = dg.AssetMaterialization(name, metadata={"inputs_digest": digest})
            self.instance.report_runless_asset_event(event)

    def edit(self, content: str) -> None:
        (self.data / "candidates_V2.csv").write_text(content)

    def add_run(self, status: dg.DagsterRunStatus) -> None:
        self.instance.create_run_for_job(defs.resolve_job_def(recut_changed.name), status=status)


def test_edit_is_asked_for_once_and_only_when_it_rests(rested: Sensor):
    rested.edit("half of th")
    assert rested.ask() == 0
    rested.edit("half of the new table, and the rest of it")
    assert rested.ask() == 0
    assert rested.ask() == 1
    rested.add_run(dg.DagsterRunStatus.STARTED)
    assert rested.ask() == 0
    assert "under way" in rested.said


def test_change_that_was_made_good_is_not_asked_for_again(rested: Sensor):
    rested.edit("second")
    assert [rested.ask(), rested.ask()] == [0, 1]
    rested.add_run(dg.DagsterRunStatus.SUCCESS)
    rested.record_inputs()
    assert [rested.ask(), rested.ask()] == [0, 0]


def test_change_back_to_what_was_is_a_change(rested: Sensor):
    for content in ("second", "first", "second"):
        rested.edit(content)
        assert [rested.ask(), rested.ask()] == [0, 1], content
        rested.add_run(dg.DagsterRunStatus.SUCCESS)
        rested.record_inputs()
        assert rested.ask() == 0


def test_touched_files_of_the_same_content_are_no_change(rested: Sensor):
    rested.edit("first")
    assert [rested.ask(), rested.ask()] == [0, 0]


@pytest.mark.parametrize("is_ingested", [True, False])
def test_failed_runs_are_asked_for_again_three_times_in_all(rested: Sensor, is_ingested: bool):
    rested.edit("second")
    rested.ask()
    asked = []
    for _ in range(5):
        asked.append(rested.ask())
        rested.add_run(dg.DagsterRunStatus.FAILURE)
        if is_ingested:
            rested.record_inputs()
    assert asked == [1, 1, 1, 0, 0]
    rested.edit("third")
    assert [rested.ask(), rested.ask()] == [0, 1]


def test_cancelled_run_is_not_started_against_the_will_of_who_cancelled_it(rested: Sensor):
    rested.edit("second")
    assert [rested.ask(), rested.ask()] == [0, 1]
    rested.add_run(dg.DagsterRunStatus.CANCELED)
    assert rested.ask() == 0
    assert "cancelled" in rested.said


def test_ct_that_came_between_catalogue_and_tables_is_seen(rested: Sensor):
    rested.edit("second")
    assert [rested.ask(), rested.ask()] == [0, 1]
    rested.add_run(dg.DagsterRunStatus.SUCCESS)
    digest = folder_digest(rested.data, by_content=".csv")
    rested.instance.report_runless_asset_event(
        dg.AssetMaterialization("candidates", metadata={"inputs_digest": digest})
    )
    assert rested.ask() == 1


def test_cursor_of_another_form_is_as_none():
    assert automation.Seen.from_cursor("a digest of old") == automation.Seen()
    assert automation.Seen.from_cursor('{"other": 1}') == automation.Seen()


def _night(luna: Luna) -> str | None:
    """The skip message of the nightly schedule; None if it requests a run."""
    paths = LunaPaths()
    resources = {"paths": paths, "cutting": CutoutCutting(paths=paths)}
    with dg.build_schedule_context(instance=luna.instance, resources=resources) as context:
        result = automation.recut_nightly.evaluate_tick(context)
    assert len(result.run_requests or []) == (0 if result.skip_message else 1)
    assert all(request.run_key is None for request in result.run_requests or [])
    return result.skip_message


def test_night_asks_for_what_the_sensor_cannot_see_and_confirms_the_rest(luna: Luna, monkeypatch):
    assert _night(luna) is None
    assert luna.run("ingest").success
    assert luna.run("cut").success
    assert _night(luna) is None, "the cutouts are not indexed yet"
    assert luna.run("index").success
    made = luna.instance.get_latest_materialization_event(dg.AssetKey("cutouts"))
    assert "as they should be" in str(_night(luna))
    confirmed = luna.instance.get_latest_materialization_event(dg.AssetKey("cutouts"))
    assert confirmed.timestamp > made.timestamp
    assert confirmed.asset_materialization == made.asset_materialization
    assert {luna.stale(name) for name in ("candidates", "folds")} == {"FRESH"}
    file = f"cutouts/{luna.uids[0]}.npz"
    luna.write(file, luna.read(file)[:-100])
    assert _night(luna) is None
    luna.instance.create_run_for_job(defs.resolve_job_def("recut_changed"), status=dg.DagsterRunStatus.STARTED)
    assert "under way" in str(_night(luna))
    monkeypatch.setattr(automation, "LOST_AFTER", timedelta(seconds=-1))
    assert _night(luna) is None, "a run that the machine went down with stops nothing for ever"
