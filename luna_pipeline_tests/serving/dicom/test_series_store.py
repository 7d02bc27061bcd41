"""When a series is whole, by a clock that the tests set, and what is left after a restart."""

import errno
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from luna_pipeline.serving.config import ReceiverConfig, ServiceConfig, UploadLimits
from luna_pipeline.serving.dicom import series_store
from luna_pipeline.serving.dicom.instance import Instance, digest_of
from luna_pipeline.serving.dicom.series_store import SeriesLimitError, SeriesStore
from luna_pipeline.serving.folders import INPUT, ServiceFolders
from luna_pipeline.serving.job import QueueFullError

# The longer one is longer than refused instances are waited for.
QUIET_SECONDS, UNFINISHED_SECONDS = 10.0, 7200.0


@dataclass(eq=False)
class Sender:
    """An association: open, released, or aborted."""

    is_established: bool = True
    is_released: bool = False


def released() -> Sender:
    return Sender(is_established=False, is_released=True)


def aborted() -> Sender:
    return Sender(is_established=False)


@dataclass
class Clock:
    """Seconds that a test sets."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def store_at(root: Path, clock: Clock, *, max_series: int = 20, check_room=lambda: None, **limits) -> SeriesStore:
    times = ReceiverConfig(quiet_seconds=QUIET_SECONDS, unfinished_seconds=UNFINISHED_SECONDS)
    config = ServiceConfig(receiver=times, limits=UploadLimits(**limits), max_queued=max_series)
    return SeriesStore(ServiceFolders(root), config, check_room=check_room, clock=clock)


def instance(number: int, *, series: str = "1.2.3", **values) -> Instance:
    digest = digest_of(series)
    return Instance(series=digest, name=f"{digest}-{number}.dcm", **({"num_voxels": 4} | values))


def whole(store: SeriesStore) -> list[set[str]]:
    """Contents of the series that are complete now."""
    store.take_whole()
    for folder in store.complete():
        store.prepare(folder)
    return [{path.read_text() for path in folder.iterdir()} for folder in store.complete()]


def test_a_series_is_whole_when_its_sender_is_gone_and_it_has_been_quiet(tmp_path: Path):
    clock, sender = Clock(), Sender()
    store = store_at(tmp_path, clock)
    store.add(instance(1), b"a", sender)
    clock.now += 100
    assert whole(store) == []
    sender.is_established, sender.is_released = False, True
    assert whole(store) == [{"a"}]


@pytest.mark.parametrize("sender", [Sender(), aborted()], ids=["open", "aborted"])
def test_a_series_whose_association_was_not_released_is_whole_after_the_longer_time(tmp_path: Path, sender: Sender):
    clock = Clock()
    store = store_at(tmp_path, clock)
    store.add(instance(1), b"a", sender)
    clock.now += UNFINISHED_SECONDS - 1
    assert whole(store) == []
    clock.now += 1
    assert whole(store) == [{"a"}]


def test_a_released_association_after_an_aborted_one_finishes_the_series(tmp_path: Path):
    clock = Clock()
    store = store_at(tmp_path, clock)
    store.add(instance(1), b"a", aborted())
    store.add(instance(2), b"b", released())
    clock.now += QUIET_SECONDS
    assert whole(store) == [{"a", "b"}]


def test_of_two_associations_at_once_the_aborted_one_is_waited_for(tmp_path: Path):
    clock, first, second = Clock(), Sender(), Sender()
    store = store_at(tmp_path, clock)
    store.add(instance(1), b"a", first)
    store.add(instance(2), b"b", second)
    first.is_established = False
    store.add(instance(3), b"c", second)
    second.is_established, second.is_released = False, True
    clock.now += UNFINISHED_SECONDS - 1
    assert whole(store) == []
    clock.now += 1
    assert whole(store) == [{"a", "b", "c"}]


def test_a_series_with_fewer_instances_than_its_headers_state_is_whole_after_the_longer_time(tmp_path: Path):
    clock = Clock()
    store = store_at(tmp_path, clock)
    store.add(instance(1, num_expected=2), b"a", released())
    clock.now += UNFINISHED_SECONDS - 1
    assert whole(store) == []
    clock.now += 1
    assert whole(store) == [{"a"}]


def test_the_quiet_time_counts_from_the_last_instance(tmp_path: Path):
    clock, sender = Clock(), released()
    store = store_at(tmp_path, clock)
    store.add(instance(1), b"a", sender)
    clock.now += 9
    store.add(instance(2), b"b", sender)
    clock.now += 9
    assert whole(store) == []
    clock.now += 1
    assert whole(store) == [{"a", "b"}]


def test_a_counted_series_is_whole_after_two_quiet_seconds(tmp_path: Path):
    clock, sender = Clock(), Sender()
    store = store_at(tmp_path, clock)
    for number in (1, 2):
        store.add(instance(number, num_expected=2, acquisition="1"), b"a", sender)
    clock.now += 1.9
    assert whole(store) == []
    clock.now += 0.1
    assert len(whole(store)) == 1


def test_the_count_of_one_acquisition_is_none_of_a_series_of_two(tmp_path: Path):
    clock, sender = Clock(), Sender()
    store = store_at(tmp_path, clock)
    for number in (1, 2):
        store.add(instance(number, num_expected=2, acquisition=str(number)), b"a", sender)
    clock.now += 100
    assert whole(store) == []


def test_the_same_instance_again_replaces_the_first(tmp_path: Path):
    clock, sender = Clock(), released()
    store = store_at(tmp_path, clock)
    store.add(instance(1), b"a", sender)
    store.add(instance(1), b"b", sender)
    clock.now += 10
    assert whole(store) == [{"b"}]


def test_a_series_with_an_instance_that_could_not_be_written_waits_an_hour_for_it(tmp_path: Path, monkeypatch):
    clock, sender = Clock(), released()
    store = store_at(tmp_path, clock)
    store.add(instance(1), b"a", sender)
    with monkeypatch.context() as patch:
        patch.setattr(series_store, "write_bytes", _full_disk)
        with pytest.raises(OSError, match="No space"):
            store.add(instance(2), b"b", sender)
    clock.now += 3599
    assert whole(store) == []
    store.add(instance(2), b"b", sender)
    clock.now += 10
    assert whole(store) == [{"a", "b"}]
    store.add(instance(3, series="1.2.4"), b"c", sender)
    with monkeypatch.context() as patch:
        patch.setattr(series_store, "write_bytes", _full_disk)
        with pytest.raises(OSError, match="No space"):
            store.add(instance(4, series="1.2.4"), b"d", sender)
    clock.now += 3600
    assert whole(store) == [{"a", "b"}]
    assert list((tmp_path / "receiving/arriving").iterdir()) == []


def test_what_could_not_be_written_counts_for_no_limit(tmp_path: Path, monkeypatch):
    clock = Clock()
    store = store_at(tmp_path, clock, max_voxels=4, max_bytes=1)
    with monkeypatch.context() as patch:
        patch.setattr(series_store, "write_bytes", _full_disk)
        with pytest.raises(OSError, match="No space"):
            store.add(instance(1), b"a", released())
    store.add(instance(1), b"a", released())
    clock.now += QUIET_SECONDS
    assert whole(store) == [{"a"}]


def _full_disk(path: Path, content: bytes) -> None:
    raise OSError(errno.ENOSPC, "No space left on device", str(path))


def test_a_series_whose_first_instances_were_refused_waits_for_them(tmp_path: Path):
    def check_room() -> None:
        if clock.now == 1000:
            raise QueueFullError(length=1, retry_after_seconds=1)

    clock, sender = Clock(), released()
    store = store_at(tmp_path, clock, check_room=check_room)
    for number in (1, 2):
        with pytest.raises(QueueFullError):
            store.add(instance(number), b"a", sender)
    clock.now += 1
    store.add(instance(3), b"c", sender)
    clock.now += 3599
    assert whole(store) == []
    store.add(instance(1), b"a", sender)
    store.add(instance(2), b"b", sender)
    clock.now += QUIET_SECONDS
    assert whole(store) == [{"a", "b", "c"}]


def test_the_rest_of_a_series_beyond_a_limit_is_no_series(tmp_path: Path, caplog):
    clock, sender = Clock(), released()
    store = store_at(tmp_path, clock, max_files=2)
    for number in (1, 2):
        store.add(instance(number), b"a", sender)
    for _ in range(2):
        with pytest.raises(SeriesLimitError, match="at most 2 files"):
            store.add(instance(3), b"a", sender)
        clock.now += QUIET_SECONDS
        assert whole(store) == []
    assert [record.message for record in caplog.records] == [
        "A series is removed, with 2 instances. It exceeds a limit."
    ]


def test_refusals_of_many_series_are_remembered_for_the_newest(tmp_path: Path):
    clock = Clock()
    store = store_at(tmp_path, clock, max_series=0)
    for number in range(200):
        clock.now += 1
        with pytest.raises(SeriesLimitError):
            store.add(instance(1, series=f"1.2.{number}"), b"a", released())
    assert sorted(store._arriving) == sorted(digest_of(f"1.2.{number}") for number in range(100, 200))


def test_a_series_that_cannot_be_moved_waits_and_the_others_are_moved(tmp_path: Path, monkeypatch):
    clock = Clock()
    store = store_at(tmp_path, clock)
    for series in ("1.2.3", "1.2.4"):
        store.add(instance(1, series=series), series.encode(), released())
    clock.now += QUIET_SECONDS
    rename = os.rename

    def failing(source: Path, target: Path) -> None:
        if source.name == digest_of("1.2.3"):
            raise OSError(errno.ENOSPC, "No space left on device")
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", failing)
        with pytest.raises(OSError, match="No space"):
            store.take_whole()
    assert [path.name.partition("-")[0] for path in store.complete()] == [digest_of("1.2.4")]
    assert sorted(whole(store), key=str) == [{"1.2.3"}, {"1.2.4"}]


def test_after_a_restart_a_series_continues_and_half_files_are_gone(tmp_path: Path):
    clock, sender = Clock(), Sender()
    store_at(tmp_path, clock).add(instance(1), b"a", sender)
    half = tmp_path / "receiving/arriving" / digest_of("1.2.3") / ".half.part"
    half.write_bytes(b"x")
    store = store_at(tmp_path, clock)
    clock.now += UNFINISHED_SECONDS - 1
    assert whole(store) == []
    store.add(instance(2), b"b", released())
    clock.now += 10
    assert whole(store) == [{"a", "b"}]
    # Complete, and not submitted before the next restart.
    assert whole(store_at(tmp_path, clock)) == [{"a", "b"}]


def test_a_series_that_is_not_continued_after_a_restart_is_whole_after_the_longer_time(tmp_path: Path):
    clock = Clock()
    store_at(tmp_path, clock).add(instance(1), b"a", released())
    store = store_at(tmp_path, clock)
    clock.now += UNFINISHED_SECONDS
    assert whole(store) == [{"a"}]


def test_late_instances_get_those_of_the_newest_job_of_their_series(tmp_path: Path):
    clock, sender = Clock(), released()
    store = store_at(tmp_path, clock)
    for job, numbers in (("0" * 32, (1,)), ("1" * 32, (1, 2)), (".deleted-" + "3" * 32, (4,))):
        folder = tmp_path / "jobs" / job / INPUT
        folder.mkdir(parents=True)
        for number in numbers:
            (folder / instance(number).name).write_bytes(b"old%d" % number)
    upload = tmp_path / "jobs" / ("2" * 32) / INPUT
    upload.mkdir(parents=True)
    (upload / "000001.dcm").write_bytes(b"upload")
    store.add(instance(2), b"new2", sender)
    store.add(instance(3), b"new3", sender)
    clock.now += 10
    assert whole(store) == [{"old1", "new2", "new3"}]


def test_series_beyond_a_number_are_refused(tmp_path: Path):
    clock, sender = Clock(), released()
    store = store_at(tmp_path, clock, max_series=2)
    store.add(instance(1, series="1.2.3"), b"a", sender)
    clock.now += 10
    store.take_whole()
    store.add(instance(1, series="1.2.4"), b"a", sender)
    with pytest.raises(SeriesLimitError, match="At most 2 series may arrive at a time, got another"):
        store.add(instance(1, series="1.2.5"), b"a", sender)
    store.add(instance(2, series="1.2.4"), b"a", sender)
