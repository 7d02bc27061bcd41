import hashlib
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from luna_pipeline.core.storage import files
from luna_pipeline.core.storage.files import (
    folder_digest,
    folder_stat_digest,
    folders_below,
    sha256_of,
    sweep_temporary_files,
    write_bytes,
    written_atomically,
)

WRITER = """
import sys
from pathlib import Path
from luna_pipeline.core.storage.files import (
    folder_digest,
    folder_stat_digest,
    sha256_of,
    sweep_temporary_files,
    write_bytes,
    written_atomically,
)
with written_atomically(Path(sys.argv[1])) as file:
    file.write(b"half of")
    file.flush()
    print("half", flush=True)
    sys.stdin.read()
"""


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def fail_while_writing(path, error):
    with written_atomically(path) as file:
        file.write(b"half of the new")
        raise error


def kill_writer_of(path):
    """Start a process that writes `path`, and kill it when it is half through."""
    command = [sys.executable, "-c", WRITER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout.readline() == b"half\n"
        writer.send_signal(signal.SIGKILL)
        writer.wait()


def test_the_content_is_there_and_nothing_else(tmp_path):
    path = tmp_path / "deep" / "folder" / "table.parquet"
    write_bytes(path, b"whole")
    assert path.read_bytes() == b"whole"
    assert names_in(path.parent) == ["table.parquet"]


@pytest.mark.seed_defect(32)
@pytest.mark.parametrize("error", [RuntimeError("torn"), KeyboardInterrupt()])
def test_a_failure_leaves_nothing(tmp_path, error):
    with pytest.raises(type(error)):
        fail_while_writing(tmp_path / "new", error)
    assert names_in(tmp_path) == []


@pytest.mark.seed_defect(32)
def test_a_failure_keeps_what_was_there(tmp_path):
    path = tmp_path / "table"
    write_bytes(path, b"old")
    with pytest.raises(RuntimeError, match="torn"):
        fail_while_writing(path, RuntimeError("torn"))
    assert path.read_bytes() == b"old"
    assert names_in(tmp_path) == ["table"]


@pytest.mark.seed_defect(32)
def test_a_failed_rename_leaves_nothing(tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(IsADirectoryError):
        write_bytes(tmp_path / "taken", b"whole")
    assert names_in(tmp_path) == ["taken"]


@pytest.mark.seed_defect(32)
def test_a_killed_writer_leaves_the_old_file_and_its_rest_is_swept(tmp_path):
    path = tmp_path / "table"
    write_bytes(path, b"old")
    kill_writer_of(path)
    assert path.read_bytes() == b"old"
    assert len(names_in(tmp_path)) == 2
    removed = sweep_temporary_files(tmp_path, older_than_seconds=0)
    assert len(removed) == 1
    assert names_in(tmp_path) == ["table"]


def test_the_file_is_on_disk_before_it_takes_its_name(tmp_path, monkeypatch):
    order = []
    monkeypatch.setattr(files.os, "fsync", lambda descriptor: order.append("fsync"))
    real_replace = os.replace
    monkeypatch.setattr(files.os, "replace", lambda a, b: (order.append("rename"), real_replace(a, b)))
    write_bytes(tmp_path / "table", b"whole")
    assert order == ["fsync", "rename", "fsync"]


def test_others_may_read_a_produced_file(tmp_path):
    before = os.umask(0o022)
    try:
        write_bytes(tmp_path / "table", b"whole")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "table").stat().st_mode) == 0o644


def test_the_sweep_spares_running_writers_and_final_names(tmp_path):
    for name in ("table", "note.part", ".hidden"):
        (tmp_path / name).write_bytes(b"")
    young, old = tmp_path / ".table.abc.part", tmp_path / ".table.xyz.part"
    for path in (young, old):
        path.write_bytes(b"")
    os.utime(old, (0, 0))
    assert sweep_temporary_files(tmp_path, older_than_seconds=3600) == [old]
    assert names_in(tmp_path) == [".hidden", ".table.abc.part", "note.part", "table"]


def test_sha256_is_that_of_the_bytes(tmp_path):
    content = bytes(range(256)) * 5000
    (tmp_path / "file").write_bytes(content)
    assert sha256_of(tmp_path / "file") == hashlib.sha256(content).hexdigest()


@pytest.fixture
def data_folder(tmp_path):
    for name in ("table.csv", "note.txt", "deep/table.csv", "deep/scan.raw"):
        write_bytes(tmp_path / name, b"content")
        os.utime(tmp_path / name, (1, 1))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "is_seen"), [("table.csv", False), ("note.txt", True), ("deep/table.csv", True), ("deep/scan.raw", True)]
)
def test_touching_a_table_at_the_top_is_no_change_of_the_folder(data_folder, name, is_seen):
    before, stat_digest = folder_digest(data_folder, by_content=".csv"), folder_stat_digest(data_folder)
    os.utime(data_folder / name, (2, 2))
    assert (folder_digest(data_folder, by_content=".csv") != before) == is_seen
    assert folder_stat_digest(data_folder) != stat_digest


def test_content_names_and_links_into_nowhere_of_a_folder(data_folder):
    before = folder_digest(data_folder, by_content=".csv")
    (data_folder / "nowhere.raw").symlink_to(data_folder / "gone")
    assert folder_digest(data_folder, by_content=".csv") == before
    (data_folder / "table.csv").write_bytes(b"changed")
    changed = folder_digest(data_folder, by_content=".csv")
    assert changed != before
    (data_folder / "deep" / "scan.raw").rename(data_folder / "deep" / "other.raw")
    assert folder_digest(data_folder, by_content=".csv") != changed


def test_a_change_behind_a_link_is_seen_and_a_loop_is_walked_once(tmp_path):
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    root.mkdir()
    elsewhere.mkdir()
    (root / "subset0").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(root)
    before = folder_stat_digest(root)
    assert folder_stat_digest(root) == before
    (elsewhere / "1.mhd").write_text("NDims = 3")
    assert folder_stat_digest(root) != before
    assert [path.relative_to(root).as_posix() for path, _, _ in folders_below(root)] == [".", "subset0"]


def test_odd_entries_of_a_folder_stop_no_walk_and_are_no_files(tmp_path):
    (tmp_path / "kept.txt").write_bytes(b"kept")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "up").symlink_to(tmp_path)
    (tmp_path / "dangling").symlink_to("gone")
    (tmp_path / "long").symlink_to("x" * 300)
    odd = os.path.join(os.fsencode(tmp_path), b"odd\xff")
    with open(odd, "wb"):
        pass
    assert sorted(map(os.fsencode, files.listing(tmp_path))) == [b"kept.txt", b"odd\xff"]
    first = folder_digest(tmp_path, by_content="")
    os.unlink(odd)
    assert folder_digest(tmp_path, by_content="") != first


def test_folders_1200_deep_are_walked(tmp_path):
    descriptor = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d", dir_fd=descriptor)
        inner = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = inner
    os.close(descriptor)
    num_folders = len(list(folders_below(tmp_path)))
    # Not by pytest: it calls itself for each level.
    subprocess.run(["rm", "-rf", str(tmp_path / "d")], check=True)
    assert num_folders == 1201


@pytest.mark.parametrize("read", [files.read_bytes, files.opened, files.content_of, sha256_of])
def test_only_regular_files_are_opened(tmp_path, read):
    os.mkfifo(tmp_path / "fifo")
    for path, kind in (
        (tmp_path / "fifo", "a FIFO"),
        (tmp_path, "a folder"),
        (Path("/dev/null"), "a character device"),
    ):
        with pytest.raises(OSError, match=f"Only regular files are opened, got {kind}"):
            read(path)
