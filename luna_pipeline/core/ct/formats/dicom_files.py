"""DICOM files: recognised by their first bytes, and opened for pydicom with limits on what a header may hold.

Source:
    DICOM PS3.10, 7.1 (preamble, file meta information); PS3.5, 7.1 (data elements), A.5 (deflated).
"""

import os
import re
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from luna_pipeline.core.ct.formats.dicom_unpacking import InflatedFile
from luna_pipeline.core.storage.regular_files import open_regular

if TYPE_CHECKING:
    from pydicom import FileDataset

DEFLATED = "1.2.840.10008.1.2.1.99"
MAX_HEADER_BYTES = 64 << 20
"""Unpacked bytes before the pixels of a deflated file; the header of 4,000 frames has about 6 MiB."""
# Elements outside sequences: a CT slice has 100 to 500.
_MAX_ELEMENTS = 10_000
# Reads of a header: a frame's functional groups take about 100 where their lengths are not written.
_MAX_READS = 1_000_000
# Files with a single slice are smaller: their reads need not be counted.
_LARGE_BYTES = 8 << 20
_PREAMBLE_BYTES = 128
_PIXEL_GROUP, _FIRST_PIXEL_ELEMENT = 0x7FE0, 0x0008
# Value representations with a length of 4 bytes behind 2 reserved ones.
_LONG_VRS = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
_SHORT_VRS = {b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL"}
_SHORT_VRS |= {b"SS", b"ST", b"TM", b"UI", b"UL", b"US"}
# Longest value among the first elements of an old file; they are names, dates and uids.
_MAX_FIRST_VALUE_BYTES = 1024


class TooManyElementsError(ValueError):
    """A header has more elements than any header needs."""


class OpenHeader(NamedTuple):
    """A header that pydicom has read up to the pixels.

    Attributes:
        dataset: The attributes asked for.
        file: The open file, or the unpacked stream of a deflated one, at the element after the header.
        syntax: UID of the transfer syntax, empty where the file names none.
        stream_start: Offset of a deflated stream in its file, None for others.
        num_file_bytes: Size of the file.
    """

    dataset: "FileDataset"
    file: Any
    syntax: str
    stream_start: int | None
    num_file_bytes: int


class _CountedFile:
    """A file for pydicom whose reads are counted: a header of millions of tiny elements is refused.

    Raises:
        TooManyElementsError: If it is read more often than any header needs.
    """

    def __init__(self, file: Any) -> None:
        self._file, self._num_reads = file, 0
        self.seek, self.tell = file.seek, file.tell

    def read(self, num_bytes: int = -1) -> bytes:
        self._num_reads += 1
        if self._num_reads > _MAX_READS:
            raise TooManyElementsError(f"a header must have at most {_MAX_READS} elements, got more")
        return bytes(self._file.read(num_bytes))


def is_dicom_file(path: Path) -> bool:
    """Return whether a file is DICOM by its suffix, its preamble, or, without one, its first data elements.

    A DICOMDIR is not.
    """
    if path.name.upper() == "DICOMDIR":
        return False
    if path.suffix.lower() == ".dcm":
        return True
    try:
        with open_regular(path) as file:
            head = file.read(512)
    # A dangling link, a FIFO, a name with a NUL byte, or a file without permission.
    except (OSError, ValueError):
        return False
    return head[_PREAMBLE_BYTES : _PREAMBLE_BYTES + 4] == b"DICM" or _begins_with_elements(head)


def _begins_with_elements(head: bytes) -> bool:
    """Return whether bytes begin with two data elements or more of the groups 0002 and 0008, as old files do."""
    place, last_tag, num_elements = 0, -1, 0
    while place + 12 <= len(head):
        group, element = struct.unpack_from("<HH", head, place)
        tag, vr = group << 16 | element, head[place + 4 : place + 6]
        num_head_bytes, length = 8, struct.unpack_from("<I", head, place + 4)[0]
        if vr in _SHORT_VRS:
            length = struct.unpack_from("<H", head, place + 6)[0]
        elif vr in _LONG_VRS:
            num_head_bytes, length = 12, struct.unpack_from("<I", head, place + 8)[0]
        if group == 8 and num_elements >= 2:
            return True
        if group not in {2, 8} or tag <= last_tag or length > _MAX_FIRST_VALUE_BYTES:
            return False
        place, last_tag, num_elements = place + num_head_bytes + length, tag, num_elements + 1
    return num_elements >= 2


def read_header(file: BinaryIO, keywords: list[str]) -> OpenHeader:
    """Read the attributes of a DICOM file before its pixels; the file must stay open as long as the header is used.

    Raises:
        ValueError: If it has more elements, or unpacks to more bytes, than any header has.
        Exception: Whatever else pydicom raises for bytes that only look like DICOM.
    """
    from pydicom.datadict import tag_for_keyword
    from pydicom.filereader import read_partial

    num_file_bytes = file.seek(0, os.SEEK_END)
    file.seek(0)
    syntax, start = _transfer_syntax(file.read(4096))
    file.seek(0)
    stream: Any = file
    is_deflated = syntax == DEFLATED
    if is_deflated:
        file.seek(start)
        stream = InflatedFile(file, limit=MAX_HEADER_BYTES)
    if is_deflated or num_file_bytes > _LARGE_BYTES:
        stream = _CountedFile(stream)
    _refuse_zeros(stream, 0 if is_deflated else start)
    num_elements = 0

    def is_at_pixels(tag: int, vr: str | None, length: int) -> bool:
        nonlocal num_elements
        num_elements += 1
        if num_elements > _MAX_ELEMENTS:
            raise ValueError(f"a header must have at most {_MAX_ELEMENTS} elements, got more")
        # pydicom's comparison of tags takes several times as long. Offset tables (7FE0,0001) come before the pixels.
        return tag >> 16 == _PIXEL_GROUP and tag & 0xFFFF >= _FIRST_PIXEL_ELEMENT

    tags = [tag for keyword in keywords if (tag := tag_for_keyword(keyword)) is not None]
    dataset = read_partial(stream, stop_when=is_at_pixels, force=True, specific_tags=tags)
    found = syntax or str(dataset.file_meta.get("TransferSyntaxUID") or "")
    return OpenHeader(dataset, stream, found, start if is_deflated else None, num_file_bytes)


def _refuse_zeros(stream: Any, start: int) -> None:
    """Refuse a data set of zeros: pydicom reads eight of them as an empty element, and so for gigabytes."""
    stream.seek(start)
    head = stream.read(8)
    stream.seek(0)
    if head == bytes(8):
        raise ValueError(f"a data set must begin with a data element, got zeros at byte {start}")


def _transfer_syntax(head: bytes) -> tuple[str, int]:
    """Return the transfer syntax by the meta header of a file, and the offset of the data set behind it.

    pydicom would unpack a deflated file whole, before any size is known. An empty syntax: there is no meta header.
    """
    place = _PREAMBLE_BYTES + 4 if head[_PREAMBLE_BYTES:][:4] == b"DICM" else 0
    syntax = ""
    while place + 12 <= len(head) and head[place : place + 2] == b"\x02\x00":
        element, vr = head[place + 2 : place + 4], head[place + 4 : place + 6]
        is_long = vr in _LONG_VRS
        length = (
            struct.unpack_from("<I", head, place + 8)[0] if is_long else struct.unpack_from("<H", head, place + 6)[0]
        )
        place += 12 if is_long else 8
        if element == b"\x10\x00":
            syntax = re.sub(rb"[^0-9.]", b"", head[place : place + length]).decode()
        place += length
    return syntax, place
