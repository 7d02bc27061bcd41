"""Scans of a catalogue, and blocks in files of numpy."""

import os
from pathlib import Path

import numpy as np
import pytest

from luna_pipeline.core.ct.errors import UnreadableCtError
from luna_pipeline.core.same_scans.scan_files import scans_below
from luna_pipeline_tests.core.ct.formats.test_luna25_block import official_metadata, write_block
from luna_pipeline_tests.phantoms import make_image, random_hounsfield, write_dicom_series

VALUES = np.arange(24).reshape(2, 3, 4)


def only(folder: Path):
    (scan,), reasons = scans_below(folder, patient_key=b"k")
    assert reasons == {}
    return scan


@pytest.mark.parametrize("kind", [np.int16, np.float32, np.float64, np.uint8])
def test_blocks_are_read_as_hounsfield(tmp_path: Path, kind):
    np.savez(tmp_path / "1.2_3:4:5.npz", ct_chunk=VALUES.astype(kind), center_irc=np.zeros(3, np.int16))
    scan = only(tmp_path)
    np.testing.assert_array_equal(scan.read(), VALUES)
    assert (scan.read().dtype, scan.name, scan.data_source) == (np.int16, "1.2_3:4:5", None)


def test_an_npy_in_a_folder_has_the_folder_in_its_name(tmp_path: Path):
    (tmp_path / "image").mkdir()
    np.save(tmp_path / "image/7.npy", VALUES)
    assert only(tmp_path).name == "image/7"
    np.testing.assert_array_equal(only(tmp_path).read(), VALUES)


def test_a_changed_block_has_another_fingerprint(tmp_path: Path):
    np.save(tmp_path / "7.npy", VALUES)
    before = only(tmp_path).fingerprint
    assert only(tmp_path).fingerprint == before
    np.save(tmp_path / "7.npy", VALUES.astype(np.int16))
    assert only(tmp_path).fingerprint != before


def with_one_time(folder: Path) -> Path:
    """Give all files the same time, as archives with fixed dates do."""
    for path in folder.rglob("*.*"):
        os.utime(path, ns=(10**18, 10**18))
    return folder


def test_files_of_equal_names_sizes_and_times_are_of_two_scans_by_series_and_by_place(tmp_path: Path):
    for number, patient in enumerate("ab"):
        write_dicom_series(tmp_path / patient / "ct", f"1.2.{number}", random_hounsfield(), patient_id=patient)
        np.save(tmp_path / patient / "7.npy", VALUES)
    found, _ = scans_below(with_one_time(tmp_path), patient_key=b"k")
    assert len({scan.fingerprint for scan in found}) == len(found) == 4
    # Also where the folders themselves are compared: the places in them are equal.
    apart = [scan for patient in "ab" for scan in scans_below(tmp_path / patient, patient_key=b"k")[0]]
    assert sorted(scan.fingerprint for scan in apart) == sorted(scan.fingerprint for scan in found)


def test_blocks_of_luna25_are_listed_once_and_their_files_are_not_named(tmp_path: Path):
    values = random_hounsfield()
    write_block(tmp_path, values, official_metadata(make_image(values)), name="100012_1_19990102")
    write_block(tmp_path, values, official_metadata(make_image(values)), name="100013_1_19990102").write_bytes(b"")
    found, reasons = scans_below(tmp_path, patient_key=b"k")
    assert [scan.name[:5] for scan in found] == [name[:5] for name in reasons] == ["2.25."]
    assert "10001" not in f"{found[0].name} {reasons}"


def test_objects_are_never_unpickled(tmp_path: Path):
    class Bomb:
        def __reduce__(self):
            return Path.touch, (tmp_path / "gone off",)

    np.save(tmp_path / "7.npy", np.array([Bomb()], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "8.npz", block=np.array([Bomb()], dtype=object))
    for scan in scans_below(tmp_path, patient_key=b"k")[0]:
        with pytest.raises(UnreadableCtError, match="A block must be readable by numpy"):
            scan.read()
    assert not (tmp_path / "gone off").exists()


@pytest.mark.parametrize(
    ("arrays", "got"), [({"a": VALUES, "b": VALUES}, 2), ({"a": np.zeros(3)}, 0), ({"a": VALUES.astype(bool)}, 0)]
)
def test_a_file_must_hold_one_block(tmp_path: Path, arrays, got: int):
    np.savez(tmp_path / "7.npz", **arrays)
    with pytest.raises(UnreadableCtError, match=f"A block must be one array of three axes, got {got} "):
        only(tmp_path).read()


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x05\x06" + b"\0" * 18])
def test_damaged_files_are_named(tmp_path: Path, content: bytes):
    (tmp_path / "7.npz").write_bytes(content)
    with pytest.raises(UnreadableCtError, match=r"\(7\)"):
        only(tmp_path).read()


def test_a_folder_without_scans_is_an_error(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="must hold CTs"):
        scans_below(tmp_path, patient_key=b"k")
