"""Which chunks of a downloaded archive are wrong, when its MD5 is not the published one."""

import zipfile
from dataclasses import dataclass

from luna_pipeline.core.storage.chunked_file import ChunkedFile
from luna_pipeline.core.storage.zip_members import fault_of, open_zip


@dataclass(frozen=True)
class Damage:
    """Chunks that cannot be trusted, and why, in words.

    Attributes:
        chunks: Their numbers, ascending.
        reason: What is wrong.
    """

    chunks: list[int]
    reason: str


def find_damage(file: ChunkedFile) -> Damage:
    """Find the wrong chunks of a complete archive with a wrong MD5, as few as can be proved.

    In this order: chunks whose bytes on the disk are not those that arrived; chunks of members that do not unpack,
    with the end of the file, which describes them; that end if the directory there is damaged; else all.
    """
    if changed := file.damaged():
        return Damage(changed, f"{len(changed)} chunks changed on the disk since they arrived")
    tail = tail_chunks(file)
    try:
        with open_zip(file.path) as archive:
            spans, broken = _broken_spans(archive, file.num_bytes)
    except zipfile.BadZipFile:
        return Damage(tail, "the server sent a damaged zip directory")
    if not spans:
        return Damage(list(range(file.num_chunks)), "the server sent other bytes, in no member that could be named")
    chunks = {chunk for start, stop in spans for chunk in file.chunks_of(start, stop)}
    # Either the member is wrong or what the directory says of it.
    return Damage(sorted(chunks.union(tail)), f"the server sent wrong bytes in {_named(broken)}")


def tail_chunks(file: ChunkedFile) -> list[int]:
    """Return the chunks at the end of an archive that hold its zip directory: the last 64 KiB at least."""
    return file.chunks_of(max(0, file.num_bytes - (64 << 10)), file.num_bytes)


def _broken_spans(archive: zipfile.ZipFile, num_bytes: int) -> tuple[list[tuple[int, int]], list[str]]:
    members = sorted(archive.infolist(), key=lambda member: member.header_offset)
    ends = [*(member.header_offset for member in members[1:]), archive.start_dir]
    spans, broken = [], []
    for member, end in zip(members, ends, strict=True):
        if fault_of(archive, member) is not None:
            spans.append((member.header_offset, min(max(end, member.header_offset + 1), num_bytes)))
            broken.append(member.filename)
    return spans, broken


def _named(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
