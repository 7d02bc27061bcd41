import os
import socket
import stat
from pathlib import Path

import pytest

from luna_pipeline.core.storage.regular_files import NotRegularFileError, is_regular, kind_of, open_regular, shown_name


@pytest.fixture(name="odd")
def make_odd(tmp_path: Path) -> dict[str, Path]:
    """A path of each kind that is no regular file."""
    odd = {kind: tmp_path / kind for kind in ("fifo", "folder", "socket", "device", "dangling", "loop")}
    os.mkfifo(odd["fifo"])
    odd["folder"].mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        # A socket's path may have 107 bytes only.
        os.chdir(tmp_path)
        server.bind("socket")
    odd["device"].symlink_to("/dev/zero")
    odd["dangling"].symlink_to(tmp_path / "gone")
    odd["loop"].symlink_to(odd["loop"])
    return odd


@pytest.fixture(autouse=True)
def _keep_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("fifo", "a FIFO"),
        ("folder", "a folder"),
        ("socket", "a socket"),
        ("device", "a character device"),
        ("dangling", "a dangling link"),
        ("loop", "a link that leads nowhere"),
    ],
)
def test_what_is_no_regular_file_is_not_opened_and_named(odd: dict[str, Path], kind: str, words: str) -> None:
    assert not is_regular(odd[kind])
    assert kind_of(odd[kind]) == words
    with pytest.raises(OSError, match=r"Only regular files|No such file|Too many levels"):
        open_regular(odd[kind])


def test_refusal_names_kind_and_file(odd: dict[str, Path]) -> None:
    with pytest.raises(NotRegularFileError, match=r"^Only regular files are opened, got a FIFO \(fifo\)\. Take it"):
        open_regular(odd["fifo"])


def test_a_regular_file_and_a_link_to_it_are_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"content")
    (tmp_path / "link").symlink_to("a")
    for path in (tmp_path / "a", tmp_path / "link"):
        assert is_regular(path)
        with open_regular(path) as file:
            assert file.read() == b"content"
            # Left blocking for everything that reads it.
            assert stat.S_ISREG(os.fstat(file.fileno()).st_mode)


def test_names_that_no_file_can_have_are_no_regular_files(tmp_path: Path) -> None:
    assert not is_regular(tmp_path / "nul\0byte")
    assert not is_regular(tmp_path / ("x" * 300))
    assert kind_of(tmp_path / "gone") == "no such file"


@pytest.mark.parametrize(
    ("name", "shown"),
    [("a.mhd", "a.mhd"), ("a\nb", "a\\nb"), (os.fsdecode(b"a\xff"), "a\\xff"), ("m\u00fc", "m\u00fc")],
)
def test_a_name_is_shown_in_one_printable_line(name: str, shown: str) -> None:
    assert shown_name(Path("folder") / name) == shown


def test_a_long_name_is_shortened_in_its_middle() -> None:
    assert shown_name(Path("a" * 100 + "b" * 100), limit=20) == "a" * 10 + "..." + "b" * 10
