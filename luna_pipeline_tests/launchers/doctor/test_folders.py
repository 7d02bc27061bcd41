"""Memory, disks and folders: what is wrong is found, with what to do."""

import tempfile
from pathlib import Path

import psutil
import pytest

from luna_pipeline.core.storage.s3 import RemoteStoreError
from luna_pipeline.launchers.doctor import folders
from luna_pipeline.settings import Settings


def settings(root: Path, **values: str) -> Settings:
    return Settings.from_environment({"LUNA_DATA_DIR": str(root / "data"), "LUNA_HOME": str(root / "home"), **values})


def test_little_memory_is_a_note(monkeypatch):
    class Memory:
        available, total = 1 * 2**30, 2 * 2**30

    monkeypatch.setattr(psutil, "virtual_memory", lambda: Memory)
    (found,) = folders.memory()
    assert found.state == "note"
    assert found.value.startswith("1.0 of 2.0 GiB available")


@pytest.mark.parametrize(("free_gib", "state"), [(0.5, "problem"), (5, "note"), (50, "ok")])
def test_free_space_of_a_disk(tmp_path, monkeypatch, free_gib, state):
    monkeypatch.setattr(folders, "_free_bytes", lambda _: int(free_gib * 2**30))
    (found,) = folders.disk("LUNA_CACHE", tmp_path / "not/made", "Make room.")
    assert found.state == state
    assert (found.fix == "Make room.") == (state != "ok")
    assert found.value.startswith(f"{tmp_path / 'not/made'}: {free_gib:.1f} GiB free (not made yet)")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_a_problem(tmp_path, monkeypatch):
    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    (found,) = folders.home(settings(tmp_path))
    assert (found.name, found.state) == ("LUNA_HOME", "problem")
    assert "Permission denied" in found.value


def test_a_home_in_s3_that_does_not_answer_is_a_problem(tmp_path, monkeypatch):
    def refuse(_):
        raise RemoteStoreError("no connection\nto the server")

    monkeypatch.setattr(folders, "listing", refuse)
    (found,) = folders.home(settings(tmp_path, LUNA_HOME="s3://bucket/home"))
    assert (found.state, found.value) == ("problem", "s3://bucket/home: no connection to the server")
    monkeypatch.setattr(folders, "listing", lambda _: {"folds.parquet": None})
    (found,) = folders.home(settings(tmp_path, LUNA_HOME="s3://bucket/home"))
    assert (found.state, found.value) == ("ok", "s3://bucket/home answers, 1 tables")


def test_a_data_root_is_described_by_its_tables_and_files(tmp_path):
    (missing,) = folders.data(settings(tmp_path), is_named=True)
    assert missing.state == "problem"
    (unset,) = folders.data(settings(tmp_path), is_named=False)
    assert unset.state == "note"
    assert "make demo" in unset.fix
    (tmp_path / "data/subset0").mkdir(parents=True)
    (tmp_path / "data/subset0/1.2.mhd").touch()
    (tmp_path / "data/subset0/1.2.raw").touch()
    (bare,) = folders.data(settings(tmp_path), is_named=True)
    assert (bare.state, bare.value) == ("note", f"{tmp_path / 'data'}: 1 CT files, no tables")
    assert bare.fix.startswith(f"`luna check_data {tmp_path / 'data'}`")
    (tmp_path / "data/annotations.csv").touch()
    (tmp_path / "data/phantom.json").touch()
    (whole,) = folders.data(settings(tmp_path), is_named=True)
    assert (whole.state, whole.value) == ("ok", f"{tmp_path / 'data'}: 1 CT files, annotations.csv; synthetic data")


def test_counting_ends_in_time(tmp_path, monkeypatch):
    (tmp_path / "data/a").mkdir(parents=True)
    (tmp_path / "data/one.nii.gz").touch()
    (tmp_path / "data/a/two.dcm").touch()
    monkeypatch.setattr(folders, "_SECONDS_TO_COUNT", -1.0)
    (found,) = folders.data(settings(tmp_path), is_named=True)
    assert "more than 1 CT files" in found.value
