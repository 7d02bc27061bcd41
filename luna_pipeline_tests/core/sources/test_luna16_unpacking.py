"""Order of the members, and the journal by which an unpacked archive is recognised."""

import os
import threading
import zipfile
from pathlib import Path

import pytest

from luna_pipeline.core.sources import luna16_unpacking
from luna_pipeline.core.sources.luna16_unpacking import MemberJournal, members_of, unpack_archive
from luna_pipeline.core.storage.zip_members import RefusedZipError

MEMBERS = {"s/b.mhd": b"header of b", "s/a.mhd": b"header of a", "s/b.raw": b"voxels b" * 9, "s/a.raw": b"voxels a"}
MD5 = "1" * 32


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in MEMBERS.items():
            file.writestr(name, content)
    return path


def journal(folder: Path) -> MemberJournal:
    return MemberJournal(folder / "state/members", folder / "data")


def unpacked(archive: Path, stop: threading.Event | None = None):
    folder = archive.parent
    return unpack_archive(
        archive, folder / "data", journal(folder), name="a.zip", md5=MD5, stop=stop or threading.Event()
    )


def test_voxels_come_before_their_header(archive):
    assert [it.filename for it in members_of(archive, name="a.zip")] == ["s/a.raw", "s/a.mhd", "s/b.raw", "s/b.mhd"]


def test_an_unpacked_archive_is_recognised_without_it(archive, tmp_path):
    result = unpacked(archive)
    assert (result.num_written, result.num_present, result.num_bytes) == (4, 0, sum(map(len, MEMBERS.values())))
    assert {name: (tmp_path / "data" / name).read_bytes() for name in MEMBERS} == MEMBERS
    archive.unlink()
    assert journal(tmp_path).is_complete(MD5)
    assert journal(tmp_path).totals().num_present == 4
    assert not journal(tmp_path).is_complete("2" * 32)


@pytest.mark.parametrize("change", ["removed", "changed", "shorter", "folder gone"])
def test_a_member_that_is_no_longer_right_is_unpacked_again(change, archive, tmp_path):
    unpacked(archive)
    path = tmp_path / "data/s/b.raw"
    if change == "removed":
        path.unlink()
    elif change == "folder gone":
        (tmp_path / "data/s").rename(tmp_path / "data/other")
    else:
        path.write_bytes(path.read_bytes()[:-1] + (b"" if change == "shorter" else b"\0"))
    assert not journal(tmp_path).is_complete(MD5)
    assert unpacked(archive).num_written == (4 if change == "folder gone" else 1)
    assert path.read_bytes() == MEMBERS["s/b.raw"]
    assert journal(tmp_path).is_complete(MD5)


def test_a_file_with_another_time_is_read_and_kept(archive, tmp_path, monkeypatch):
    unpacked(archive)
    os.utime(tmp_path / "data/s/b.raw", (1, 1))
    read = []
    compare = luna16_unpacking.has_content
    monkeypatch.setattr(
        luna16_unpacking, "has_content", lambda path, member: read.append(path.name) or compare(path, member)
    )
    assert journal(tmp_path).is_complete(MD5)
    assert read == ["b.raw"]
    # Its new time is in the journal: a later call does not read it.
    assert journal(tmp_path).is_complete(MD5)
    assert read == ["b.raw"]


@pytest.mark.parametrize("num_lines", range(6))
def test_a_journal_that_was_cut_off_anywhere_costs_no_member(num_lines, archive, tmp_path):
    unpacked(archive)
    path = tmp_path / "state/members"
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) == 6
    path.write_bytes(b"".join(lines[:num_lines]) + lines[num_lines][:-5])
    assert not journal(tmp_path).is_complete(MD5)
    assert (unpacked(archive).num_written, unpacked(archive).num_present) == (0, 4)
    assert journal(tmp_path).is_complete(MD5)


def test_damaged_lines_of_a_journal_are_ignored(archive, tmp_path):
    unpacked(archive)
    with (tmp_path / "state/members").open("ab") as file:
        file.write(b'null\n[]\n{"name": "x"}\n{"complete": "x"}\n\xff\n')
    assert journal(tmp_path).is_complete(MD5)


def test_another_edition_starts_a_journal_of_its_own(archive, tmp_path):
    unpacked(archive)
    result = unpack_archive(
        archive, tmp_path / "data", journal(tmp_path), name="a.zip", md5="2" * 32, stop=threading.Event()
    )
    assert (result.num_written, result.num_present) == (0, 4)
    assert journal(tmp_path).is_complete("2" * 32)
    assert not journal(tmp_path).is_complete(MD5)


def test_temporary_files_of_a_killed_process_are_removed(archive, tmp_path):
    (tmp_path / "data/s").mkdir(parents=True)
    (tmp_path / "data/s/.b.raw.abc.part").write_bytes(b"half")
    unpacked(archive)
    assert sorted(os.listdir(tmp_path / "data/s")) == ["a.mhd", "a.raw", "b.mhd", "b.raw"]


def test_unpacking_that_is_given_up_says_so(archive, tmp_path):
    stop = threading.Event()
    stop.set()
    result = unpacked(archive, stop)
    assert result.is_stopped
    assert result.num_written == 0
    assert not journal(tmp_path).is_complete(MD5)


def test_nothing_of_an_archive_with_a_bad_name_is_unpacked(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("s/a.raw", b"fine")
        file.writestr("../outside", b"bad")
    with pytest.raises(RefusedZipError, match="outside the folder"):
        unpacked(path)
    assert sorted(os.listdir(tmp_path)) == ["a.zip"]
