"""The journal of a file that arrives in chunks."""

import hashlib
import os
import zlib
from pathlib import Path

import pytest

from luna_pipeline.core.storage.chunked_file import ChunkedFile

CONTENT = bytes(range(250)) * 4  # 1,000 bytes: chunks of 300, 300, 300, 100
MD5 = hashlib.md5(CONTENT).hexdigest()


def opened(folder: Path, *, md5: str = MD5, chunk_bytes: int = 300) -> ChunkedFile:
    return ChunkedFile(folder / "a.part", num_bytes=len(CONTENT), md5=md5, chunk_bytes=chunk_bytes)


def fill(file: ChunkedFile, chunk: int, num_bytes: int | None = None) -> None:
    start, stop = file.span(chunk)
    file.write(chunk, CONTENT[start : stop if num_bytes is None else start + num_bytes])


def test_chunks_arrive_in_any_order_and_make_the_file(tmp_path):
    with opened(tmp_path) as file:
        assert (file.num_chunks, file.missing()) == (4, [0, 1, 2, 3])
        for chunk in (3, 0, 2, 1):
            fill(file, chunk)
        assert (file.missing(), file.num_received, file.damaged()) == ([], 1000, [])
        assert file.md5_of_bytes() == MD5
        file.move_to(tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert os.listdir(tmp_path) == ["a"]


def test_only_noted_bytes_count_in_the_next_call(tmp_path):
    with opened(tmp_path) as file:
        fill(file, 1)
        file.note(1)
        fill(file, 2, 50)
        file.note(2)
        file.write(2, CONTENT[650:700])
        fill(file, 3)
    with opened(tmp_path, chunk_bytes=10) as file:
        # An earlier call's chunk size stays.
        assert file.chunk_bytes == 300
        assert [file.received(chunk) for chunk in range(4)] == [0, 300, 50, 0]
        assert file.missing() == [0, 2, 3]
        assert file.damaged() == []
        file.write(2, CONTENT[650:900])
        assert file.is_complete(2)
        assert file.damaged() == []


def test_a_line_that_a_kill_cut_off_is_ignored_and_the_next_one_is_whole(tmp_path):
    with opened(tmp_path) as file:
        fill(file, 0)
        file.note(0)
    journal = tmp_path / "a.part.journal"
    with journal.open("ab") as file:
        file.write(b"1 300 0000")
    with opened(tmp_path) as file:
        assert file.missing() == [1, 2, 3]
        fill(file, 3)
        file.note(3)
    assert journal.read_bytes().splitlines()[-1] == b"3 100 %08x" % zlib.crc32(CONTENT[900:])
    with opened(tmp_path) as file:
        assert file.missing() == [1, 2]


@pytest.mark.parametrize(
    "line", [b"9 1 00000000", b"1 301 00000000", b"1 300 0000000g", b"-1 3 00000000", b"junk", b""]
)
def test_a_line_that_cannot_be_is_ignored(line, tmp_path):
    opened(tmp_path).close()
    with (tmp_path / "a.part.journal").open("ab") as journal:
        journal.write(line + b"\n")
    with opened(tmp_path) as file:
        assert file.num_received == 0


@pytest.mark.parametrize("change", ["md5", "size", "no file", "no journal", "header", "list", "chunk"])
def test_what_belongs_to_another_file_is_discarded(change, tmp_path):
    with opened(tmp_path) as file:
        fill(file, 0)
        file.note(0)
    part, journal = tmp_path / "a.part", tmp_path / "a.part.journal"
    if change == "size":
        os.truncate(part, 999)
    elif change == "no file":
        part.unlink()
    elif change == "no journal":
        journal.unlink()
    elif change in ("header", "list", "chunk"):
        first = {"header": b"{", "list": b"[1]", "chunk": b'{"num_bytes": 1000, "md5": "%s", "chunk_bytes": 0}'}[change]
        journal.write_bytes(first.replace(b"%s", MD5.encode()) + b"\n" + journal.read_bytes().partition(b"\n")[2])
    with opened(tmp_path, md5="0" * 32 if change == "md5" else MD5) as file:
        assert (file.num_received, part.stat().st_size) == (0, 1000)


def test_damage_on_the_disk_is_found_by_chunk_and_a_restart_forgets_it(tmp_path):
    with opened(tmp_path) as file:
        for chunk in range(4):
            fill(file, chunk)
            file.note(chunk)
        with (tmp_path / "a.part").open("r+b") as other:
            other.seek(899)
            other.write(b"\0")
        assert file.damaged() == [2]
        file.restart(2)
    with opened(tmp_path) as file:
        assert file.missing() == [2]


def test_more_than_a_chunk_holds_is_refused(tmp_path):
    with opened(tmp_path) as file:
        fill(file, 3, 60)
        with pytest.raises(ValueError, match="at most 40 bytes, got 41"):
            file.write(3, bytes(41))


def test_chunks_of_a_span_are_those_that_hold_a_byte_of_it(tmp_path):
    with opened(tmp_path) as file:
        assert file.chunks_of(299, 300) == [0]
        assert file.chunks_of(299, 301) == [0, 1]
        assert file.chunks_of(300, 900) == [1, 2]
        assert file.chunks_of(950, 5000) == [3]


def test_discarding_leaves_no_file_and_closing_twice_does_nothing(tmp_path):
    file = opened(tmp_path)
    file.discard()
    file.close()
    assert os.listdir(tmp_path) == []
