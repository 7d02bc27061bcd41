"""What makes a series be cut again, and what only looks like it."""

import json
import os
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from luna_pipeline.core.ct.catalogue import catalogue_series
from luna_pipeline.core.ct.content_hash import content_fingerprint
from luna_pipeline.core.ct.formats import metaimage
from luna_pipeline.core.ct.reading import CtReader, UnreadableCtError
from luna_pipeline.core.cutouts.job import compare_file
from luna_pipeline.core.cutouts.store import CutoutStore
from luna_pipeline_tests.core.cutouts.data_root import UIDS, make_service, write_data_root


@pytest.fixture
def made(tmp_path):
    """Cut series: data root, candidates, store."""
    root = tmp_path / "data"
    root.mkdir()
    catalogue, candidates = write_data_root(root)
    store = CutoutStore(tmp_path / "cutouts")
    make_service(root, catalogue, candidates, store=store).cut_many()
    return root, candidates, store


def service_of(made):
    root, candidates, store = made
    return make_service(root, catalogue_series(root, patient_key=b"key"), candidates, store=store)


def test_a_touched_ct_is_read_once_and_not_cut(made, monkeypatch):
    root, _, store = made
    before = store.path(UIDS[0]).read_bytes()
    os.utime(root / f"{UIDS[0]}.raw", (0, 0))
    service = service_of(made)
    assert service.plan()["state"].tolist() == ["touched", "current", "current"]
    assert service.cut_many().current == [*UIDS[1:], UIDS[0]]
    assert store.path(UIDS[0]).read_bytes() == before
    monkeypatch.setattr(CtReader, "content_fingerprint", None)
    again = service_of(made)
    assert again.plan()["state"].tolist() == ["current"] * 3
    assert again.cut_many().num_current == 3


def test_a_ct_with_other_voxels_of_the_same_size_is_cut_again(made):
    root, _, store = made
    path = root / f"{UIDS[0]}.raw"
    voxels = np.fromfile(path, dtype=np.int16)
    np.roll(voxels, 1).tofile(path)
    os.utime(path, (0, 0))
    before = store.digest(UIDS[0])
    assert service_of(made).cut_many().cut == [UIDS[0]]
    assert store.digest(UIDS[0]) != before
    assert service_of(made).plan()["state"].tolist() == ["current"] * 3


def test_a_ct_that_changed_and_changed_back_is_not_cut(made):
    root = made[0]
    path = root / f"{UIDS[0]}.raw"
    content = path.read_bytes()
    path.write_bytes(content[2:] + content[:2])
    path.write_bytes(content)
    os.utime(path, (0, 0))
    assert service_of(made).cut_many().num_current == 3
    path.write_bytes(content[2:] + content[:2])
    os.utime(path, (1, 1))
    assert service_of(made).cut_many().cut == [UIDS[0]]


def test_the_header_holds_the_content_of_the_ct(made):
    root, _, store = made
    files = [root / f"{UIDS[1]}.mhd", root / f"{UIDS[1]}.raw"]
    assert store.header(UIDS[1])["fingerprints"]["ct_content"] == content_fingerprint(files)


def write_version_1(store: CutoutStore, uid: str, wanted) -> None:
    """A file as format 1 had it: written by zipfile, without the content of the CT."""
    cutouts = store.read(uid)
    fingerprints = {"ct": wanted.ct, "rows": wanted.rows, "parameters": wanted.parameters, "code": wanted.code}
    header = {**cutouts.header, "format_version": 1, "fingerprints": {**fingerprints, "digest": "old"}}
    names = ("ct_chunks", "center_irc", "center_xyz", "candidate_id")
    arrays = {name: np.array(getattr(cutouts, name)) for name in names}
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    with zipfile.ZipFile(store.path(uid), "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            info = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            # As that writer set them: the whole directory is compared.
            info.create_system, info.external_attr = 3, 0o644 << 16
            unpadded = archive.fp.tell() + 30 + len(info.filename) + 20 + 6
            num_zeros = -unpadded % 64
            info.extra = b"\x35\xd9" + (2 + num_zeros).to_bytes(2, "little") + b"\x40\x00" + bytes(num_zeros)
            text = f"{{'descr': {array.dtype.str!r}, 'fortran_order': False, 'shape': {array.shape}, }}"
            npy = b"\x93NUMPY\x01\x00\x76\x00" + text.ljust(117).encode() + b"\n"
            with archive.open(info, "w", force_zip64=True) as member:
                member.write(npy + array.tobytes())


def test_a_file_of_format_1_is_read_and_current(made):
    _, _, store = made
    service = service_of(made)
    expected, wanted = store.read(UIDS[0]), service.job(UIDS[0]).wanted
    chunks = np.array(expected.ct_chunks)
    write_version_1(store, UIDS[0], wanted)
    assert store.check(UIDS[0]) is None
    np.testing.assert_array_equal(np.asarray(store.read(UIDS[0]).ct_chunks), chunks)
    assert compare_file(store, UIDS[0], wanted) == ("current", "", "old")
    assert compare_file(store, UIDS[0], replace(wanted, ct="other")) == ("changed", "ct", "old")


def test_what_was_noted_of_another_look_does_not_count(made):
    _, _, store = made
    wanted = service_of(made).job(UIDS[0]).wanted
    store.record_ct_content(UIDS[0], replace(wanted, ct="look", ct_content="bytes"))
    assert store.kept_ct_content(UIDS[0], "look") == "bytes"
    assert store.kept_ct_content(UIDS[0], "other look") is None
    (store.root / ".ct_contents" / f"{UIDS[0]}.json").write_text("[torn")
    assert store.kept_ct_content(UIDS[0], "look") is None


def test_a_ct_that_is_replaced_while_it_is_cut_is_refused_and_leaves_no_file(made, monkeypatch):
    root, _, store = made
    store.remove(UIDS[0])

    read = CtReader.read

    def replaced_meanwhile(reader):
        ct = read(reader)
        other = root / "new.part"
        # Air and water by turns.
        pair = np.array([-1000, 0], dtype="<i2").tobytes()
        other.write_bytes(pair * ((root / f"{UIDS[0]}.raw").stat().st_size // 4))
        other.rename(root / f"{UIDS[0]}.raw")
        return ct

    monkeypatch.setattr(CtReader, "read", replaced_meanwhile)
    summary = service_of(made).cut_many()
    assert "must stay as it is while it is read" in summary.failed[UIDS[0]]
    assert UIDS[0] not in store.uids()
    monkeypatch.undo()
    assert service_of(made).cut_many().cut == [UIDS[0]]
    assert (np.asarray(store.read(UIDS[0]).ct_chunks) == 0).any()


def test_a_header_is_parsed_once_a_cut_and_one_replaced_meanwhile_is_noticed(made, monkeypatch):
    root, _, store = made
    store.remove(UIDS[0])
    header, parsed, read_fields = root / f"{UIDS[0]}.mhd", [], metaimage._read_fields

    def count(path):
        parsed.append(path)
        return read_fields(path)

    def replace_header(path):
        fields = read_fields(path)
        (root / "new.part").write_bytes(path.read_bytes())
        (root / "new.part").rename(path)
        return fields

    service = service_of(made)
    monkeypatch.setattr(metaimage, "_read_fields", count)
    service.cut_series(UIDS[0])
    assert parsed == [header]
    store.remove(UIDS[0])
    monkeypatch.setattr(metaimage, "_read_fields", replace_header)
    with pytest.raises(UnreadableCtError, match="must stay as it is while it is read"):
        service.cut_series(UIDS[0])


def test_a_file_that_the_disk_does_not_give_back_is_damaged(made):
    store = made[2]
    store.path(UIDS[0]).unlink()
    store.path(UIDS[0]).mkdir()
    assert service_of(made).plan()["state"].tolist() == ["damaged", "current", "current"]
    assert "got a folder" in store.check(UIDS[0])
