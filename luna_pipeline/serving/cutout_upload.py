"""Cutouts of a request: an .npz with one int16 array, checked before anything of its size is allocated.

No pickle is read: the array's header is compared with the only form that is accepted.
"""

import math
import re
import struct
import zipfile
from typing import IO, BinaryIO

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.storage.zip_limits import MEMBER_DAMAGES, zip_problem

ARRAY = "ct_chunks"
_MEMBER = f"{ARRAY}.npy"
OVERHEAD_BYTES = 64 << 10
"""Bytes of a request beside the voxels: the zip's and the array's headers."""

_HEADER = re.compile(
    r"\{'descr': '(?P<dtype>[^']{1,16})', 'fortran_order': (?P<order>True|False), "
    r"'shape': \((?P<shape>[0-9, ]{0,80})\), \} *\n"
)
_MAGIC = b"\x93NUMPY\x01\x00"
_MAX_HEADER_BYTES = 1024
_MAX_DIGITS = 9
_MAX_MEMBERS = 10
_ADVICE = f"Write it with numpy.savez({ARRAY}=…)"


class CutoutsError(ValueError):
    """Cutouts that are refused; the message holds nothing of the file but numbers."""


def max_body_bytes(chunk_shape_irc: tuple[int, int, int], max_cutouts: int) -> int:
    """Return the bytes of the largest request."""
    return 2 * max_cutouts * math.prod(chunk_shape_irc) + OVERHEAD_BYTES


def unpacked_bytes(file: BinaryIO, *, chunk_shape_irc: tuple[int, int, int], max_cutouts: int) -> int:
    """Return the bytes that ``read_cutouts`` takes in memory for a file, from its directory alone.

    Raises:
        CutoutsError: If it is no .npz with ``ct_chunks`` alone, or larger than the limit.
    """
    limit = max_body_bytes(chunk_shape_irc, max_cutouts)
    if zip_problem(file, max_member_bytes=limit, max_members=_MAX_MEMBERS):
        rule = f"Cutouts must be an .npz with at most {max_cutouts} of them, got a damaged, larger or other file"
        raise CutoutsError(f"{rule}. {_ADVICE}.")
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
    if [member.filename for member in members] != [_MEMBER]:
        msg = f"The .npz must have the array {ARRAY} alone, got {len(members)} members or another name."
        raise CutoutsError(f"{msg} {_ADVICE}.")
    if members[0].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        msg = f"Cutouts must be stored or deflated, got zip method {members[0].compress_type}. {_ADVICE}."
        raise CutoutsError(msg)
    return members[0].file_size


def read_cutouts(file: BinaryIO, *, chunk_shape_irc: tuple[int, int, int], max_cutouts: int) -> NDArray[np.int16]:
    """Return the cutouts in HU, int16 (N, I, R, C), read-only.

    Args:
        file: The .npz, stored or deflated, open for reading and seeking.
        chunk_shape_irc: Voxels of a cutout.
        max_cutouts: Largest N.

    Raises:
        CutoutsError: If it is no .npz with ``ct_chunks`` alone, of this dtype and shape, whole and within the limit.
    """
    num_bytes = unpacked_bytes(file, chunk_shape_irc=chunk_shape_irc, max_cutouts=max_cutouts)
    try:
        with zipfile.ZipFile(file) as archive, archive.open(_MEMBER) as stream:
            return _array(stream, num_bytes, chunk_shape_irc, max_cutouts)
    except MEMBER_DAMAGES as error:
        msg = f"The .npz must be whole and without a password, got one that is not. {_ADVICE}, and send all of it."
        raise CutoutsError(msg) from error


def _array(stream: IO[bytes], num_bytes: int, chunk_shape: tuple[int, ...], max_cutouts: int) -> NDArray[np.int16]:
    header_bytes, dtype, is_fortran, shape = _header(stream)
    wanted = f"int16 (N, {', '.join(map(str, chunk_shape))}) in C order with N from 1 to {max_cutouts}"
    is_fine = dtype == "<i2" and not is_fortran and shape[1:] == chunk_shape and 1 <= shape[0] <= max_cutouts
    if not is_fine:
        order = " in Fortran order" if is_fortran else ""
        msg = f"{ARRAY} must be {wanted}, got {_dtype_name(dtype)} {shape}{order}."
        raise CutoutsError(f"{msg} Cut it as the model's classifier was trained, see /v1/models.")
    expected = 2 * math.prod(shape)
    # One byte more, so that the end is reached, where zipfile compares the checksum.
    content = stream.read(expected + 1)
    if num_bytes != header_bytes + expected or len(content) != expected:
        msg = f"{ARRAY} must have {expected} bytes of voxels, got {max(0, num_bytes - header_bytes)}. {_ADVICE}."
        raise CutoutsError(msg)
    return np.frombuffer(content, "<i2").reshape(shape)


def _header(stream: IO[bytes]) -> tuple[int, str, bool, tuple[int, ...]]:
    """Return length, dtype, order and shape of an array's header."""
    start = stream.read(len(_MAGIC) + 2)
    if len(start) == len(_MAGIC) + 2 and start.startswith(_MAGIC):
        (num_text,) = struct.unpack("<H", start[-2:])
        if num_text <= _MAX_HEADER_BYTES:
            found = _HEADER.fullmatch(stream.read(num_text).decode("latin-1"))
            numbers = [] if found is None else [part.strip() for part in found["shape"].split(",") if part.strip()]
            if found is not None and numbers and all(part.isdigit() and len(part) <= _MAX_DIGITS for part in numbers):
                return len(start) + num_text, found["dtype"], found["order"] == "True", tuple(map(int, numbers))
    raise CutoutsError(f"{ARRAY} must be an array of numbers in npy format 1.0, got another. {_ADVICE}.")


def _dtype_name(dtype: str) -> str:
    """Return the name of a dtype of numbers; other texts from outside are not repeated."""
    return np.dtype(dtype).name if re.fullmatch(r"[<>|][biuf][1248]", dtype) else "another dtype"
