"""What a DICOM file that cannot be read still says: to which series of its folder it belongs.

A truncated slice must spoil its own series and no other, and a report or another object without an image (structured
reports are common beside CTs) must spoil none.

Source:
    DICOM PS3.5, 7.1 (data elements, little endian).
"""

import struct
from collections.abc import Collection
from pathlib import Path

_MODALITY = b"\x08\x00\x60\x00"
_SERIES_INSTANCE_UID = b"\x20\x00\x0e\x00"
_HEAD_BYTES = 65536


def owner_of(path: Path, series_instance_uids: Collection[str]) -> str:
    """Return the series that a damaged file belongs to.

    Args:
        path: A file that ITK cannot read.
        series_instance_uids: The readable series of its folder.

    Returns:
        Its series where a damaged CT slice names it, or where it names none and the folder holds only one; else the
        file's stem.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    # Both elements stand before any sequence that could repeat them in a CT slice.
    modality, uid = _value_of(head, _MODALITY), _value_of(head, _SERIES_INSTANCE_UID)
    if modality not in {"CT", ""}:
        return path.stem
    if uid:
        return uid
    return next(iter(series_instance_uids)) if len(series_instance_uids) == 1 else path.stem


def _value_of(head: bytes, tag: bytes) -> str:
    """Return the text of a tag's first occurrence, explicit or implicit VR; empty where there is none."""
    start = head.find(tag)
    element = head[start + 4 : start + 8]
    if start < 0 or len(element) < 4:
        return ""
    is_explicit = element[:2].isalpha()
    length = struct.unpack("<H", element[2:])[0] if is_explicit else struct.unpack("<I", element)[0]
    return head[start + 8 : start + 8 + min(length, 64)].decode("latin-1").strip(" \0")
