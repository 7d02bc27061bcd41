"""Zip members that must not be unpacked, and members whose bytes are wrong."""

import io
import os
import stat
import threading
import zipfile
from pathlib import Path

import pytest

from luna_pipeline.core.storage.zip_members import (
    BrokenMemberError,
    RefusedZipError,
    fault_of,
    files_in,
    has_content,
    open_zip,
    require_methods,
    unpack,
)


def archive_of(*names: str, mode: int = 0o100644, method: int = zipfile.ZIP_DEFLATED) -> zipfile.ZipFile:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name in names:
            member = zipfile.ZipInfo("x" * len(name))
            member.filename = name
            member.external_attr = mode << 16
            member.compress_type = method
            archive.writestr(member, b"content of a member" * 100)
    return zipfile.ZipFile(io.BytesIO(buffer.getvalue()))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("../a.raw", "a place outside the folder"),
        ("s/../../a.raw", "a place outside the folder"),
        ("/etc/passwd", "a place outside the folder"),
        ("s//a.raw", "a place outside the folder"),
        ("./a.raw", "a place outside the folder"),
        ("s\\..\\a.raw", "an odd name"),
        ("C:/a.raw", "an odd name"),
        ("s/a\n.raw", "an odd name"),
    ],
)
def test_a_member_outside_the_folder_is_refused(name, told):
    with pytest.raises(RefusedZipError, match=f"got {told}"):
        files_in(archive_of("s/fine.raw", name), "a.zip")


def test_a_name_with_a_nul_byte_is_refused():
    content = archive_of("s/a.rawX..").fp.getvalue().replace(b"s/a.rawX..", b"s/a.raw\0..")
    with pytest.raises((RefusedZipError, zipfile.BadZipFile)):
        files_in(zipfile.ZipFile(io.BytesIO(content)), "a.zip")


@pytest.mark.parametrize("mode", [stat.S_IFLNK | 0o777, stat.S_IFIFO | 0o644, stat.S_IFCHR | 0o644])
def test_a_link_or_device_is_refused(mode):
    with pytest.raises(RefusedZipError, match="got a link or device"):
        files_in(archive_of("s/a.raw", mode=mode), "a.zip")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("names", [("s/a.raw", "s/a.raw"), ("s/a", "s/a/b")])
def test_two_members_of_one_name_are_refused(names):
    with pytest.raises(RefusedZipError, match="twice"):
        files_in(archive_of(*names), "a.zip")


def test_an_encrypted_member_is_refused():
    archive = archive_of("s/a.raw")
    archive.infolist()[0].flag_bits |= 1
    with pytest.raises(RefusedZipError, match="an encrypted member"):
        files_in(archive, "a.zip")


def test_folders_are_no_files():
    assert [it.filename for it in files_in(archive_of("s/", "s/a.raw"), "a.zip")] == ["s/a.raw"]


@pytest.mark.parametrize(("method", "told"), [(9, r"method 9 \(Deflate64\)"), (12, "BZIP2"), (77, "unknown")])
def test_other_methods_than_stored_and_deflated_are_named(method, told):
    members = archive_of("s/a", "s/b").infolist()
    require_methods(members, "a.zip")
    members[1].compress_type = method
    with pytest.raises(RefusedZipError, match=rf"{told}.* of 1 members \(a.zip\)"):
        require_methods(members, "a.zip")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_wrong_bytes_of_a_member_are_found_and_no_file_is_left(method, tmp_path):
    whole = archive_of("s/a.raw", method=method)
    member = whole.infolist()[0]
    assert unpack(whole, member, tmp_path / "s/a.raw")
    assert (tmp_path / "s/a.raw").read_bytes() == b"content of a member" * 100
    assert has_content(tmp_path / "s/a.raw", member)
    assert fault_of(whole, member) is None
    changed = bytearray(whole.fp.getvalue())
    changed[member.header_offset + 30 + len("s/a.raw") + member.compress_size // 2] ^= 1
    broken = zipfile.ZipFile(io.BytesIO(changed))
    with pytest.raises(BrokenMemberError):
        unpack(broken, broken.infolist()[0], tmp_path / "b.raw")
    assert fault_of(broken, broken.infolist()[0])
    assert sorted(os.listdir(tmp_path)) == ["s"]


def test_a_member_that_is_shorter_than_announced_is_broken(tmp_path):
    archive = archive_of("a", method=zipfile.ZIP_STORED)
    member = archive.infolist()[0]
    member.file_size += 5
    with pytest.raises(BrokenMemberError):
        unpack(archive, member, tmp_path / "a")


def test_unpacking_that_is_given_up_leaves_no_file(tmp_path):
    archive, stop = archive_of("a"), threading.Event()
    stop.set()
    assert not unpack(archive, archive.infolist()[0], tmp_path / "a", stop)
    assert os.listdir(tmp_path) == []


def test_content_is_compared_by_size_and_crc(tmp_path: Path):
    member = archive_of("a").infolist()[0]
    path = tmp_path / "a"
    assert not has_content(path, member)
    path.write_bytes(b"content of a member" * 99)
    assert not has_content(path, member)
    path.write_bytes(b"content of a membeR" * 100)
    assert not has_content(path, member)
    path.write_bytes(b"content of a member" * 100)
    assert has_content(path, member)
    assert not has_content(path / "below", member)


def test_a_directory_that_zipfile_cannot_read_is_damaged_in_one_way():
    content = bytearray(archive_of("s/a.raw").fp.getvalue())
    # "Version needed to extract" of the directory's entry: zipfile raises NotImplementedError.
    content[content.index(b"PK\1\2") + 6] = 99
    with pytest.raises(zipfile.BadZipFile, match="The zip directory must be whole, got one that is not"):
        open_zip(io.BytesIO(bytes(content)))


def test_a_member_that_does_not_unpack_is_broken():
    content = bytearray(archive_of("s/a.raw").fp.getvalue())
    # The first byte behind the header of 30 bytes and the name: a reserved kind of block, zlib.error.
    content[30 + len("s/a.raw")] = 0x07
    with zipfile.ZipFile(io.BytesIO(bytes(content))) as archive:
        assert "invalid block type" in fault_of(archive, archive.infolist()[0])
