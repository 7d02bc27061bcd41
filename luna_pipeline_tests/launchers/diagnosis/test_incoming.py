"""When an incoming series is complete, what counts as its content, and what is listed as unreadable."""

import os
from pathlib import Path

import pytest

from luna_pipeline.launchers.diagnosis import incoming
from luna_pipeline.launchers.diagnosis.incoming import Incoming, gone_incoming, look_at_incoming
from luna_pipeline.settings import Settings
from luna_pipeline_tests.launchers.diagnosis.incoming_folder import DicomFiles, dicom_files, write_volume


@pytest.fixture(scope="module")
def two_series(tmp_path_factory) -> tuple[DicomFiles, DicomFiles]:
    folder = tmp_path_factory.mktemp("aside")
    return dicom_files(folder, 0), dicom_files(folder, 1)


class Inbox:
    """A folder of incoming CTs and a clock that moves by 40 s with each look."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "incoming"
        self.folder.mkdir()
        self.settings = Settings.from_environment(
            {"LUNA_INCOMING_DIR": str(self.folder), "LUNA_HOME": str(root / "home")}
        )
        self.now = 1e9

    def look(self, **options) -> Incoming:
        self.now += 40.0
        return look_at_incoming(self.settings, now=self.now, **options)


@pytest.fixture
def inbox(tmp_path: Path) -> Inbox:
    return Inbox(tmp_path)


def test_series_is_complete_only_when_unchanged_for_the_quiet_time(inbox: Inbox, two_series):
    first, _ = two_series
    # In any order, and each number of slices so far is a series without a gap.
    for numbers in ([3, 4], [5], [2, 1], [0, 6]):
        first.put(inbox.folder, numbers)
        found = inbox.look()
        assert not found.contents, numbers
        assert found.num_arriving == 1
    assert not inbox.look().contents, "40 s of 60"
    assert list(inbox.look().contents) == [first.uid]
    first.put(inbox.folder, [7])
    assert not inbox.look().contents, "a slice arrived late"
    inbox.look()
    assert list(inbox.look().contents) == [first.uid]


def test_series_that_still_arrives_does_not_delay_others_in_its_folder(inbox: Inbox, two_series):
    first, second = two_series
    first.put(inbox.folder)
    for number in range(5):
        second.put(inbox.folder, [number])
        found = inbox.look()
    assert list(found.contents) == [first.uid]
    assert found.num_arriving == 1


def test_digest_is_of_the_content_not_of_names_times_or_folders(inbox: Inbox, two_series):
    first, second = two_series
    first.put(inbox.folder / "a")
    second.put(inbox.folder / "a")
    before = [inbox.look() for _ in range(3)][-1].contents
    assert len(set(before.values())) == 2
    (inbox.folder / "a").rename(inbox.folder / "b")
    for path in sorted((inbox.folder / "b").iterdir()):
        path.rename(path.with_name(f"renamed-{path.name}"))
        os.utime(path.with_name(f"renamed-{path.name}"), (1, 1))
    assert not inbox.look().contents
    assert [inbox.look() for _ in range(2)][-1].contents == before


def test_lost_catalogue_only_costs_another_look(inbox: Inbox, two_series):
    two_series[0].put(inbox.folder)
    before = [inbox.look() for _ in range(3)][-1].contents
    for content in (None, b"no table"):
        incoming.catalogue_path(inbox.settings).unlink()
        if content:
            incoming.catalogue_path(inbox.settings).write_bytes(content)
        assert not inbox.look().contents
        assert [inbox.look() for _ in range(2)][-1].contents == before


def test_clock_that_was_set_back_delays_no_series_by_more_than_the_quiet_time(inbox: Inbox, two_series):
    two_series[0].put(inbox.folder)
    inbox.look()
    inbox.now -= 1e6
    assert [bool(inbox.look().contents) for _ in range(3)] == [False, False, True]


def test_files_are_hashed_once_and_within_the_time(inbox: Inbox, two_series, monkeypatch):
    hashed = []
    monkeypatch.setattr(incoming, "content_of", lambda files: hashed.append(files) or "d")
    for series in two_series:
        series.put(inbox.folder)
    found = [inbox.look(hashing_seconds=-1.0) for _ in range(5)]
    assert [len(one.contents) for one in found] == [0, 0, 1, 2, 2]
    assert [one.num_arriving for one in found] == [2, 2, 1, 0, 0]
    assert len(hashed) == 2


def test_everything_that_is_no_readable_ct_is_listed_with_a_reason(inbox: Inbox, two_series):
    folder, (first, second) = inbox.folder, two_series
    first.put(folder / "gap", [0, 1, 4, 5])
    write_volume(folder / "short.mhd")
    (folder / "short.raw").write_bytes(b"few")
    (folder / "scan.zip").write_bytes(b"PK")
    (folder / "notes").mkdir()
    (folder / "notes/page.dat").write_bytes(b"no CT")
    (folder / ".hidden.zip").write_bytes(b"PK")
    second.put(folder / "good")
    found = [inbox.look() for _ in range(3)][-1]
    assert list(found.contents) == [second.uid]
    assert set(found.unreadable) == {first.uid, "short", "scan.zip", "page.dat"}
    assert "got an archive (scan.zip). Unpack it." in found.unreadable["scan.zip"]
    for name, reason in found.unreadable.items():
        assert ", got" in reason, name
        assert "\n" not in reason


def test_folders_named_after_patients_are_not_shown(inbox: Inbox, two_series):
    first, second = two_series
    first.put(inbox.folder / "DOE^JOHN/one", [0, 1, 2])
    first.put(inbox.folder / "DOE^JOHN/two", [3, 4, 5])
    second.put(inbox.folder / "ROE^JANE", [0, 1, 4, 5])
    found = [inbox.look() for _ in range(3)][-1]
    assert set(found.unreadable) == {first.uid, second.uid}
    assert "must lie in one folder, got 2: folder" in found.unreadable[first.uid]
    assert not any(word in str(found.unreadable) for word in ("DOE", "JOHN", "ROE", "JANE"))


def test_volume_files_are_named_by_their_stem_and_a_part_of_one_is_not_read(inbox: Inbox):
    write_volume(inbox.folder / "case-7.nrrd")
    write_volume(inbox.folder / "deep/1.2.3.4.nii.gz")
    whole = (inbox.folder / "case-7.nrrd").read_bytes()
    (inbox.folder / "case-7.nrrd").write_bytes(whole[: len(whole) // 2])
    assert not inbox.look().contents
    (inbox.folder / "case-7.nrrd").write_bytes(whole)
    found = [inbox.look() for _ in range(3)]
    assert [set(one.contents) for one in found][-1] == {"case-7", "1.2.3.4"}


def test_deleted_series_is_gone_and_a_missing_folder_is_not_taken_for_an_empty_one(inbox: Inbox, two_series):
    two_series[0].put(inbox.folder)
    known = [two_series[0].uid, two_series[1].uid]
    assert gone_incoming(inbox.settings, known) == [two_series[1].uid]
    inbox.folder.rename(inbox.folder.with_name("unmounted"))
    assert gone_incoming(inbox.settings, known) == []
    with pytest.raises(FileNotFoundError, match="folder of incoming CTs must be there, got none"):
        inbox.look()
    inbox.folder.mkdir()
    assert inbox.look() == Incoming(contents={}, unreadable={}, num_arriving=0)
    assert gone_incoming(inbox.settings, known) == sorted(known)
