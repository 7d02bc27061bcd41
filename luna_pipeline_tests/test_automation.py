"""When the sensor and the nightly schedule request a run, and when they do not."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest

from luna_pipeline import automation
from luna_pipeline.core.storage.files import folder_digest
from luna_pipeline.definitions import defs
from luna_pipeline.jobs import attempts
from luna_pipeline.jobs.recut import recut_changed
from luna_pipeline.resources import CutoutCutting, LunaPaths
from luna_pipeline.runs.nested import PARENT_TAG
from luna_pipeline_tests.failed_steps import add_failed_step
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
        self.tags: dict[str, str] = {}

    def ask(self) -> int:
        """Tick once; return how many runs were requested."""
        context = dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, resources={"paths": LunaPaths()}, definitions=defs
        )
        result = automation.inputs_changed.evaluate_tick(context)
        self.cursor, self.said = result.cursor or self.cursor, result.skip_message or ""
        for request in result.run_requests or []:
            self.tags = request.tags
        return len(result.run_requests or [])

    def record_inputs(self) -> None:
        """Record the digest as an ingest does."""
        digest = folder_digest(self.data, by_content=".csv")
        for name in ("ct_series", "candidates"):
            event = dg.AssetMaterialization(name, metadata={"inputs_digest": digest})
            self.instance.report_runless_asset_event(event)

    def edit(self, content: str) -> None:
        (self.data / "candidates_V2.csv").write_text(content)

    def add_run(self, status: dg.DagsterRunStatus) -> dg.DagsterRun:
        """Add the run that was requested last."""
        job = defs.resolve_job_def(recut_changed.name)
        return self.instance.create_run_for_job(job, status=status, tags=self.tags)

    def add_failed(self, **nested: dict | str | None) -> None:
        """Add the requested run as failed, with failed runs inside: the failure's metadata, its class, or no step."""
        outer = self.add_run(dg.DagsterRunStatus.FAILURE)
        add_failed_step(self.instance, outer, "Failure")
        for name, failure in nested.items():
            job, tags = defs.resolve_job_def(name), {PARENT_TAG: outer.run_id}
            run = self.instance.create_run_for_job(job, status=dg.DagsterRunStatus.FAILURE, tags=tags)
            if failure is not None:
                add_failed_step(self.instance, run, failure)


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
def test_failed_runs_are_asked_for_again_three_times_in_all(rested: Sensor, is_ingested: bool, monkeypatch):
    monkeypatch.setattr(attempts, "RETRY_AFTER", (timedelta(0), timedelta(0)))
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


def test_the_next_run_after_a_failed_one_waits(rested: Sensor, monkeypatch):
    rested.edit("second")
    assert [rested.ask(), rested.ask()] == [0, 1]
    rested.add_failed()
    assert rested.ask() == 0
    assert "due at" in rested.said
    monkeypatch.setattr(attempts, "RETRY_AFTER", (timedelta(0), timedelta(minutes=10)))
    assert rested.ask() == 1
    rested.add_failed()
    assert rested.ask() == 0


BROKEN = {"failed": {"1.2": "got 1000 bytes"}, "is_transient": False}
FULL = {"failed": {"1.2": "got 1000 bytes", "1.3": "the disk is full"}, "is_transient": True}


@pytest.mark.parametrize(
    ("nested", "is_retried"),
    [
        ({"cut": BROKEN}, False),
        ({"ingest": "ValueError"}, False),
        ({"ingest": "DagsterAssetCheckFailedError"}, False),
        ({"cut": BROKEN, "index": {"is_transient": False}}, False),
        ({"cut": FULL}, True),
        ({"cut": BROKEN, "index": "OperationalError"}, True),
        ({"cut": BROKEN, "index": None}, True),
        ({"cut": "NotEnoughDiskError"}, True),
        ({"cut": {"failed": {"1.2": "of a version before"}}}, True),
        ({"cut": None}, True),
        ({}, True),
    ],
)
def test_a_run_that_failed_by_its_files_is_not_repeated_before_they_change(rested, monkeypatch, nested, is_retried):
    monkeypatch.setattr(attempts, "RETRY_AFTER", (timedelta(0), timedelta(0)))
    rested.edit("second")
    assert [rested.ask(), rested.ask()] == [0, 1]
    rested.record_inputs()
    rested.add_failed(**nested)
    assert rested.ask() == is_retried
    assert is_retried or "until files below the data root or settings change: A rule, got 1." in rested.said
    rested.edit("third")
    assert [rested.ask(), rested.ask()] == [0, 1]


def test_neither_a_touched_table_nor_a_lost_cursor_repeats_a_run_that_failed_by_its_files(rested: Sensor):
    rested.edit("second")
    assert [rested.ask(), rested.ask()] == [0, 1]
    rested.add_failed(ingest="ValueError")
    assert rested.ask() == 0
    rested.edit("second")
    assert [rested.ask(), rested.ask()] == [0, 0]
    rested.cursor = None
    assert [rested.ask(), rested.ask()] == [0, 0]
    assert "until files" in rested.said


@pytest.mark.parametrize("is_ingested", [True, False])
def test_another_setting_that_may_make_the_files_readable_is_tried_once(rested, monkeypatch, is_ingested: bool):
    rested.edit("second")
    assert [rested.ask(), rested.ask()] == [0, 1]
    if is_ingested:
        rested.record_inputs()
    rested.add_failed(cut=BROKEN)
    assert rested.ask() == 0
    monkeypatch.setenv("LUNA_ASSUME_HU", "1")
    assert rested.ask() == 1
    rested.add_failed(cut=BROKEN)
    assert rested.ask() == 0
    monkeypatch.setenv("LUNA_MAX_TABLE_MIB", "300")
    assert rested.ask() == 1
    rested.record_inputs()
    rested.add_run(dg.DagsterRunStatus.SUCCESS)
    assert rested.ask() == 0
    monkeypatch.delenv("LUNA_ASSUME_HU")
    assert rested.ask() == 0


def test_a_file_that_was_removed_and_put_back_is_as_before(rested: Sensor):
    rested.edit("second")
    assert [rested.ask(), rested.ask()] == [0, 1]
    rested.record_inputs()
    rested.add_failed(cut=BROKEN)
    table = rested.data / "candidates_V2.csv"
    aside = table.rename(rested.data.parent / "aside.csv")
    assert rested.ask() == 0
    aside.rename(table)
    assert [rested.ask(), rested.ask()] == [0, 0]
    table.rename(aside)
    assert [rested.ask(), rested.ask()] == [0, 1]
    rested.record_inputs()
    rested.add_run(dg.DagsterRunStatus.SUCCESS)
    aside.rename(table)
    assert [rested.ask(), rested.ask()] == [0, 1]


def test_a_success_started_by_hand_ends_the_count_of_failures(rested: Sensor):
    rested.edit("second")
    assert [rested.ask(), rested.ask()] == [0, 1]
    rested.record_inputs()
    rested.add_failed()
    rested.tags = {}
    rested.add_run(dg.DagsterRunStatus.SUCCESS)
    assert rested.ask() == 0
    assert "current files" in rested.said


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


def test_a_broken_ct_and_a_broken_table_fail_once_until_they_are_repaired(luna_after):
    luna: Luna = luna_after(("recut_changed", {}))
    sensor, uid = Sensor(luna.data, luna.instance), luna.uids[1]
    assert [sensor.ask(), sensor.ask()] == [0, 0]
    raw = next(path for path in luna.files_of_ct(uid) if path.suffix == ".raw")
    whole, table = raw.read_bytes(), (luna.data / "candidates_V2.csv").read_bytes()
    for file, broken, said in [
        # Its header is in order: that these are no HU is found when it is cut.
        (raw, bytes(len(whole)), f"series {uid}"),
        (luna.data / "candidates_V2.csv", b"no,table\n1,2\n", "candidates_V2.csv"),
    ]:
        file.write_bytes(broken)
        assert [sensor.ask(), sensor.ask()] == [0, 1]
        assert not luna.run("recut_changed", tags=sensor.tags).success
        assert sensor.ask() == 0
        assert "until files below the data root or settings change: " in sensor.said
        assert said in sensor.said
        night = str(_night(luna))
        assert said in night
        file.write_bytes(whole if file == raw else table)
    assert [sensor.ask(), sensor.ask()] == [0, 1]
    assert luna.last_cut(luna.run("recut_changed", tags=sensor.tags)) == set(), "its cutouts are as they were"
    assert sensor.ask() == 0
    assert "as they should be" in str(_night(luna))
