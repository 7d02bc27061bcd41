"""Every byte of a cutout file is compared, by ``check`` and by the first ``read``."""

import io
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from luna_pipeline.core.cutouts.aligned_npz import (
    MAX_JSON_BYTES,
    _npy_header,
    first_damage,
    locate_members,
    write_aligned_npz,
)
from luna_pipeline.core.cutouts.store import CutoutStore, DamagedCutoutsError
from luna_pipeline.core.cutouts.verified_files import VerifiedFiles
from luna_pipeline_tests.core.cutouts.examples import FINGERPRINT, UID, make_cutouts

ARRAYS = ("ct_chunks", "center_irc", "center_xyz", "candidate_id")


@pytest.fixture
def store(tmp_path: Path) -> CutoutStore:
    return CutoutStore(tmp_path / "cutouts", is_synced=False)


@pytest.fixture
def path(store: CutoutStore) -> Path:
    store.write(UID, make_cutouts(2, shape_irc=(2, 3, 4)))
    return store.path(UID)


def members(count=2, shape_irc=(2, 3, 4), **header_changes):
    cutouts = make_cutouts(count, shape_irc=shape_irc)
    header = json.dumps({**cutouts.header, **header_changes}).encode()
    return {**{name: getattr(cutouts, name) for name in ARRAYS}, "header": np.frombuffer(header, dtype=np.uint8)}


def write_as_version_1(path, arrays):
    """Write as the first version of this project did: by zipfile, each array on 64 bytes."""
    with path.open("wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            info = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            info.create_system, info.external_attr = 3, 0o644 << 16
            num_zeros = -(file.tell() + 30 + len(info.filename) + 20 + 6) % 64
            info.extra = (0xD935).to_bytes(2, "little") + bytes([2 + num_zeros, 0, 64, 0]) + bytes(num_zeros)
            with archive.open(info, "w", force_zip64=True) as member:
                member.write(_npy_header(array.dtype, array.shape) + array.tobytes())


class Content(io.BytesIO):
    """A file in memory: to compare every changed byte takes a second."""

    name = "1.2.npz"


def is_whole(content):
    try:
        file = Content(content)
        return first_damage(file, locate_members(file, (*ARRAYS, "header"))) is None
    except DamagedCutoutsError:
        return False


def unseen(contents):
    """Return the numbers of the changed contents that count as whole."""
    return [at for at, content in enumerate(contents) if is_whole(content)]


def flips(content, bits=0xFF):
    return [content[:at] + bytes([content[at] ^ bits]) + content[at + 1 :] for at in range(len(content))]


def test_each_flipped_bit_of_a_file_is_reported(path):
    content = path.read_bytes()
    assert is_whole(content)
    assert [unseen(flips(content, 1 << bit)) for bit in (0, 5)] == [[], []]
    assert unseen(flips(content)) == []


def test_each_flipped_byte_of_a_file_of_version_1_is_reported(path):
    write_as_version_1(path, members(format_version=1))
    content = path.read_bytes()
    assert is_whole(content)
    assert unseen(flips(content)) == []


def test_each_truncation_and_anything_appended_or_put_in_between_is_reported(path):
    content = path.read_bytes()
    assert unseen(content[:at] for at in range(len(content))) == []
    for more in (b"\0", b"PK", bytes(64)):
        assert unseen(content[:at] + more + content[at:] for at in range(len(content) + 1)) == []
    assert unseen(content + more for more in (content[-22:], content)) == []


def test_check_and_the_first_read_refuse_a_flipped_byte_anywhere(store, path):
    content = path.read_bytes()
    for changed in flips(content)[::29]:
        path.write_bytes(changed)
        assert store.check(UID) is not None
        with pytest.raises(DamagedCutoutsError):
            store.read(UID)
    path.write_bytes(content)
    store.read(UID)


def test_files_of_version_1_are_whole_and_read_as_before(store, path):
    write_as_version_1(path, members(format_version=1))
    assert store.check(UID) is None
    np.testing.assert_array_equal(store.read(UID).ct_chunks, make_cutouts(2, shape_irc=(2, 3, 4)).ct_chunks)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"fingerprints": "abc digest"}, "texts as fingerprints, got 'abc digest'"),
        ({"fingerprints": ["digest"]}, "texts as fingerprints"),
        ({"fingerprints": 5}, "texts as fingerprints, got 5"),
        ({"fingerprints": None}, "texts as fingerprints, got None"),
        ({"fingerprints": {**FINGERPRINT.as_dict(), "digest": 12}}, "texts as fingerprints"),
        ({"fingerprints": {"ct": "a"}}, "a digest among its fingerprints, got ['ct']"),
        ({"format_version": True}, "in format True"),
        ({"format_version": [2]}, "in format [2]"),
        ({"series_instance_uid": {"a": 1}}, "got series {'a': 1}"),
        ({"chunk_shape_irc": [0, 3, 4]}, "chunk shape of three numbers of voxels, got [0, 3, 4]"),
        ({"chunk_shape_irc": [2, 3, 10**9]}, "chunk shape"),
        ({"chunk_shape_irc": {"2": 3}}, "chunk shape"),
        ({"chunk_shape_irc": 24}, "chunk shape"),
        ({"chunk_shape_irc": [4, 3, 2]}, "header's chunk shape [4, 3, 2]|another header"),
        ({"spacing_mm": ["a", 1, 1]}, "3 finite numbers as spacing_mm, got ['a', 1, 1]"),
        ({"origin_xyz": [1e999, 0, 0]}, "JSON in header"),
        ({"origin_xyz": [10**400, 0, 0]}, "3 finite numbers as origin_xyz"),
        ({"direction": None}, "9 finite numbers as direction"),
    ],
)
def test_a_header_with_an_entry_of_another_type_is_damaged_by_name(store, path, changes, reason):
    with path.open("wb") as file:
        write_aligned_npz(file, members(**changes))
    found = str(store.check(UID))
    assert any(part in found for part in reason.split("|")), found
    assert path.name in found
    assert "\n" not in found
    assert store.digest(UID) is None or "chunk_shape_irc" in changes
    with pytest.raises(DamagedCutoutsError):
        store.read(UID)


@pytest.mark.parametrize("text", [b"[" * 100_000, b'{"a": ' * 50_000, b'{"format_version": ' + b"9" * 5000 + b"}"])
def test_json_that_exhausts_a_parser_is_damaged(store, path, text):
    with path.open("wb") as file:
        write_aligned_npz(file, {**members(), "header": np.frombuffer(text, dtype=np.uint8)})
    assert "JSON in header" in str(store.check(UID))


def test_a_header_of_absurd_length_is_not_read(store, path):
    header = np.frombuffer(b" " * (MAX_JSON_BYTES + 1), dtype=np.uint8)
    with path.open("wb") as file:
        write_aligned_npz(file, {**members(), "header": header})
    assert f"at most {MAX_JSON_BYTES} bytes in header.npy" in str(store.check(UID))


def test_sizes_above_that_of_the_file_are_damaged_without_taking_memory(store, path):
    content = path.read_bytes()
    at = content.index(b"ct_chunks.npy", content.index(b"PK\x01\x02")) + len("ct_chunks.npy") + 4
    for size in (1 << 40, (1 << 64) - 1):
        path.write_bytes(content[:at] + size.to_bytes(8, "little") * 2 + content[at + 16 :])
        assert "changed bytes" in str(store.check(UID))


def test_what_was_verified_is_compared_again_only_after_a_change(store, path, monkeypatch):
    compared = []
    check = "luna_pipeline.core.cutouts.store.first_damage"
    monkeypatch.setattr(check, lambda file, _members: compared.append(file.name))
    for _ in range(3):
        store.read(UID)
    assert len(compared) == 1
    os.utime(path)
    store.read(UID)
    assert len(compared) == 2


def test_a_flipped_byte_is_found_though_the_time_of_the_file_was_set_back(store, path):
    note = VerifiedFiles(store.root.parent / "home/verified.txt")
    CutoutStore(store.root, verified=note).read(UID)
    content, status = path.read_bytes(), path.stat()
    at = content.index(b"\x93NUMPY") + 130
    with path.open("r+b") as file:
        file.seek(at)
        file.write(bytes([content[at] ^ 1]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(DamagedCutoutsError, match="another CRC of ct_chunks"):
        CutoutStore(store.root, verified=note).read(UID)
    with pytest.raises(DamagedCutoutsError, match="another CRC of ct_chunks"):
        CutoutStore(store.root, verified=VerifiedFiles(store.root.parent / "home/verified.txt")).read(UID)
    CutoutStore(store.root, verified=None).read(UID)


def test_verified_files_are_known_to_other_processes_by_the_note(store, path, tmp_path):
    note, status = tmp_path / "home/verified.txt", path.stat()
    VerifiedFiles(note).add(status)
    assert VerifiedFiles(note).has(status)
    assert not VerifiedFiles(tmp_path / "other.txt").has(status)
    assert not VerifiedFiles().has(status)
    os.utime(path)
    assert not VerifiedFiles(note).has(path.stat())


@pytest.mark.parametrize("kind", ["folder", "fifo", "other bytes"])
def test_a_note_that_cannot_be_used_costs_nothing_but_another_comparison(path, tmp_path, kind):
    note = tmp_path / "verified.txt"
    make = {
        "folder": note.mkdir,
        "fifo": lambda: os.mkfifo(note),
        "other bytes": lambda: note.write_bytes(b"\xff" * 99),
    }
    make[kind]()
    verified = VerifiedFiles(note)
    assert not verified.has(path.stat())
    verified.add(path.stat())
    assert verified.has(path.stat())
