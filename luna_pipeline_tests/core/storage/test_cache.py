"""Local copies of objects, from a real server."""

import mmap
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from luna_pipeline.core.storage.cache import LocalCopies
from luna_pipeline.core.storage.files import AnyPath, listing, remove, status_of, write_bytes
from luna_pipeline.core.storage.s3 import PART_BYTES, RemoteStoreError, remote_path
from luna_pipeline_tests.processes import free_port, in_four_processes
from luna_pipeline_tests.s3_server import forget_connections

FETCHER = """
import sys
from pathlib import Path
from luna_pipeline.core.storage import cache
from luna_pipeline.core.storage.s3 import object_in_blocks, remote_path

def slow(path):
    status, blocks = object_in_blocks(path)
    def half():
        yield next(blocks)
        print("half", flush=True)
        sys.stdin.read()
    return status, half()

cache.object_in_blocks = slow
cache.LocalCopies(Path(sys.argv[1])).of(remote_path(sys.argv[2]))
"""


@pytest.fixture
def remote(s3_home: str) -> AnyPath:
    path = remote_path(s3_home) / "cutouts/1.2.3.npz"
    write_bytes(path, b"one" * 1000)
    return path


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]


def lose_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    forget_connections()


def test_a_local_file_is_its_own_copy(tmp_path):
    copies = LocalCopies(tmp_path / "cache")
    assert copies.of(tmp_path / "a") == tmp_path / "a"
    assert not (tmp_path / "cache").exists()
    (tmp_path / "a").write_bytes(b"1")
    with copies.opened(tmp_path / "a") as file:
        assert file.read() == b"1"


def test_a_copy_is_fetched_once_and_then_read_without_the_server(remote, tmp_path, monkeypatch):
    copies = LocalCopies(tmp_path / "cache")
    version = listing(remote.parent)["1.2.3.npz"].version
    copy = copies.of(remote)
    assert copy.read_bytes() == b"one" * 1000
    assert copies.of(remote, version=version) == copy
    lose_the_server(monkeypatch)
    assert copies.of(remote, version=version) == copy
    with copies.opened(remote, version=version) as file:
        assert mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)[:3] == b"one"
    with pytest.raises(RemoteStoreError):
        copies.of(remote)


def test_a_changed_object_is_fetched_again_and_its_old_copy_goes(remote, tmp_path):
    copies = LocalCopies(tmp_path / "cache")
    old_version = status_of(remote).version
    with copies.opened(remote) as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    write_bytes(remote, b"two" * 1000)
    assert copies.of(remote).read_bytes() == b"two" * 1000
    assert len(files_below(tmp_path / "cache")) == 1
    assert mapped[:] == b"one" * 1000
    # With the version of an older listing, the current object is returned, never other content under that version.
    assert copies.of(remote, version=old_version).read_bytes() == b"two" * 1000


def test_an_object_that_is_gone_has_no_copy(remote, tmp_path):
    copies = LocalCopies(tmp_path / "cache")
    copies.of(remote)
    remove(remote)
    for fetch in (copies.of, copies.opened):
        with pytest.raises(FileNotFoundError, match=r"1\.2\.3\.npz"):
            fetch(remote)


def test_large_objects_are_whole_and_a_removed_cache_is_filled_again(remote, tmp_path):
    copies, content = LocalCopies(tmp_path / "cache"), os.urandom(2 * PART_BYTES + 5)
    write_bytes(remote, content)
    for _ in range(2):
        assert copies.of(remote).read_bytes() == content
        shutil.rmtree(tmp_path / "cache")


def test_a_killed_process_leaves_no_copy_and_holds_up_nobody(remote, tmp_path):
    write_bytes(remote, content := os.urandom(PART_BYTES + 5))
    command = [sys.executable, "-c", FETCHER, str(tmp_path / "cache"), str(remote)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"half\n"
        process.kill()
    assert [path.suffix for path in files_below(tmp_path / "cache")] == [".part"]
    copy = LocalCopies(tmp_path / "cache").of(remote)
    assert copy.read_bytes() == content
    assert files_below(tmp_path / "cache") == [copy]


def test_a_disk_without_room_is_said_and_gets_no_copy(remote, tmp_path):
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from luna_pipeline.core.storage.cache import LocalCopies\n"
        "from luna_pipeline.core.storage.s3 import remote_path\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "LocalCopies(Path(sys.argv[1])).of(remote_path(sys.argv[2]))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "cache"), str(remote)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "A copy must fit on the disk, got File too large" in done.stderr.splitlines()[-1]
    assert files_below(tmp_path / "cache") == []


def _inode(folder: Path, path: AnyPath) -> tuple[int, int]:
    copy = LocalCopies(folder).of(path)
    return copy.stat().st_ino, len(copy.read_bytes())


def test_of_several_processes_one_fetches(remote, tmp_path):
    write_bytes(remote, os.urandom(PART_BYTES + 5))
    found = in_four_processes(_inode, [(tmp_path / "cache", remote)] * 8)
    assert len(set(found)) == 1
    assert found[0][1] == PART_BYTES + 5
