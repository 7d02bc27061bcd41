"""Files in S3 against a real server, held to what files on a disk do."""

import hashlib
import io
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from luna_pipeline.core.storage.files import (
    AnyPath,
    content_of,
    exists,
    is_remote,
    listing,
    make_new_folder,
    opened,
    read_bytes,
    remove,
    remove_empty_folder,
    sha256_of,
    status_of,
    subfolders,
    sweep_temporary_files,
    write_bytes,
    written_atomically,
)
from luna_pipeline.core.storage.s3 import PART_BYTES, TAIL_BYTES, RemoteStoreError, remote_path
from luna_pipeline_tests.processes import free_port, in_four_processes
from luna_pipeline_tests.s3_server import forget_connections

KILLED_WRITER = """
import sys
from luna_pipeline.core.storage.files import written_atomically
from luna_pipeline.core.storage.s3 import remote_path
with written_atomically(remote_path(sys.argv[1])) as file:
    file.write(b"half of")
    file.flush()
    print("half", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(params=["local", "remote"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> AnyPath:
    """A folder of either kind, so that both are held to the same."""
    return tmp_path / "home" if request.param == "local" else remote_path(request.getfixturevalue("s3_home"))


def fail_while_writing(path: AnyPath) -> None:
    with written_atomically(path) as file:
        file.write(b"half of the new")
        msg = "no more"
        raise ValueError(msg)


def test_what_is_written_is_read_whole_and_in_parts(home):
    path = home / "tables/a.bin"
    write_bytes(path, content := os.urandom(300_000))
    assert read_bytes(path) == content
    assert sha256_of(path) == hashlib.sha256(content).hexdigest()
    with opened(path) as file:
        assert file.name == str(path)
        assert file.read(4) == content[:4]
        assert file.seek(-10, io.SEEK_END) == 299_990
        assert file.read() == content[-10:]


def test_a_table_is_read_from_either(home):
    table = pd.DataFrame({"a": [1, 2], "b": ["x", None]})
    with written_atomically(home / "a.parquet") as file:
        table.to_parquet(file)
    pd.testing.assert_frame_equal(pd.read_parquet(content_of(home / "a.parquet")), table)


@pytest.mark.parametrize("num_bytes", [0, 1, TAIL_BYTES, TAIL_BYTES + 1, 2 * PART_BYTES + 1])
def test_files_of_any_size_are_whole(home, num_bytes):
    content = os.urandom(num_bytes)
    write_bytes(home / "a", content)
    assert read_bytes(home / "a") == content
    assert status_of(home / "a").num_bytes == num_bytes
    with opened(home / "a") as file:
        assert file.read() == content


def test_the_version_is_of_the_content_and_the_same_alone_and_in_a_list(home):
    write_bytes(home / "folder/a", b"one")
    first = status_of(home / "folder/a")
    assert listing(home / "folder") == {"a": first}
    write_bytes(home / "folder/a", b"two")
    second = status_of(home / "folder/a")
    assert second.version != first.version
    assert listing(home) == {"folder/a": second}
    assert second.modified_seconds >= int(first.modified_seconds)
    assert second.version.replace("-", "").isalnum()


def test_a_listing_is_never_an_old_one_and_leaves_hidden_files_out(home):
    assert listing(home / "none") == {}
    for name in ("b/c", "a", "b/.lock", ".hidden"):
        write_bytes(home / "folder" / name, name.encode())
    write_bytes(home / "folder2/d", b"")
    assert {name: status.num_bytes for name, status in listing(home / "folder").items()} == {"a": 1, "b/c": 3}
    remove(home / "folder/a")
    assert list(listing(home / "folder")) == ["b/c"]


def test_what_is_not_there_is_said_to_be_absent(home):
    path = home / "none/a"
    assert not exists(path)
    remove(path)
    for read in (read_bytes, status_of, opened, sha256_of):
        with pytest.raises(FileNotFoundError, match="none/a"):
            read(path)
    write_bytes(path, b"a")
    assert exists(path)


def test_a_failed_writer_leaves_the_older_file_and_nothing_else(home, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with pytest.raises(ValueError, match="no more"):
        fail_while_writing(home / "a")
    assert listing(home) == {}
    write_bytes(home / "a", b"old")
    with pytest.raises(ValueError, match="no more"):
        fail_while_writing(home / "a")
    assert read_bytes(home / "a") == b"old"
    assert list(listing(home)) == ["a"]


def test_a_killed_writer_leaves_the_older_file(s3_home):
    path = remote_path(s3_home) / "a"
    write_bytes(path, b"old")
    command = [sys.executable, "-c", KILLED_WRITER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"half\n"
        process.kill()
    assert read_bytes(path) == b"old"
    assert list(listing(path.parent)) == ["a"]
    assert sweep_temporary_files(path.parent) == []


def test_a_new_folder_is_made_once_and_given_back_when_empty(home):
    folder = home / "model/0.0.1"
    assert subfolders(home / "model") == []
    make_new_folder(folder)
    assert subfolders(home / "model") == ["0.0.1"]
    with pytest.raises(FileExistsError):
        make_new_folder(folder)
    remove_empty_folder(folder)
    assert subfolders(home / "model") == []
    make_new_folder(folder)
    write_bytes(folder / "last.pt", b"1")
    remove_empty_folder(folder)
    assert read_bytes(folder / "last.pt") == b"1"
    with pytest.raises(FileExistsError):
        make_new_folder(folder)


def test_a_folder_with_files_of_others_is_not_new(home):
    write_bytes(home / "model/0.0.1/best.pt", b"1")
    write_bytes(home / "model/notes.txt", b"1")
    with pytest.raises(FileExistsError):
        make_new_folder(home / "model/0.0.1")
    assert subfolders(home / "model") == ["0.0.1"]


def _makes_it(folder: AnyPath) -> bool:
    try:
        make_new_folder(folder)
    except FileExistsError:
        return False
    return True


def test_of_several_who_make_a_folder_at_once_one_does_also_after_a_fork(home):
    exists(home / "anything")  # opens the connection that children must not use
    made = in_four_processes(_makes_it, [(home / "model" / str(n // 6),) for n in range(18)])
    assert sum(made) == 3


def test_an_object_that_is_replaced_while_it_is_read_is_refused(s3_home):
    path = remote_path(s3_home) / "a"
    write_bytes(path, b"1" * 3 * TAIL_BYTES)
    with opened(path) as file:
        assert file.read(1) == b"1"
        write_bytes(path, b"2" * 3 * TAIL_BYTES)
        file.seek(TAIL_BYTES * 3 // 2)
        with pytest.raises(OSError, match="no longer exists"):
            file.read(2 * TAIL_BYTES)


@pytest.mark.parametrize(
    "address", ["s3://", "gs://bucket/a", "s3:/bucket", "http://host/bucket", "s3://bucket/../other", "s3://b?versions"]
)
def test_other_addresses_are_refused(address):
    with pytest.raises(ValueError, match="must be s3://BUCKET/PREFIX, got"):
        remote_path(address)


def test_a_path_says_whether_it_is_remote(tmp_path):
    assert is_remote(remote_path("s3://bucket"))
    assert not is_remote(tmp_path)


ACTIONS = [exists, read_bytes, opened, listing, remove, make_new_folder, lambda path: write_bytes(path, b"1")]


@pytest.mark.parametrize("action", ACTIONS)
def test_a_refusal_is_said_and_never_taken_for_absence(s3_home, monkeypatch, action):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
    forget_connections()
    with pytest.raises(RemoteStoreError, match=f"S3 must do .*{s3_home}/a.*Check bucket, AWS_ENDPOINT_URL") as refusal:
        action(remote_path(s3_home) / "a")
    assert "not-the-secret" not in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "FSSPEC_S3_ENDPOINT_URL"])
def test_the_server_is_the_one_that_the_environment_names(s3_home, name):
    code = (
        "from luna_pipeline.core.storage.files import exists\n"
        "from luna_pipeline.core.storage.s3 import remote_path\n"
        f"exists(remote_path({s3_home!r}) / 'a')"
    )
    address = f"http://127.0.0.1:{free_port()}"
    environment = {key: value for key, value in os.environ.items() if key != "AWS_ENDPOINT_URL"}
    environment |= {name: address, "AWS_MAX_ATTEMPTS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert f'Could not connect to the endpoint URL: "{address}/' in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("action", [read_bytes, listing])
def test_a_missing_bucket_is_an_error_of_the_set_up(s3_home, action):
    with pytest.raises(RemoteStoreError, match="bucket does not exist"):
        action(remote_path("s3://nobody-made-this-bucket/home/a"))


def test_without_s3fs_the_package_to_install_is_named():
    code = (
        "import sys; sys.modules['s3fs'] = None\n"
        "from luna_pipeline.core.storage.files import exists\n"
        "from luna_pipeline.core.storage.s3 import remote_path\n"
        "exists(remote_path('s3://bucket/a'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install luna-pipeline[s3]" in done.stderr.splitlines()[-1]


def test_local_files_need_nothing_of_s3(tmp_path):
    code = (
        "import sys; from pathlib import Path; from luna_pipeline.core.storage.files import *;"
        "write_bytes(Path(sys.argv[1]), b'1'); exists(Path(sys.argv[1]));"
        "print(sorted({'upath', 'fsspec', 's3fs', 'botocore'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"
