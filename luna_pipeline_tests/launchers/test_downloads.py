"""Download of LUNA16 from a local server with every fault: nothing wrong is accepted, each is told in one line."""

import errno
import io
import itertools
import os
import random
import shutil
import struct
import subprocess
import threading
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from luna_pipeline.core.storage.http_ranges import RetryPolicy
from luna_pipeline.core.storage.limited_disks import locked
from luna_pipeline.launchers.download_request import DownloadRequest, DownloadSummary, NotEnoughDiskError
from luna_pipeline.launchers.downloads import download_luna16
from luna_pipeline_tests import archive_server
from luna_pipeline_tests.archive_server import ArchiveServer, editions, serving, zipped

CHUNK = 32 << 10
FAST = RetryPolicy(base_seconds=0.001, max_seconds=0.002)
STATE = ".luna16_download"


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture(scope="module")
def archives(phantom_source: Path) -> dict[str, bytes]:
    return {f"subset{k}.zip": zipped(phantom_source, k) for k in range(2)}


@pytest.fixture(scope="module")
def tables(phantom_source: Path) -> dict[str, bytes]:
    """The tables as Zenodo's record has them: two of them within zip files."""
    excluded, scans = b"seriesuid,coordX,coordY,coordZ,diameter_mm\n", b"1.2\n"
    evaluation = packed({"evaluationScript/annotations/annotations_excluded.csv": excluded, "x/seriesuids.csv": scans})
    candidates = (phantom_source / "candidates_V2.csv").read_bytes()
    return {
        "annotations.csv": (phantom_source / "annotations.csv").read_bytes(),
        "candidates_V2.zip": packed({"candidates_V2.csv": candidates}),
        "evaluationScript.zip": evaluation,
    }


def packed(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture
def server(archives) -> Iterator[ArchiveServer]:
    with serving(dict(archives)) as server:
        yield server


class Lines(list):
    """A listener that keeps the lines, and the progress."""

    def __init__(self) -> None:
        super().__init__()
        self.progress = []

    def report(self, line: str) -> None:
        assert "\n" not in line
        self.append(line)

    def on_progress(self, progress) -> None:
        self.progress.append(progress)


Download = Callable[..., tuple[DownloadSummary, Lines]]


@pytest.fixture
def download(server, archives, tmp_path: Path) -> Download:
    """Call the download of subset 0 into a new folder; other fields of the request can be given."""

    def call(**changes):
        request = DownloadRequest(
            folder=tmp_path / "data",
            subsets=(0,),
            base=server.base,
            editions=editions(archives),
            has_tables=False,
            chunk_bytes=CHUNK,
            num_connections=3,
            policy=FAST,
        )
        lines = Lines()
        return download_luna16(replace(request, **changes), lines), lines

    return call


def assert_unpacked(folder: Path, phantom: Path, subset: int = 0) -> None:
    """The subset is the phantom's, and nothing temporary is left."""
    found, made = folder / f"subset{subset}", phantom / f"subset{subset}"
    assert sorted(os.listdir(found)) == sorted(os.listdir(made))
    for path in made.iterdir():
        assert (found / path.name).read_bytes() == path.read_bytes()


def nothing_unpacked(folder: Path) -> bool:
    return not [path for path in folder.rglob("*") if path.suffix in {".mhd", ".raw"}]


def test_subsets_and_tables_arrive_and_a_second_call_asks_for_nothing(
    download, server, archives, tables, phantom_source, tmp_path
):
    server.files.update(tables)
    summary, lines = download(subsets=(0, 1), has_tables=True)
    assert summary.failures == []
    for subset in (0, 1):
        assert_unpacked(tmp_path / "data", phantom_source, subset)
    for name in ("annotations.csv", "candidates_V2.csv"):
        assert (tmp_path / "data" / name).read_bytes() == (phantom_source / name).read_bytes()
    assert (tmp_path / "data/seriesuids.csv").read_bytes() == b"1.2\n"
    result = summary.archives["subset0.zip"]
    assert (result.num_members, result.num_written, result.num_bytes) == (4, 4, len(archives["subset0.zip"]))
    assert result.num_downloaded == result.num_bytes == server.sent["subset0.zip"]
    assert not list((tmp_path / "data").rglob("*.zip"))
    # Each byte was asked for once.
    ranges = sorted((start, stop) for name, start, stop in server.requests if name == "subset1.zip")
    assert ranges[0][0] == 0
    assert ranges[-1][1] == len(archives["subset1.zip"])
    assert all(one[1] == two[0] for one, two in itertools.pairwise(ranges))
    server.requests.clear()
    again, lines = download(subsets=(0, 1), has_tables=True)
    assert (again.failures, server.requests) == ([], [])
    assert lines == ["subset0.zip: all 4 members are there.", "subset1.zip: all 4 members are there."]
    assert again.archives["subset0.zip"].num_members == 4


def test_what_it_wrote_is_catalogued(download, phantom_source, tmp_path):
    from luna_pipeline.core.ct.catalogue import catalogue_series

    download()
    catalogue = catalogue_series(tmp_path / "data", patient_key=b"k" * 32)
    assert catalogue["is_readable"].tolist() == [True, True]
    assert catalogue["subset"].tolist() == [0, 0]


def test_a_removed_or_changed_member_is_noticed_and_comes_again(download, server, phantom_source, tmp_path):
    download()
    raw = next((tmp_path / "data/subset0").glob("*.raw"))
    raw.write_bytes(b"\1" + raw.read_bytes()[1:])
    header = next((tmp_path / "data/subset0").glob("*.mhd"))
    header.unlink()
    summary, _ = download()
    assert_unpacked(tmp_path / "data", phantom_source)
    assert summary.archives["subset0.zip"].num_written == 2
    # A file that was only touched is compared by its CRC-32, and kept.
    os.utime(raw)
    server.requests.clear()
    assert download()[1] == ["subset0.zip: all 4 members are there."]


def test_a_broken_connection_is_resumed_where_it_broke(download, server, archives, phantom_source, tmp_path):
    server.fault = lambda name, start, stop, number: (
        archive_server.breaks_after((stop - start) // 2) if number % 2 else None
    )
    summary, lines = download()
    assert summary.failures == []
    assert_unpacked(tmp_path / "data", phantom_source)
    assert server.sent["subset0.zip"] == len(archives["subset0.zip"])
    assert lines
    assert all("attempt 2 in" in line for line in lines[:-1])


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (archive_server.shifted, "an answer for another range (bytes"),
        (archive_server.unnamed, "an answer for another range (no Content-Range)"),
        (archive_server.truncated, "bytes in place of"),
        (archive_server.breaks_after(0), "peer closed connection"),
        (archive_server.refuses(500), "status 500"),
        (archive_server.refuses(204), "status 204 in place of 206"),
    ],
)
def test_a_lie_about_ranges_is_refused_and_asked_again(answer, told, download, server, phantom_source, tmp_path):
    server.fault = lambda name, start, stop, number: answer if number in (1, 3) else None
    summary, lines = download()
    assert summary.failures == []
    assert_unpacked(tmp_path / "data", phantom_source)
    assert [told in line for line in lines[:-1]] == [True, True]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (archive_server.shifted, "must arrive within 6 attempts, got an answer for another range"),
        (archive_server.refuses(404), "got status 404"),
        (archive_server.refuses(403), "got status 403"),
        (archive_server.packed, "got packed bytes"),
        (archive_server.other_size, "another edition"),
        (archive_server.refuses(503, Retry_After="7200"), "the wait must be at most 900 s, got 7200 s"),
    ],
)
def test_a_lasting_fault_is_one_line_and_the_next_call_continues(
    answer, told, download, server, archives, phantom_source, tmp_path
):
    # The end and two more chunks arrive first.
    server.fault = lambda name, start, stop, number: answer if number > 4 else None
    summary, lines = download(num_connections=1)
    assert len(summary.failures) == 1
    assert told in summary.failures[0]
    assert sum(told in line for line in lines) == 1
    assert nothing_unpacked(tmp_path / "data")
    server.fault = lambda name, start, stop, number: None
    arrived = 4 * CHUNK - (-len(archives["subset0.zip"]) % CHUNK)
    # Bytes asked for, not sent: an answer that was refused may still be on its way.
    server.requests.clear()
    summary, lines = download()
    assert summary.failures == []
    assert_unpacked(tmp_path / "data", phantom_source)
    assert sum(stop - start for _, start, stop in server.requests) == len(archives["subset0.zip"]) - arrived


def test_a_server_that_ignores_ranges_is_read_in_one_stream(download, server, archives, phantom_source, tmp_path):
    server.fault = lambda name, start, stop, number: archive_server.whole
    summary, lines = download(num_connections=1)
    assert summary.failures == []
    assert_unpacked(tmp_path / "data", phantom_source)
    assert lines[0] == "subset0.zip: the server ignores ranges; the file is read from its start, in one stream"


def test_one_stream_that_breaks_is_read_again_and_keeps_what_arrived(download, server, phantom_source, tmp_path):
    broken = archive_server.breaks_after(5 * CHUNK // 2, archive_server.whole)
    server.fault = lambda name, start, stop, number: broken if number == 3 else archive_server.whole
    summary, lines = download(num_connections=1)
    assert summary.failures == []
    assert_unpacked(tmp_path / "data", phantom_source)
    # The bytes that were there are not taken twice.
    assert summary.archives["subset0.zip"].num_downloaded == summary.archives["subset0.zip"].num_bytes
    assert "the whole file" in lines[1]


def test_a_server_that_is_busy_is_asked_again_when_it_says(download, server, phantom_source, tmp_path):
    server.fault = lambda name, start, stop, number: (
        archive_server.refuses(503, Retry_After="1") if number == 1 else None
    )
    waits = []

    class Policy(RetryPolicy):
        def seconds(self, failures, error, rng):
            waits.append((error.retry_after_seconds, super().seconds(failures, error, rng)))
            return 0.0

    summary, lines = download(policy=Policy())
    assert summary.failures == []
    assert_unpacked(tmp_path / "data", phantom_source)
    assert [asked for asked, _ in waits] == [1.0]
    assert 1.0 <= waits[0][1] <= 1.1
    assert "status 503; attempt 2" in lines[0]


def test_wrong_bytes_of_the_right_size_are_found_by_member_and_only_they_come_again(
    download, server, archives, phantom_source, tmp_path
):
    size = len(archives["subset0.zip"])
    wrong = CHUNK * 2

    def fault(name, start, stop, number):
        return archive_server.wrong_bytes if start == wrong and number < size // CHUNK + 2 else None

    server.fault = fault
    summary, lines = download()
    assert summary.failures == []
    assert_unpacked(tmp_path / "data", phantom_source)
    told = [line for line in lines if "MD5 must be" in line]
    assert len(told) == 1
    assert "the server sent wrong bytes in subset0/" in told[0]
    assert ".raw" in told[0]
    # The chunks of one member and of the archive's end, not the archive.
    assert CHUNK <= server.sent["subset0.zip"] - size < size * 0.6 + 3 * CHUNK


@pytest.mark.parametrize("where", ["directory", "header", "everywhere"])
def test_a_server_that_always_sends_wrong_bytes_is_given_up_with_one_line(where, download, server, archives, tmp_path):
    content = bytearray(archives["subset0.zip"])
    places = {"directory": [len(content) - 22], "header": [10], "everywhere": range(0, len(content), 1000)}
    for place in places[where]:
        content[place] ^= 0xFF
    server.files["subset0.zip"] = bytes(content)
    summary, _ = download()
    assert len(summary.failures) == 1
    assert "The server's file is not the published one" in summary.failures[0]
    assert nothing_unpacked(tmp_path / "data")


def test_bytes_that_changed_on_the_disk_are_found_and_only_their_chunk_comes_again(
    download, server, archives, phantom_source, tmp_path
):
    server.fault = lambda name, start, stop, number: archive_server.refuses(404) if number > 4 else None
    download(num_connections=1)
    part = tmp_path / "data" / STATE / "subset0.zip.part"
    with part.open("r+b") as file:
        # The first chunk that came after the archive's end.
        file.seek(100)
        file.write(b"\0\0\0")
    server.fault = lambda name, start, stop, number: None
    summary, lines = download()
    assert summary.failures == []
    assert_unpacked(tmp_path / "data", phantom_source)
    assert any("1 chunks changed on the disk since they arrived; 32768 bytes are discarded" in line for line in lines)


def broken_members(content: bytes, names: list[str]) -> bytes:
    """Return an archive in which the packed bytes of some members are damaged; its directory is right."""
    changed = bytearray(content)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for name in names:
            member = archive.getinfo(name)
            changed[member.header_offset + 30 + len(name) + member.compress_size // 2] ^= 0xFF
    return bytes(changed)


def test_a_good_md5_over_two_broken_members_names_them_and_keeps_the_others(
    download, server, archives, phantom_source, tmp_path
):
    raws = sorted(path.name for path in (phantom_source / "subset0").glob("*.raw"))
    names = [f"subset0/{raws[0]}", f"subset0/{raws[1].replace('.raw', '.mhd')}"]
    older = {"subset0.zip": broken_members(archives["subset0.zip"], names)}
    server.files.update(older)
    summary, _ = download(editions=editions(older))
    assert len(summary.failures) == 1
    line = summary.failures[0]
    assert "got 2 that do not although the archive's MD5 is right" in line
    assert all(name in line for name in names)
    assert "take record 3723295" in line
    there = sorted(path.name for path in (tmp_path / "data/subset0").iterdir())
    # Of the series with broken voxels nothing, of the other one the voxels: neither is readable.
    assert there == [raws[1]]
    # The next call with the right edition writes the others only; the archive itself is another one.
    server.files.update(archives)
    summary, _ = download()
    assert summary.failures == []
    assert summary.archives["subset0.zip"].num_written == 3
    assert_unpacked(tmp_path / "data", phantom_source)


def with_method(content: bytes, method: int) -> bytes:
    """Return an archive whose members all claim another method."""
    changed = bytearray(content)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        place = archive.start_dir
        for member in archive.infolist():
            struct.pack_into("<H", changed, member.header_offset + 8, method)
            struct.pack_into("<H", changed, place + 10, method)
            place += 46 + sum(struct.unpack_from("<3H", changed, place + 28))
    return bytes(changed)


def test_deflate64_is_named_before_the_archive_is_downloaded(download, server, archives, tmp_path):
    odd = {"subset0.zip": with_method(archives["subset0.zip"], 9)}
    server.files.update(odd)
    summary, _ = download(editions=editions(odd))
    assert len(summary.failures) == 1
    assert "got zip method 9 (Deflate64)" in summary.failures[0]
    assert "7z x subset0.zip" in summary.failures[0]
    assert server.sent["subset0.zip"] < len(odd["subset0.zip"]) / 2
    # With --keep-archives it comes whole, for 7-Zip; what 7-Zip unpacked is recognised.
    summary, _ = download(editions=editions(odd), keeps_archives=True)
    assert "Deflate64" in summary.failures[0]
    assert (tmp_path / "data/subset0.zip").read_bytes() == odd["subset0.zip"]
    assert nothing_unpacked(tmp_path / "data")


def test_what_another_program_unpacked_is_recognised_by_size_and_crc(
    download, server, archives, phantom_source, tmp_path
):
    odd = {"subset0.zip": with_method(archives["subset0.zip"], 9)}
    server.files.update(odd)
    shutil.copytree(phantom_source / "subset0", tmp_path / "data/subset0")
    summary, _ = download(editions=editions(odd))
    assert summary.failures == []
    assert (summary.archives["subset0.zip"].num_written, summary.archives["subset0.zip"].num_members) == (0, 4)


def test_an_archive_that_lies_in_the_folder_is_used_and_left_there(
    download, server, archives, phantom_source, tmp_path
):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/subset0.zip").write_bytes(archives["subset0.zip"])
    summary, _ = download()
    assert summary.failures == []
    assert server.requests == []
    assert_unpacked(tmp_path / "data", phantom_source)
    assert (tmp_path / "data/subset0.zip").exists()


def test_another_file_of_the_archives_name_is_left_alone(download, phantom_source, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/subset0.zip").write_bytes(b"mine")
    _, lines = download()
    assert "got 4 bytes: it is left alone" in lines[0]
    assert (tmp_path / "data/subset0.zip").read_bytes() == b"mine"
    assert_unpacked(tmp_path / "data", phantom_source)


def left_in(folder: Path) -> list[str]:
    """Return the names of the archives and parts in the folder of the state."""
    return sorted(path.name for path in (folder / STATE).iterdir() if path.suffix not in {".lock", ".members"})


@pytest.mark.parametrize("keeps_archives", [False, True])
def test_a_verified_archive_that_a_kill_left_is_removed_or_kept(keeps_archives, download, server, archives, tmp_path):
    """As after a kill between the journal's last line and the removal."""
    download()
    md5 = editions(archives)["subset0.zip"].md5
    (tmp_path / "data" / STATE / f"subset0.zip.verified-{md5}").write_bytes(archives["subset0.zip"])
    server.requests.clear()
    summary, _ = download(keeps_archives=keeps_archives)
    assert (summary.failures, server.requests, left_in(tmp_path / "data")) == ([], [], [])
    assert (tmp_path / "data/subset0.zip").exists() == keeps_archives


def test_parts_are_removed_once_the_archive_lies_in_the_folder(download, server, archives, tmp_path):
    server.fault = lambda name, start, stop, number: archive_server.refuses(404) if number > 4 else None
    download(num_connections=1)
    assert left_in(tmp_path / "data") == ["subset0.zip.part", "subset0.zip.part.journal"]
    (tmp_path / "data/subset0.zip").write_bytes(archives["subset0.zip"])
    assert download()[0].failures == []
    assert left_in(tmp_path / "data") == []


def test_a_kept_archive_is_the_published_one(download, archives, tmp_path):
    download(keeps_archives=True)
    assert (tmp_path / "data/subset0.zip").read_bytes() == archives["subset0.zip"]


def test_a_kept_archive_never_replaces_a_file(download, server, archives, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/subset0.zip").write_bytes(b"mine")
    summary, _ = download(keeps_archives=True)
    assert "A kept archive must not replace a file" in summary.failures[0]
    assert (tmp_path / "data/subset0.zip").read_bytes() == b"mine"
    (tmp_path / "data/subset0.zip").unlink()
    server.requests.clear()
    assert download(keeps_archives=True)[0].failures == []
    assert server.requests == []
    assert (tmp_path / "data/subset0.zip").read_bytes() == archives["subset0.zip"]


def test_two_downloads_into_one_folder_do_not_meet(download, server, phantom_source, tmp_path):
    with locked(tmp_path / "data" / STATE / "subset0.zip.lock", waits=False):
        summary, _ = download()
    assert len(summary.failures) == 1
    assert "got another one that does" in summary.failures[0]
    assert server.requests == []
    assert download()[0].failures == []


def test_one_subset_that_fails_does_not_stop_the_other(download, server, archives, phantom_source, tmp_path):
    server.fault = lambda name, start, stop, number: archive_server.refuses(404) if name == "subset0.zip" else None
    summary, _ = download(subsets=(0, 1))
    assert len(summary.failures) == 1
    assert_unpacked(tmp_path / "data", phantom_source, 1)


def test_a_subset_is_usable_while_the_next_one_arrives(download, server, archives, phantom_source, tmp_path):
    unpacked, seen = threading.Event(), []

    class Watching(Lines):
        def report(self, line: str) -> None:
            super().report(line)
            if line.startswith("subset0.zip") and "usable" in line:
                unpacked.set()

    def on_sent(name: str) -> None:
        # The last chunk of subset 1 waits until subset 0 is there.
        if name == "subset1.zip" and server.sent[name] > len(archives[name]) - CHUNK and not seen:
            seen.append(unpacked.wait(30))
            assert_unpacked(tmp_path / "data", phantom_source, 0)

    server.on_sent = on_sent
    request = DownloadRequest(
        folder=tmp_path / "data",
        subsets=(0, 1),
        base=server.base,
        editions=editions(archives),
        has_tables=False,
        chunk_bytes=CHUNK,
        num_connections=1,
    )
    assert download_luna16(request, Watching()).failures == []
    assert seen == [True]


def test_too_small_a_disk_is_told_before_the_archive_comes(download, server, archives, monkeypatch, tmp_path):
    from luna_pipeline.launchers import archive_downloads

    monkeypatch.setattr(archive_downloads.shutil, "disk_usage", lambda folder: Free(100))
    with pytest.raises(NotEnoughDiskError, match=r"must fit on the disk, got 0\.\d+ GB needed and 0\.000 GB free"):
        download()
    assert server.sent["subset0.zip"] < len(archives["subset0.zip"]) / 2
    with zipfile.ZipFile(io.BytesIO(archives["subset0.zip"])) as archive:
        members = sum(it.file_size for it in archive.infolist())
    # What is left of the archive, and its members: not a byte more.
    left = len(archives["subset0.zip"]) - server.sent["subset0.zip"]
    monkeypatch.setattr(archive_downloads.shutil, "disk_usage", lambda folder: Free(left + members))
    assert download()[0].failures == []


def test_a_server_that_ignores_ranges_sends_no_archive_before_the_disk_is_compared(
    download, server, archives, monkeypatch
):
    from luna_pipeline.launchers import archive_downloads

    server.fault = lambda name, start, stop, number: archive_server.whole
    monkeypatch.setattr(archive_downloads.shutil, "disk_usage", lambda folder: Free(100))
    with pytest.raises(NotEnoughDiskError):
        download(subsets=(0, 1))
    # What the connections hold back, of as many requests as there are connections and archives.
    assert server.sent.total() < sum(map(len, archives.values()))
    assert len(server.requests) <= 6


def test_two_archives_at_a_time_are_counted(download, server, archives, monkeypatch):
    from luna_pipeline.launchers import archive_downloads

    # Only the archives' ends arrive in the first call.
    monkeypatch.setattr(archive_downloads.shutil, "disk_usage", lambda folder: Free(0))
    with pytest.raises(NotEnoughDiskError):
        download(subsets=(0, 1))
    members = 0
    for content in archives.values():
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members += sum(it.file_size for it in archive.infolist())
    left = sum(map(len, archives.values())) - server.sent.total()
    monkeypatch.setattr(archive_downloads.shutil, "disk_usage", lambda folder: Free(members + left - 1))
    with pytest.raises(NotEnoughDiskError):
        download(subsets=(0, 1))
    monkeypatch.setattr(archive_downloads.shutil, "disk_usage", lambda folder: Free(members + left))
    assert download(subsets=(0, 1))[0].failures == []


def test_bytes_before_a_fault_are_kept_for_the_next_call(download, server, archives):
    def fault(name, start, stop, number):
        return archive_server.breaks_after(3000) if number == 1 else archive_server.refuses(404)

    server.fault = fault
    assert len(download(num_connections=1)[0].failures) == 1
    assert server.sent.total() == 3000
    server.fault = lambda name, start, stop, number: None
    assert download()[0].failures == []
    assert server.sent.total() == len(archives["subset0.zip"])


def test_after_retry_after_all_requests_wait(server, archives, tmp_path):
    import time

    import httpx

    from luna_pipeline.core.storage.chunked_file import ChunkedFile
    from luna_pipeline.core.storage.range_download import RangeDownload

    answer = archive_server.refuses(503, Retry_After="50")
    server.fault = lambda name, start, stop, number: answer if number == 1 else None
    published, waits = editions(archives)["subset0.zip"], []
    with (
        httpx.Client() as client,
        ChunkedFile(tmp_path / "a", num_bytes=published.num_bytes, md5=published.md5, chunk_bytes=CHUNK) as file,
    ):
        one = RangeDownload(client, published.address(server.base), file, report=print, num_connections=1)
        one._pause_until = lambda until: waits.append(until - time.monotonic())
        one.fetch([0, 1])
    # Before the first request, after its failure, before it is repeated, and before the next chunk's.
    assert [wait > 40 for wait in waits] == [False, True, True, True]


class Free:
    def __init__(self, free: int) -> None:
        self.free = free


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MB, in memory; mounting needs root."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("free_bytes", [100_000, 200_000, 700_000])
def test_a_disk_that_fills_up_is_one_line_and_the_next_call_continues(
    free_bytes, small_disk, download, server, archives, phantom_source
):
    """Another program fills the disk after the check: while the archive arrives, or while it is unpacked."""
    other, times = small_disk / "other", itertools.count()

    def on_sent(name: str) -> None:
        # Once, although two connections are served at a time: the second would write a smaller file.
        if server.sent[name] > 110_000 and next(times) == 0:
            other.write_bytes(bytes(shutil.disk_usage(small_disk).free - free_bytes))

    server.on_sent = on_sent
    summary, lines = download(folder=small_disk / "data", num_connections=2)
    assert len(summary.failures) == 1
    assert "No space left on device" in summary.failures[0]
    assert sum("No space left" in line for line in lines) == 1
    headers = {path.stem for path in (small_disk / "data").glob("subset0/*.mhd")}
    assert headers <= {path.stem for path in (small_disk / "data").glob("subset0/*.raw")}
    assert not list(small_disk.rglob(".*.part"))
    other.unlink()
    server.on_sent = lambda name: None
    assert download(folder=small_disk / "data")[0].failures == []
    assert_unpacked(small_disk / "data", phantom_source)
    assert server.sent["subset0.zip"] - len(archives["subset0.zip"]) < 3 * CHUNK


def test_a_damaged_directory_is_found_and_only_the_archives_end_comes_again(
    download, server, archives, phantom_source, tmp_path
):
    size = len(archives["subset0.zip"])

    def at_first(handler, name, content, start, stop):
        archive_server.right(handler, name, content[:-22] + b"X" + content[-21:], start, stop)

    server.fault = lambda name, start, stop, number: at_first if stop == size and number < 5 else None
    summary, lines = download()
    assert summary.failures == []
    assert_unpacked(tmp_path / "data", phantom_source)
    assert any("the server sent a damaged zip directory" in line for line in lines)
    assert 0 < server.sent["subset0.zip"] - size <= 3 * CHUNK


def with_byte_of_the_directory(content: bytes, place: int, value: int) -> bytes:
    """Return an archive with one other byte in the directory's entry of its first file, which is far from it."""
    changed = bytearray(content)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        # The entry behind the folder's.
        entry = content.index(b"PK\x01\x02", archive.start_dir + 4)
    changed[entry + place] ^= value
    return bytes(changed)


@pytest.mark.parametrize(("place", "value"), [(6, 0xC0), (8, 1), (10, 1), (46, 0x5C), (16, 0xFF), (24, 1), (42, 1)])
@pytest.mark.parametrize("num_wrong", [1, 100])
def test_a_wrong_byte_in_the_directory_never_blocks_the_next_call(
    place, value, num_wrong, download, server, archives, phantom_source, tmp_path
):
    """Version, encryption, method, name, CRC-32, size and place of a member: wrong as often as stated."""
    size, wrong = len(archives["subset0.zip"]), with_byte_of_the_directory(archives["subset0.zip"], place, value)
    num_sent = itertools.count(1)

    def at_first(handler, name, content, start, stop):
        archive_server.right(handler, name, wrong if next(num_sent) <= num_wrong else content, start, stop)

    server.fault = lambda name, start, stop, number: at_first if name == "subset0.zip" and stop == size else None
    summary, _ = download()
    assert len(summary.failures) == (num_wrong == 100)
    server.fault = lambda name, start, stop, number: None
    assert download()[0].failures == []
    assert_unpacked(tmp_path / "data", phantom_source)


def test_tables_are_checked_and_never_replace_a_file(download, server, archives, tables, tmp_path):
    server.files.update(tables)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/seriesuids.csv").write_text("mine")
    # The published MD5 of annotations.csv stands above what the server's record says.
    summary, _ = download(subsets=(), has_tables=True, editions=None)
    assert len(summary.failures) == 1
    assert summary.failures[0].startswith("annotations.csv must have the MD5 f4404df491aee6445a4485061bfdffdd, got")
    assert (tmp_path / "data/seriesuids.csv").read_text() == "mine"
    assert not (tmp_path / "data/annotations.csv").exists()
    assert summary.tables == ["candidates_V2.csv", "annotations_excluded.csv"]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (archive_server.wrong_bytes, "MD5 must be"),
        (archive_server.refuses(404), "got status 404"),
        (archive_server.refuses(503), "annotations.csv must arrive within 6 attempts, got status 503 at the last one"),
    ],
)
def test_a_table_with_a_lasting_fault_is_not_written_and_the_others_are(
    answer, told, download, server, tables, tmp_path
):
    server.files.update(tables)

    def whole_answer(handler, name, content, start, stop):
        if answer is archive_server.wrong_bytes:
            archive_server.whole(handler, name, b"X" + content[1:], start, stop)
        else:
            answer(handler, name, content, start, stop)

    server.fault = lambda name, start, stop, number: whole_answer if name == "annotations.csv" else None
    summary, _ = download(subsets=(), has_tables=True)
    assert len(summary.failures) == 1
    assert summary.failures[0].startswith("annotations.csv")
    assert told in summary.failures[0]
    assert len(summary.tables) == 3
    assert not (tmp_path / "data/annotations.csv").exists()
    # The next call brings the one that is missing.
    server.fault = lambda name, start, stop, number: None
    assert download(subsets=(), has_tables=True)[0].tables == ["annotations.csv"]


def test_a_table_that_cannot_be_written_does_not_stop_the_archives(
    download, server, tables, phantom_source, monkeypatch, tmp_path
):
    from luna_pipeline.launchers import download_tables

    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(download_tables, "write_bytes", full)
    server.files.update(tables)
    summary, _ = download(has_tables=True)
    assert len(summary.failures) == 1
    assert summary.failures[0].startswith("annotations.csv: [Errno 28] No space left on device")
    assert len(summary.tables) == 3
    assert_unpacked(tmp_path / "data", phantom_source)


def test_a_folder_that_cannot_be_written_is_a_line_for_each_archive(download, server, tmp_path):
    (tmp_path / "data").write_bytes(b"a file")
    summary, _ = download(subsets=(0, 1), has_tables=True)
    assert [line.partition(":")[0] for line in summary.failures] == ["subset0.zip", "subset1.zip", "Tables"]
    assert "Files must be written, got [Errno " in summary.failures[0]
    assert server.requests == []


def test_a_table_that_is_asked_for_again_after_a_fault_is_written_once(download, server, tables):
    server.files.update(tables)
    server.fault = lambda name, start, stop, number: archive_server.refuses(502) if number == 1 else None
    summary, lines = download(subsets=(), has_tables=True)
    assert summary.failures == []
    assert "status 502; attempt 2 in" in lines[0]


def test_a_record_without_a_table_or_without_a_description_is_told(download, server, tables, tmp_path):
    server.files.update({name: it for name, it in tables.items() if name != "evaluationScript.zip"})
    summary, _ = download(subsets=(), has_tables=True)
    assert [line.partition(":")[0] for line in summary.failures] == ["annotations_excluded.csv", "seriesuids.csv"]
    summary, _ = download(subsets=(), has_tables=True, base=server.base + "/none")
    assert len(summary.failures) == 1
    assert summary.failures[0].startswith("Tables: The server must serve the file as it is, got status 404")


@pytest.mark.parametrize("names", [(), ("candidates_V2.csv", "other/candidates_V2.csv")])
def test_a_zip_file_must_hold_its_table_once(names, download, server, tables):
    server.files.update(tables)
    server.files["candidates_V2.zip"] = packed(dict.fromkeys(names, b"a,b"))
    summary, _ = download(subsets=(), has_tables=True)
    assert summary.failures == [
        f"candidates_V2.csv: candidates_V2.zip must hold one candidates_V2.csv, got {len(names)}. Download it from "
        "LUNA16's page."
    ]


def test_a_server_that_is_gone_is_one_line(download, server, tmp_path):
    from luna_pipeline_tests.processes import free_port

    summary, lines = download(base=f"http://127.0.0.1:{free_port()}/api", num_connections=1)
    assert len(summary.failures) == 1
    assert "must arrive within 6 attempts" in summary.failures[0]
    assert len(lines) == 6


def test_an_archive_of_another_archives_name_is_told_by_its_md5_before_unpacking(download, server, archives, tmp_path):
    server.files["subset0.zip"] = archives["subset1.zip"].ljust(len(archives["subset0.zip"]), b"\0")
    summary, _ = download()
    assert len(summary.failures) == 1
    assert nothing_unpacked(tmp_path / "data")


FAULTS = [
    archive_server.shifted,
    archive_server.unnamed,
    archive_server.truncated,
    archive_server.whole,
    archive_server.wrong_bytes,
    archive_server.packed,
    archive_server.other_size,
    *(archive_server.breaks_after(num_bytes) for num_bytes in (0, 1, 5000, 20_000)),
    *(archive_server.refuses(status) for status in (404, 429, 500, 503)),
]


@pytest.mark.parametrize("seed", range(6))
def test_whatever_the_server_does_nothing_wrong_is_unpacked(seed, download, server, phantom_source, tmp_path):
    rng = random.Random(seed)
    server.fault = lambda name, start, stop, number: rng.choice(FAULTS) if rng.random() < 0.4 else None
    made = {path.name: path.read_bytes() for path in (phantom_source / "subset0").iterdir()}
    for number in range(40):
        if number == 30:
            server.fault = lambda name, start, stop, number: None
        summary, lines = download()
        there = {path.name: path.read_bytes() for path in (tmp_path / "data").glob("subset0/[!.]*")}
        assert there.items() <= made.items()
        assert all(line in lines for line in summary.failures)
        if not summary.failures:
            break
    assert summary.failures == []
    assert there == made


def test_memory_does_not_grow_with_the_archive(download, server, tmp_path):
    voxels = random.Random(0).randbytes(12 << 20)
    server.files["subset0.zip"] = packed({"subset0/1.2.raw": voxels, "subset0/1.2.mhd": b"header"})
    download()
    tracemalloc.start()
    summary, _ = download(folder=tmp_path / "other", editions=editions(server.files), chunk_bytes=1 << 20)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert summary.failures == []
    assert (tmp_path / "other/subset0/1.2.raw").read_bytes() == voxels
    # Blocks of 64 KiB while it arrives, of 1 MiB while it is unpacked, and three ranges of the server in this process.
    assert peak < 8 << 20
