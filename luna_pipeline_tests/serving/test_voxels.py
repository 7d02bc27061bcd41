"""Slices for a viewer: the orientation of each plane, and the file that keeps the voxels."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from luna_pipeline.serving.voxels import VOXELS, kept_voxels, made_voxels, plane_slice
from luna_pipeline_tests.phantoms import random_hounsfield, write_ct

# Index towards the head, row towards the back, col towards the left: value 100 i + 10 r + c.
VIEW = (np.arange(2)[:, None, None] * 100 + np.arange(3)[:, None] * 10 + np.arange(4)).astype(np.int16)


@pytest.mark.parametrize(
    ("plane", "number", "expected"),
    [
        ("axial", 1, [[100, 101, 102, 103], [110, 111, 112, 113], [120, 121, 122, 123]]),
        # The head is above: the last slice is the first line.
        ("coronal", 2, [[120, 121, 122, 123], [20, 21, 22, 23]]),
        # The front is on the left.
        ("sagittal", 3, [[103, 113, 123], [3, 13, 23]]),
    ],
)
def test_slices_are_as_a_radiologist_looks_at_them(plane: str, number: int, expected: list):
    np.testing.assert_array_equal(plane_slice(VIEW, plane, number), expected)


@pytest.mark.parametrize(("plane", "number"), [("axial", 2), ("coronal", 3), ("sagittal", 4), ("axial", -1)])
def test_slices_beyond_the_ct_are_refused(plane: str, number: int):
    with pytest.raises(IndexError, match=r"A slice must be from 0 to \d, got -?\d"):
        plane_slice(VIEW, plane, number)


@pytest.fixture
def flipped(tmp_path: Path) -> tuple[Path, np.ndarray]:
    """A folder with a CT whose rows run to the front and whose columns run to the right, and its voxels."""
    hounsfield = random_hounsfield((6, 8, 10))
    direction = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0)
    write_ct(tmp_path / "input", "ct", hounsfield, direction=direction, suffix=".mha")
    (tmp_path / "output").mkdir()
    return tmp_path, hounsfield


def test_voxels_are_turned_to_the_patients_axes_and_kept_in_a_file(flipped):
    root, hounsfield = flipped
    voxels = made_voxels(root / "input", root / "output")
    np.testing.assert_array_equal(voxels, hounsfield[:, ::-1, ::-1])
    assert voxels.dtype == np.int16
    assert isinstance(voxels.base, np.memmap)
    assert not voxels.flags.writeable
    shutil.rmtree(root / "input")
    again = made_voxels(root / "input", root / "output")
    np.testing.assert_array_equal(again, hounsfield[:, ::-1, ::-1])
    assert [path.name for path in (root / "output").iterdir()] == [VOXELS]


@pytest.mark.parametrize(
    "damage", [lambda whole: b"", lambda whole: whole[:-1], lambda whole: bytes(len(whole)), lambda whole: whole[:60]]
)
def test_a_damaged_file_is_made_again(flipped, damage):
    root, hounsfield = flipped
    made_voxels(root / "input", root / "output")
    path = root / "output" / VOXELS
    path.write_bytes(damage(path.read_bytes()))
    assert kept_voxels(root / "output") is None
    made_voxels(root / "input", root / "output")
    np.testing.assert_array_equal(kept_voxels(root / "output"), hounsfield[:, ::-1, ::-1])


def test_the_file_is_flushed_before_it_has_its_name(flipped, monkeypatch: pytest.MonkeyPatch):
    root, _ = flipped
    calls, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda *given: (calls.append("fsync"), fsync(*given)))
    monkeypatch.setattr(os, "replace", lambda *given: (calls.append("replace"), replace(*given)))
    made_voxels(root / "input", root / "output")
    assert calls[:2] == ["fsync", "replace"]


def test_a_deleted_diagnosis_does_not_come_back(flipped):
    root, _ = flipped
    (root / "output").rmdir()
    with pytest.raises(FileNotFoundError, match="was deleted"):
        made_voxels(root / "input", root / "output")
    assert not (root / "output").exists()
