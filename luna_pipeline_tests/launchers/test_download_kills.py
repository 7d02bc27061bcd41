"""The command as a process: killed at random moments, stopped, and twice at once."""

import contextlib
import itertools
import os
import random
import signal
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from luna_pipeline_tests.archive_server import ArchiveServer, checksums, serving, zipped
from luna_pipeline_tests.processes import started, wait_for

SUBSETS, CONNECTIONS, CHUNK_KIB, NUM_KILLS = (0, 1, 2), 3, 256, 20
STATE = ".luna16_download"


@pytest.fixture
def server(phantom_source: Path) -> Iterator[ArchiveServer]:
    # Stored, not packed: more bytes to be killed in.
    archives = {f"subset{k}.zip": zipped(phantom_source, k, method=zipfile.ZIP_STORED) for k in SUBSETS}
    with serving(archives) as server:
        yield server


def command(server: ArchiveServer, folder: Path) -> list[str]:
    options = ["--subsets", "0,1,2", "--to", str(folder / "data"), "--from", server.base, "--no-tables"]
    sizes = ["--chunk-kib", str(CHUNK_KIB), "--connections", str(CONNECTIONS)]
    checked = ["--checksums", str(checksums(server.files, folder / "checksums.txt"))]
    return [sys.executable, "-m", "luna_pipeline.cli", "download_luna16", *options, *sizes, *checked]


def running(server: ArchiveServer, folder: Path):
    environment = {"NO_PROXY": "*", "LUNA_HOME": str(folder / "home"), "HOME": str(folder)}
    return started(command(server, folder), environment=environment, log=folder / "log.txt")


def run_to_end(server: ArchiveServer, folder: Path) -> int:
    with running(server, folder) as process:
        wait_for(lambda: process.poll() is not None, limit_seconds=60, what="The end of the download")
        return process.returncode


def num_members(folder: Path) -> int:
    """Lines of all journals of members."""
    return sum(path.read_bytes().count(b"\n") for path in (folder / "data" / STATE).glob("*.members"))


def assert_nothing_wrong(folder: Path, phantom: Path, *, is_complete: bool) -> None:
    """Every file with a final name is right, and no header is there without its voxels."""
    there = {path.relative_to(folder / "data") for path in folder.glob("data/subset*/[!.]*")}
    for path in there:
        assert (folder / "data" / path).read_bytes() == (phantom / path).read_bytes()
        assert path.suffix == ".raw" or path.with_suffix(".raw") in there
    if is_complete:
        made = {path.relative_to(phantom) for k in SUBSETS for path in (phantom / f"subset{k}").iterdir()}
        assert there == made


def kill_at(server: ArchiveServer, folder: Path, rng: random.Random, kills_left: int, size: int) -> None:
    """Kill the process when the server has sent a random number of further bytes, or after a member more."""
    before, members = server.sent.total(), num_members(folder)
    wanted = before + rng.randint(1, max(2, 2 * (size - before) // (kills_left + 1)))
    with running(server, folder) as process:

        def on_sent(name: str) -> None:
            if server.sent.total() >= wanted:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)

        def is_over() -> bool:
            if kills_left % 3 == 0 and num_members(folder) > members + rng.randint(0, 2):
                process.kill()
            return process.poll() is not None

        server.on_sent = on_sent
        wait_for(is_over, limit_seconds=60, what="The kill", every_seconds=0.002)
    server.on_sent = lambda name: None


@pytest.mark.slow
def test_kills_at_twenty_moments_lose_less_than_a_chunk_each_and_nothing_wrong_is_left(
    server, phantom_source, tmp_path
):
    rng, size = random.Random(20), sum(map(len, server.files.values()))
    for kills_left in range(NUM_KILLS, 0, -1):
        kill_at(server, tmp_path, rng, kills_left, size)
        assert_nothing_wrong(tmp_path, phantom_source, is_complete=False)
    assert run_to_end(server, tmp_path) == 0, (tmp_path / "log.txt").read_text()
    assert_nothing_wrong(tmp_path, phantom_source, is_complete=True)
    assert not list((tmp_path / "data").rglob("*.part"))
    twice = server.sent.total() - size
    print(f"{twice} bytes came twice in {NUM_KILLS} kills: {twice / NUM_KILLS / (CHUNK_KIB << 10):.2f} chunks a kill")
    # Less than a chunk a kill, with what was sent and not yet read, over all connections together.
    assert 0 < twice < NUM_KILLS * (CHUNK_KIB << 10)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_download_says_so_and_the_next_one_continues(number, server, phantom_source, tmp_path):
    size = sum(map(len, server.files.values()))
    times = itertools.count()
    with running(server, tmp_path) as process:

        def on_sent(name: str) -> None:
            # After the ends of the archives; once, although several connections are served at a time.
            if server.sent.total() > 1_200_000 and next(times) == 0:
                process.send_signal(number)

        server.on_sent = on_sent
        wait_for(lambda: process.poll() is not None, limit_seconds=60, what="The end of the download")
    assert process.returncode == 1
    log = (tmp_path / "log.txt").read_text()
    assert log.endswith("Interrupted; what was finished is kept.\n")
    assert "Traceback" not in log
    assert_nothing_wrong(tmp_path, phantom_source, is_complete=False)
    assert run_to_end(server, tmp_path) == 0
    assert_nothing_wrong(tmp_path, phantom_source, is_complete=True)
    assert server.sent.total() - size < CONNECTIONS * (CHUNK_KIB << 10)


def test_two_processes_at_once_download_each_byte_once(server, phantom_source, tmp_path):
    with running(server, tmp_path) as first, running(server, tmp_path) as second:
        wait_for(lambda: None not in (first.poll(), second.poll()), limit_seconds=60, what="The end of both")
    # The one that found the other's locks says so and fails; it succeeds if the other had ended before.
    assert 0 in {first.returncode, second.returncode} or "another one that does" in (tmp_path / "log.txt").read_text()
    run_to_end(server, tmp_path)
    assert_nothing_wrong(tmp_path, phantom_source, is_complete=True)
    assert server.sent.total() == sum(map(len, server.files.values()))
