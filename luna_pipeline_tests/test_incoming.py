"""When the sensor of incoming CTs requests a run, and when it does not."""

from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path

import dagster as dg
import pytest

from luna_pipeline import incoming
from luna_pipeline.definitions import defs
from luna_pipeline.jobs import attempts
from luna_pipeline.launchers.diagnosis import incoming as folder_of_incoming
from luna_pipeline.launchers.diagnosis.incoming import catalogue_path, look_at_incoming
from luna_pipeline.launchers.diagnosis.incoming_diagnosis import series_folder, write_record
from luna_pipeline_tests.diagnosed import Clinic
from luna_pipeline_tests.failed_steps import add_failed_step
from luna_pipeline_tests.launchers.diagnosis.incoming_folder import DicomFiles, dicom_files, write_volume

LASTING = {"failed": {"1.2": "A CT must show lungs, got none"}, "is_transient": False}
TRANSIENT = {"failed": {"1.2": "No space left on device"}, "is_transient": True}


@pytest.fixture(scope="module")
def two_series(tmp_path_factory) -> tuple[DicomFiles, DicomFiles]:
    folder = tmp_path_factory.mktemp("aside")
    return dicom_files(folder, 0), dicom_files(folder, 1)


class Watched(Clinic):
    """A clinic in which each tick is 40 s after the last one, and runs are recorded without being executed."""

    now = 1e9
    tags: dict[str, str]

    def tick(self) -> dg.SensorResult:
        self.now += 40.0
        folder_of_incoming.look_at_incoming = partial(look_at_incoming, now=self.now)
        result = super().tick()
        for request in result.run_requests or []:
            self.tags = dict(request.tags)
        return result

    def add_run(self, status: dg.DagsterRunStatus, failure: dict | str | None = None) -> None:
        """Add the run that was requested last; a successful one has diagnosed its series."""
        run = self.instance.create_run_for_job(defs.resolve_job_def("diagnose"), status=status, tags=self.tags)
        if failure is not None:
            add_failed_step(self.instance, run, failure)
        if status == dg.DagsterRunStatus.SUCCESS:
            self.record(self.tags["dagster/partition"])

    def record(self, uid: str) -> None:
        files = look_at_incoming(self.settings, now=self.now).contents[uid]
        for asset in ("lungs", "diagnosis"):
            self.instance.report_runless_asset_event(dg.AssetMaterialization(asset, partition=uid))
            write_record(self.settings, uid, asset, files=files)
        (series_folder(self.settings, uid) / "diagnosis.json").write_text("{}")


@pytest.fixture
def clinic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    for name, folder in {"LUNA_HOME": "home", "LUNA_INCOMING_DIR": "incoming", "LUNA_DATA_DIR": "data"}.items():
        monkeypatch.setenv(name, str(tmp_path / folder))
    (tmp_path / "incoming").mkdir()
    monkeypatch.setattr(folder_of_incoming, "look_at_incoming", look_at_incoming)
    with dg.DagsterInstance.ephemeral() as instance:
        yield Watched(tmp_path, instance)


@pytest.fixture
def asked(clinic: Watched, two_series) -> Watched:
    """A clinic that has asked for a series."""
    two_series[0].put(clinic.inbox)
    assert [clinic.ask(), clinic.ask(), clinic.ask()] == [[], [], [two_series[0].uid]]
    return clinic


def test_series_is_asked_for_once_when_it_has_stopped_growing_and_once_more_after_late_slices(
    clinic: Watched, two_series
):
    first, second = two_series
    for number in range(4):
        first.put(clinic.inbox, [number])
        assert clinic.ask() == []
        assert "1 series are arriving" in clinic.said
    assert clinic.partitions == []
    assert [clinic.ask(), clinic.ask()] == [[], [first.uid]]
    assert clinic.partitions == [first.uid]
    clinic.add_run(dg.DagsterRunStatus.STARTED)
    assert clinic.ask() == []
    assert "Its run is under way" in clinic.said
    clinic.record(first.uid)
    second.put(clinic.inbox)
    assert [clinic.ask() for _ in range(4)] == [[], [], [second.uid], [second.uid]], "the request was not carried out"
    clinic.add_run(dg.DagsterRunStatus.SUCCESS)
    assert [clinic.ask(), clinic.ask()] == [[], []]
    first.put(clinic.inbox, [4, 5])
    assert [clinic.ask() for _ in range(3)] == [[], [], [first.uid]]


def test_request_of_one_attempt_has_one_key_and_the_partition_in_its_tags(asked: Watched, two_series):
    again = [asked.tick().run_requests[0] for _ in range(2)]
    assert again[0].run_key == again[1].run_key
    assert again[0].tags["dagster/partition"] == two_series[0].uid
    assert again[0].tags["luna/diagnosis"] == "true"
    asked.add_run(dg.DagsterRunStatus.FAILURE, TRANSIENT)


def test_an_untouched_folder_costs_no_look(asked: Watched, monkeypatch):
    asked.add_run(dg.DagsterRunStatus.SUCCESS)
    assert asked.ask() == []
    assert "All complete series are diagnosed" in asked.said
    monkeypatch.setattr(incoming, "_plan", None)
    assert asked.ask() == []
    assert "nothing is left" in asked.said


@pytest.mark.parametrize("is_lost", ["cursor", "both"])
def test_lost_cursor_or_catalogue_asks_for_nothing_again(asked: Watched, is_lost: str):
    asked.add_run(dg.DagsterRunStatus.SUCCESS)
    assert asked.ask() == []
    if is_lost != "catalogue":
        asked.cursor = None
    if is_lost != "cursor":
        catalogue_path(asked.settings).unlink()
    assert [asked.ask() for _ in range(4)] == [[]] * 4


def test_touched_and_moved_files_are_no_change(asked: Watched):
    asked.add_run(dg.DagsterRunStatus.SUCCESS)
    (asked.inbox / "sorted").mkdir()
    for path in [path for path in asked.inbox.iterdir() if path.is_file()]:
        path.rename(asked.inbox / "sorted" / path.name)
        (asked.inbox / "sorted" / path.name).touch()
    assert [asked.ask() for _ in range(4)] == [[]] * 4


def test_failure_of_the_series_is_not_repeated_before_its_files_change(asked: Watched, two_series):
    first, second = two_series
    asked.add_run(dg.DagsterRunStatus.FAILURE, LASTING)
    assert asked.ask() == []
    assert "until its files or settings change: A rule, got 1." in asked.said
    asked.cursor = None
    assert [asked.ask(), asked.ask()] == [[], []]
    second.put(asked.inbox)
    assert [asked.ask() for _ in range(3)] == [[], [], [second.uid]], "others are not held up"
    (asked.inbox / f"{first.uid[-6:]}-7.dcm").unlink()
    assert first.uid in [uid for _ in range(3) for uid in asked.ask()]


def test_another_setting_that_may_make_the_files_readable_is_tried(asked: Watched, two_series, monkeypatch):
    asked.add_run(dg.DagsterRunStatus.FAILURE, LASTING)
    assert [asked.ask(), asked.ask()] == [[], []]
    monkeypatch.setenv("LUNA_ASSUME_HU", "1")
    assert asked.ask() == [two_series[0].uid]


@pytest.mark.parametrize("failure", [TRANSIENT, None])
def test_failures_that_are_not_of_the_series_are_retried_three_times_in_all(asked: Watched, failure, monkeypatch):
    asked.add_run(dg.DagsterRunStatus.FAILURE, failure)
    assert asked.ask() == []
    assert "due at" in asked.said
    monkeypatch.setattr(attempts, "RETRY_AFTER", (timedelta(0), timedelta(0)))
    found, keys = [], set()
    for _ in range(4):
        requests = asked.tick().run_requests or []
        found.append(len(requests))
        keys.update(request.run_key for request in requests)
        if requests:
            asked.add_run(dg.DagsterRunStatus.FAILURE, failure)
    assert found == [1, 1, 0, 0]
    assert len(keys) == 2
    assert "3 runs for this change failed" in asked.said or "nothing is left" in asked.said


def test_cancelled_run_is_not_started_again(asked: Watched):
    asked.add_run(dg.DagsterRunStatus.CANCELED)
    assert asked.ask() == []
    assert "cancelled; start `diagnose` yourself" in asked.said


def test_unreadable_files_are_reported_by_the_check_and_not_asked_for(clinic: Watched, two_series):
    first, _ = two_series
    first.put(clinic.inbox / "ROE^JANE", [0, 1, 4])
    write_volume(clinic.inbox / "half.mhd")
    raw = clinic.inbox / "half.raw"
    whole = raw.read_bytes()
    raw.write_bytes(whole[:100])
    assert [clinic.ask() for _ in range(4)] == [[]] * 4
    assert clinic.partitions == []
    events = []
    clinic.cursor = None
    for _ in range(3):
        events += clinic.tick().asset_events
    (event,) = events
    assert (event.check_name, event.passed) == ("incoming_series_readable", False)
    assert set(event.metadata["unreadable"].value) == {first.uid, "half"}
    assert "ROE" not in str(event)
    raw.write_bytes(whole)
    first.put(clinic.inbox / "ROE^JANE", [2, 3])
    results = [clinic.tick() for _ in range(3)]
    assert {request.partition_key for request in results[-1].run_requests} == {first.uid, "half"}
    assert [event.passed for result in results for event in result.asset_events] == [True]


def test_missing_folder_is_skipped_with_a_reason_and_deleted_series_ask_for_nothing(asked: Watched, two_series):
    asked.add_run(dg.DagsterRunStatus.SUCCESS)
    assert asked.ask() == []
    asked.inbox.rename(asked.root / "unmounted")
    assert asked.ask() == []
    assert "There is no folder" in asked.said
    asked.inbox.mkdir()
    assert [asked.ask() for _ in range(3)] == [[]] * 3
    assert asked.partitions == [two_series[0].uid]


def test_cursor_of_another_form_is_as_none():
    assert incoming.Seen.from_cursor("a digest of old") == incoming.Seen()
    assert incoming.Seen.from_cursor('{"other": 1}') == incoming.Seen()
