"""Disks that lack hard links, modes, locks or folders that can be flushed."""

import errno
import fcntl
import os
import tempfile
import threading

import numpy as np
import pytest

from luna_pipeline.core.cutouts.aligned_npz import write_aligned_npz
from luna_pipeline.core.storage.files import write_bytes
from luna_pipeline.core.storage.limited_disks import locked, place_new
from luna_pipeline.core.training.checkpoints import CheckpointStore
from luna_pipeline.settings import Settings

FEATURES = {os: ("link", "fchmod", "posix_fallocate"), fcntl: ("flock",)}
ANSWERS = [errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK, errno.EINVAL]


@pytest.fixture(params=ANSWERS, ids=errno.errorcode.get)
def limited_disk(request, tmp_path_factory, monkeypatch):
    """Answer each request for a feature with this error, as the disk would; temporary files have locks."""
    place, flock = tmp_path_factory.mktemp("temporary"), fcntl.flock

    def refuse(*_arguments, **_options):
        raise OSError(request.param, os.strerror(request.param))

    for module, names in FEATURES.items():
        for name in names:
            monkeypatch.setattr(module, name, refuse)
    monkeypatch.setattr(os, "fsync", lambda file: refuse() if os.path.isdir(f"/proc/self/fd/{file}") else None)
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    monkeypatch.setattr(
        fcntl, "flock", lambda file, mode: flock(file, mode) if file.name.startswith(str(place)) else refuse()
    )


def test_files_are_whole_and_replaced(limited_disk, tmp_path):
    for content in (b"one", b"another"):
        write_bytes(tmp_path / "table.parquet", content)
    assert [path.name for path in tmp_path.iterdir()] == ["table.parquet"]
    assert (tmp_path / "table.parquet").read_bytes() == b"another"


def test_the_key_of_patients_is_made_once_and_never_replaced(limited_disk, tmp_path):
    settings, keys = Settings.from_environment({"LUNA_HOME": str(tmp_path)}), []
    threads = [threading.Thread(target=lambda: keys.append(settings.patient_key())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys) == 8
    assert len(set(keys)) == 1
    assert {path.name for path in tmp_path.iterdir()} <= {"patient_key", ".patient_key.lock"}


def test_an_existing_file_is_not_replaced_by_a_new_one(limited_disk, tmp_path):
    (tmp_path / "new").write_bytes(b"new")
    (tmp_path / "key").write_bytes(b"first")
    with pytest.raises(FileExistsError):
        place_new(tmp_path / "new", tmp_path / "key")
    assert (tmp_path / "key").read_bytes() == b"first"


def test_a_version_is_trained_by_one_process(limited_disk, tmp_path):
    store = CheckpointStore(tmp_path)
    with store.locked("nodules", "0.0.1"):
        with pytest.raises(BlockingIOError, match=r"got another that trains it \(nodules 0.0.1\)"):
            store.locked("nodules", "0.0.1").__enter__()
        with store.locked("nodules", "0.0.2"):
            pass
    with store.locked("nodules", "0.0.1"):
        pass


def test_cutouts_are_written_where_space_cannot_be_claimed(limited_disk, tmp_path):
    chunks = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    with (tmp_path / "a.npz").open("w+b") as file:
        write_aligned_npz(file, {"ct_chunks": chunks})
    assert np.array_equal(np.load(tmp_path / "a.npz")["ct_chunks"], chunks)


@pytest.mark.parametrize(
    ("module", "name", "use"),
    [
        (os, "link", lambda folder: place_new(folder / "new", folder / "key")),
        (os, "fchmod", lambda folder: write_bytes(folder / "table", b"")),
        (fcntl, "flock", lambda folder: locked(folder / "lock", waits=False).__enter__()),
    ],
)
def test_another_error_of_the_disk_is_raised(tmp_path, monkeypatch, module, name, use):
    def fail(*_arguments):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(module, name, fail)
    (tmp_path / "new").write_bytes(b"new")
    with pytest.raises(OSError, match="Input/output error"):
        use(tmp_path)
