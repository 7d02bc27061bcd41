"""When a series is whole, by a clock that the tests set, and what is left after a restart."""

import errno
from dataclasses import dataclass
from pathlib import Path

import pytest

from luna_pipeline.serving.config import UploadLimits
from luna_pipeline.serving.dicom import series_store
from luna_pipeline.serving.dicom.instance import Instance, digest_of
from luna_pipeline.serving.dicom.series_store import SeriesLimitError, SeriesStore
from luna_pipeline.serving.folders import INPUT, ServiceFolders

QUIET_SECONDS = 10.0


@dataclass(eq=False)
class Sender:
    """An association."""

    is_established: bool = True


@dataclass
class Clock:
    """Seconds that a test sets."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def store_at(root: Path, clock: Clock, *, max_series: int = 20) -> SeriesStore:
    folders = ServiceFolders(root)
    return SeriesStore(folders, UploadLimits(), quiet_seconds=QUIET_SECONDS, max_series=max_series, clock=clock)


def instance(number: int, *, series: str = "1.2.3", **values) -> Instance:
    digest = digest_of(series)
    return Instance(series=digest, name=f"{digest}-{number}.dcm", **({"num_voxels": 4} | values))


def whole(store: SeriesStore) -> list[set[str]]:
    """Contents of the series that are complete now."""
    store.take_whole()
    return [{path.read_text() for path in folder.iterdir()} for folder in store.complete()]


def test_a_series_is_whole_when_its_sender_is_gone_and_it_has_been_quiet(tmp_path: Path):
    clock, sender = Clock(), Sender()
    store = store_at(tmp_path, clock)
    store.add(instance(1), b"a", sender)
    clock.now += 100
    assert whole(store) == []
    sender.is_established = False
    assert whole(store) == [{"a"}]


def test_the_quiet_time_counts_from_the_last_instance(tmp_path: Path):
    clock, sender = Clock(), Sender(is_established=False)
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
    clock, sender = Clock(), Sender(is_established=False)
    store = store_at(tmp_path, clock)
    store.add(instance(1), b"a", sender)
    store.add(instance(1), b"b", sender)
    clock.now += 10
    assert whole(store) == [{"b"}]


def test_a_series_with_an_instance_that_could_not_be_written_waits_an_hour_for_it(tmp_path: Path, monkeypatch):
    clock, sender = Clock(), Sender(is_established=False)
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


def _full_disk(path: Path, content: bytes) -> None:
    raise OSError(errno.ENOSPC, "No space left on device", str(path))


def test_after_a_restart_a_series_continues_and_half_files_are_gone(tmp_path: Path):
    clock, sender = Clock(), Sender()
    store_at(tmp_path, clock).add(instance(1), b"a", sender)
    half = tmp_path / "receiving/arriving" / digest_of("1.2.3") / ".half.part"
    half.write_bytes(b"x")
    clock.now += 100
    store = store_at(tmp_path, clock)
    assert whole(store) == []
    store.add(instance(2), b"b", Sender(is_established=False))
    clock.now += 10
    assert whole(store) == [{"a", "b"}]
    # Complete, and not submitted before the next restart.
    assert whole(store_at(tmp_path, clock)) == [{"a", "b"}]


def test_late_instances_get_those_of_the_newest_job_of_their_series(tmp_path: Path):
    clock, sender = Clock(), Sender(is_established=False)
    store = store_at(tmp_path, clock)
    for job, numbers in (("0" * 32, (1,)), ("1" * 32, (1, 2))):
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
    clock, sender = Clock(), Sender(is_established=False)
    store = store_at(tmp_path, clock, max_series=2)
    store.add(instance(1, series="1.2.3"), b"a", sender)
    clock.now += 10
    store.take_whole()
    store.add(instance(1, series="1.2.4"), b"a", sender)
    with pytest.raises(SeriesLimitError, match="At most 2 series may arrive at a time, got another"):
        store.add(instance(1, series="1.2.5"), b"a", sender)
    store.add(instance(2, series="1.2.4"), b"a", sender)
