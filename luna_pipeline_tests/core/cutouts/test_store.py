import io
import json
import os
import resource
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from luna_pipeline.core.cutouts import store as store_module
from luna_pipeline.core.cutouts.aligned_npz import locate_members, write_aligned_npz
from luna_pipeline.core.cutouts.cutting import CuttingParameters
from luna_pipeline.core.cutouts.store import (
    CutoutStore,
    CutoutWriteError,
    DamagedCutoutsError,
    SeriesCutouts,
    build_header,
)
from luna_pipeline.core.storage.s3 import RemoteStoreError
from luna_pipeline_tests.core.cutouts.examples import FINGERPRINT, GRID, UID, make_cutouts

ARRAYS = ("ct_chunks", "center_irc", "center_xyz", "candidate_id")


@pytest.fixture
def store(tmp_path: Path) -> CutoutStore:
    return CutoutStore(tmp_path / "cutouts")


@pytest.fixture
def path(store: CutoutStore) -> Path:
    store.write(UID, make_cutouts())
    return store.path(UID)


def test_plain_numpy_reads_members_dtypes_and_order_as_designed(path):
    with np.load(path, allow_pickle=False) as loaded:
        found = {name: (loaded[name].dtype.str, loaded[name].shape) for name in loaded.files}
    header = found.pop("header")
    assert header[0] == "|u1"
    assert list(found.items()) == [
        ("ct_chunks", ("<i2", (3, 4, 6, 6))),
        ("center_irc", ("<i4", (3, 3))),
        ("center_xyz", ("<f8", (3, 3))),
        ("candidate_id", ("<i8", (3,))),
    ]


def test_plain_numpy_reads_the_values_that_were_written(path):
    expected = make_cutouts()
    with np.load(path, allow_pickle=False) as loaded:
        for name in ARRAYS:
            np.testing.assert_array_equal(loaded[name], getattr(expected, name))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_read_returns_what_was_written(store, count):
    expected = make_cutouts(count)
    store.write(UID, expected)
    read = store.read(UID)
    for name in ARRAYS:
        got, wanted = getattr(read, name), getattr(expected, name)
        np.testing.assert_array_equal(got, wanted)
        assert got.dtype == wanted.dtype
    assert read.header == expected.header
    assert store.check(UID) is None


@pytest.mark.seed_defect(29)
def test_header_states_geometry_parameters_and_fingerprints(path, store):
    assert store.header(UID) == {
        "format_version": 2,
        "series_instance_uid": UID,
        "spacing_mm": [0.7, 0.7, 2.5],
        "origin_xyz": [-10.0, -20.0, 5.0],
        "direction": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        "chunk_shape_irc": [4, 6, 6],
        "hu_window": [-1000, 1000],
        "edge_rule": "pad",
        "resampling": None,
        "fingerprints": FINGERPRINT.as_dict(),
        "note": "research use only",
    }
    assert store.digest(UID) == FINGERPRINT.digest


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_members_are_stored_and_their_values_lie_on_64_bytes(store, count):
    store.write(UID, make_cutouts(count))
    content = store.path(UID).read_bytes()
    with zipfile.ZipFile(store.path(UID)) as archive:
        assert archive.testzip() is None
        for info in archive.infolist():
            assert info.compress_type == zipfile.ZIP_STORED
            # Length of the local header by its own fields (APPNOTE.TXT 4.3.7), not by the writer's formula.
            name, extra = (
                int.from_bytes(content[info.header_offset + at : info.header_offset + at + 2], "little")
                for at in (26, 28)
            )
            start = info.header_offset + 30 + name + extra
            assert content[start : start + 6] == b"\x93NUMPY"
            assert start % 64 == 0
            assert (start + 10 + int.from_bytes(content[start + 8 : start + 10], "little")) % 64 == 0


def test_chunks_are_mapped_and_cannot_be_written(store):
    store.write(UID, make_cutouts(200, shape_irc=(32, 48, 48)))
    tracemalloc.start()
    chunks = store.read(UID).ct_chunks
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000 < chunks.nbytes
    assert not chunks.flags.owndata
    assert chunks.ctypes.data % 64 == 0
    with pytest.raises(ValueError, match="read-only"):
        chunks[0] = 0


def test_mapped_chunks_stay_when_the_file_is_replaced(store):
    store.write(UID, make_cutouts(seed=1))
    chunks = store.read(UID).ct_chunks
    store.write(UID, make_cutouts(seed=2))
    np.testing.assert_array_equal(chunks, make_cutouts(seed=1).ct_chunks)
    np.testing.assert_array_equal(store.read(UID).ct_chunks, make_cutouts(seed=2).ct_chunks)


def test_a_file_replaced_while_it_is_read_is_read_as_one(store, monkeypatch):
    store.write(UID, make_cutouts(2, seed=1))
    locate = store_module.locate_members

    def located_then_replaced(file, names):
        members = locate(file, names)
        store.write(UID, make_cutouts(5, seed=2))
        return members

    monkeypatch.setattr(store_module, "locate_members", located_then_replaced)
    np.testing.assert_array_equal(store.read(UID).ct_chunks, make_cutouts(2, seed=1).ct_chunks)


def test_arrays_of_unequal_length_or_other_headers_are_damaged(store, path):
    short = make_cutouts(2)
    for name, array in (("center_irc", short.center_irc), ("center_xyz", short.center_xyz[:, :2])):
        members = {other: getattr(make_cutouts(), other) for other in ARRAYS} | {name: array}
        header = np.frombuffer(json.dumps(short.header).encode(), dtype=np.uint8)
        with path.open("wb") as file:
            write_aligned_npz(file, {**members, "header": header})
        assert store.digest(UID) == FINGERPRINT.digest
        with pytest.raises(DamagedCutoutsError, match=r"one length|center_xyz.npy as float64"):
            store.read(UID)
        assert store.check(UID) is not None


@pytest.mark.parametrize("header", [b"{", b"[1]", b"\xff"])
def test_a_header_that_is_no_json_object_is_damaged(store, path, header):
    members = {name: getattr(make_cutouts(), name) for name in ARRAYS}
    with path.open("wb") as file:
        write_aligned_npz(file, {**members, "header": np.frombuffer(header, dtype=np.uint8)})
    assert store.digest(UID) is None
    assert "in header" in str(store.check(UID))


def test_writing_holds_no_second_copy_of_the_chunks(store):
    cutouts = make_cutouts(200, shape_irc=(32, 48, 48))
    tracemalloc.start()
    num_bytes = store.write(UID, cutouts)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert num_bytes == store.path(UID).stat().st_size > cutouts.ct_chunks.nbytes
    assert peak < 1_000_000


def test_equal_cutouts_give_equal_bytes(store, path):
    first = path.read_bytes()
    os.utime(path, (1, 1))
    store.write(UID, make_cutouts())
    assert path.read_bytes() == first


def test_arrays_that_are_not_contiguous_are_written_as_they_read(store):
    cutouts = make_cutouts()
    turned = np.asfortranarray(cutouts.ct_chunks)
    store.write(
        UID,
        SeriesCutouts(turned, cutouts.center_irc, cutouts.center_xyz, cutouts.candidate_id, cutouts.header),
    )
    np.testing.assert_array_equal(store.read(UID).ct_chunks, cutouts.ct_chunks)


def test_a_missing_series_has_no_digest_and_says_what_to_do(store):
    assert store.digest(UID) is None
    assert "cut before it is read" in str(store.check(UID))
    with pytest.raises(FileNotFoundError, match=r"got no file .*the job `cut`.*on_the_fly"):
        store.read(UID)


def test_every_truncation_is_seen_without_reading_the_chunks(store, path):
    content = path.read_bytes()
    for length in [0, 1, 3, 4, 30, *range(64, len(content), 97), len(content) - 1]:
        path.write_bytes(content[:length])
        assert store.digest(UID) is None, length
    assert "truncated file of" in str(store.check(UID))


def test_bytes_missing_in_the_middle_or_added_are_seen(store, path):
    content = path.read_bytes()
    for changed in (content[:500] + content[564:], b"x" * 64 + content, content + b"x", content * 2):
        path.write_bytes(changed)
        assert store.digest(UID) is None


def test_bytes_between_the_members_and_the_directory_are_seen(store, path):
    content = path.read_bytes()
    # The end records contain the offsets of the directory and of themselves (APPNOTE.TXT 4.3.14 to 4.3.16): everything
    # moves by eight bytes, and the offsets with it.
    directory = int.from_bytes(content[-6:-2], "little")
    end64 = len(content) - 22 - 20 - 56
    moved = bytearray(content[:directory] + b"x" * 8 + content[directory:])
    moved[end64 + 8 + 48 : end64 + 8 + 56] = (directory + 8).to_bytes(8, "little")
    moved[end64 + 8 + 56 + 8 : end64 + 8 + 56 + 16] = (end64 + 8).to_bytes(8, "little")
    moved[-6:-2] = (directory + 8).to_bytes(4, "little")
    path.write_bytes(moved)
    with np.load(path) as loaded:
        assert loaded["ct_chunks"].shape == (3, 4, 6, 6)
    assert store.digest(UID) is None
    assert "got a file of another writer or with changed bytes" in str(store.check(UID))


def test_every_overwritten_byte_of_the_values_is_named_by_check(store, path):
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        chunks, *_, header = archive.infolist()
    path.write_bytes(_flipped(content, content.index(b"\x93NUMPY") + 200))
    assert "another CRC of ct_chunks" in str(store.check(UID))
    assert store.digest(UID) == FINGERPRINT.digest  # the cheap look does not read the chunks
    path.write_bytes(_flipped(content, header.header_offset + 400))
    assert "header.npy as written" in str(store.check(UID))
    assert store.digest(UID) is None
    assert chunks.header_offset == 0


def test_foreign_files_are_told_apart(store, path):
    path.write_bytes(b"coordX,coordY\n" * 100)
    assert "a foreign file of 1400 bytes" in str(store.check(UID))
    np.savez(path, ct_chunk=np.zeros(3))
    assert "got a file of another writer" in str(store.check(UID))
    cutouts = make_cutouts()
    header = np.frombuffer(b"{}", dtype=np.uint8)
    np.savez(path, **{name: getattr(cutouts, name) for name in ARRAYS}, header=header)
    assert "file of another writer" in str(store.check(UID))
    assert store.digest(UID) is None


def test_a_file_under_another_series_name_is_damaged(store, path):
    os.rename(path, store.path("1.2.3"))
    assert store.digest("1.2.3") is None
    assert UID in str(store.check("1.2.3"))
    with pytest.raises(DamagedCutoutsError, match="Cut the series again"):
        store.read("1.2.3")


@pytest.mark.parametrize("change", [{"format_version": 3}, {"fingerprints": {}}])
def test_a_header_of_another_format_is_damaged(store, change):
    cutouts = make_cutouts()
    cutouts.header.update(change)
    store.write(UID, cutouts)
    assert store.digest(UID) is None


def test_chunks_of_another_shape_than_the_header_says_are_refused():
    cutouts = make_cutouts()
    header = build_header(UID, grid=GRID, parameters=CuttingParameters(), fingerprint=FINGERPRINT)
    with pytest.raises(ValueError, match=r"chunk shape \[32, 48, 48\]"):
        SeriesCutouts(*(getattr(cutouts, name) for name in ARRAYS), header)
    with pytest.raises(ValueError, match="one length"):
        SeriesCutouts(cutouts.ct_chunks[:2], *(getattr(cutouts, name) for name in ARRAYS[1:]), cutouts.header)


def test_cutouts_of_another_series_are_not_written(store):
    with pytest.raises(ValueError, match=r"of their file's series"):
        store.write("1.2.3", make_cutouts())
    assert store.uids() == []


@pytest.mark.seed_defect(30)
@pytest.mark.parametrize("uid", ["", "../1.2", "1:2", "a/b", ".hidden", "a b", "x" * 201])
def test_a_uid_that_is_no_file_name_is_refused(store, uid):
    with pytest.raises(ValueError, match="must be letters, digits"):
        store.path(uid)


def test_uids_are_sorted_and_leave_unfinished_files_out(store):
    for uid in ("1.2.10", "1.2.1", UID):
        store.write(uid, make_cutouts(uid=uid))
    (store.root / f".{UID}.npz.x.part").write_bytes(b"unfinished")
    assert store.uids() == ["1.2.1", "1.2.10", UID]
    assert store.sweep() == []
    assert [path.name for path in store.sweep(older_than_seconds=0)] == [f".{UID}.npz.x.part"]


def test_an_empty_store_holds_nothing(store):
    assert store.uids() == []
    assert store.sweep() == []


def test_a_failed_write_is_one_line_and_leaves_the_old_file(store):
    store.write(UID, make_cutouts(seed=1))
    before = store.path(UID).read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(CutoutWriteError, match=r"written whole, got File too large") as caught:
            store.write(UID, make_cutouts(100, shape_irc=(8, 16, 16)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(caught.value)
    assert store.path(UID).read_bytes() == before
    assert os.listdir(store.root) == [f"{UID}.npz"]


@pytest.mark.skipif(not os.path.exists("/usr/bin/unzip"), reason="unzip is not installed")
def test_unzip_finds_no_errors(path):
    result = subprocess.run(["/usr/bin/unzip", "-t", str(path)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


def test_importing_the_store_needs_neither_torch_nor_simpleitk():
    code = (
        "import sys, luna_pipeline.core.cutouts.fingerprint, luna_pipeline.core.cutouts.store;"
        "sys.exit(bool({'torch', 'SimpleITK', 'scipy', 'sklearn', 'matplotlib'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def _flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]


def test_a_header_that_is_known_last_is_the_one_in_the_file(store):
    cutouts = make_cutouts()
    final = {**cutouts.header, "note": cutouts.header["note"][::-1]}
    store.write(UID, cutouts, final_header=lambda: final)
    assert store.header(UID) == final
    assert store.check(UID) is None


def test_a_last_header_of_another_length_leaves_the_old_file(store, path):
    before = path.read_bytes()
    cutouts = make_cutouts(seed=2)
    with pytest.raises(ValueError, match="another length of header"):
        store.write(UID, cutouts, final_header=lambda: {**cutouts.header, "more": 1})
    assert path.read_bytes() == before


def test_what_others_put_into_the_folder_is_none_of_ours(store, path):
    (store.root / "old").mkdir()
    for name in (f"old/{UID}.npz", "a b.npz", "notes.txt"):
        (store.root / name).write_bytes(b"other")
    assert store.uids() == [UID]
    assert path.name in store.listing()


class SilentOnce(io.BytesIO):
    """A file in an object store that does not answer the first time it is read."""

    name = "s3://bucket/1.2.npz"
    is_silent = True

    def read(self, *size):
        if self.is_silent:
            self.is_silent = False
            raise RemoteStoreError("The server must answer, got silence.")
        return super().read(*size)


def test_a_server_that_does_not_answer_makes_no_file_damaged(path):
    file = SilentOnce(path.read_bytes())
    with pytest.raises(RemoteStoreError):
        locate_members(file, (*ARRAYS, "header"))
    assert "ct_chunks" in locate_members(file, (*ARRAYS, "header"))
