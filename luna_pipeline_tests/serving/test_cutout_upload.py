"""Uploaded cutouts: one form is read, and everything else is refused by one sentence before it is unpacked."""

import io
import pickle
import struct
import zipfile

import numpy as np
import pytest

from luna_pipeline.serving.cutout_upload import CutoutsError, max_body_bytes, read_cutouts

SHAPE = (2, 3, 4)
NAME = "ct_chunks.npy"
FINE = np.arange(48, dtype=np.int16).reshape(2, *SHAPE)


def read(content: bytes, *, max_cutouts: int = 5) -> np.ndarray:
    return read_cutouts(io.BytesIO(content), chunk_shape_irc=SHAPE, max_cutouts=max_cutouts)


def npz(write=np.savez, **arrays) -> bytes:
    file = io.BytesIO()
    write(file, **arrays)
    return file.getvalue()


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def zipped(content: bytes, *, name: str = NAME, method: int = zipfile.ZIP_STORED, more: dict[str, bytes] | None = None):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr(name, content)
        for other, text in (more or {}).items():
            archive.writestr(other, text)
    return file.getvalue()


def with_header(text: str, *, values: bytes = b"\0" * 48, version: bytes = b"\x01\x00") -> bytes:
    header = text.encode("latin-1") + b"\n"
    return zipped(b"\x93NUMPY" + version + struct.pack("<H", len(header)) + header + values)


def header(*, dtype: str = "'<i2'", order: str = "False", shape: str = "(1, 2, 3, 4)") -> str:
    return f"{{'descr': {dtype}, 'fortran_order': {order}, 'shape': {shape}, }}"


def with_flag(content: bytes, flag: int) -> bytes:
    """Set bits of the flags in local header and directory."""
    start = content.index(b"PK\x01\x02")
    changed = bytearray(content)
    changed[6] |= flag
    changed[start + 8] |= flag
    return bytes(changed)


def with_size(content: bytes, num_bytes: int) -> bytes:
    """Announce another unpacked size in the directory."""
    start = content.index(b"PK\x01\x02")
    return content[: start + 24] + struct.pack("<I", num_bytes) + content[start + 28 :]


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_what_numpy_writes_is_read(write):
    read_back = read(npz(write, ct_chunks=FINE))
    np.testing.assert_array_equal(read_back, FINE)
    assert (read_back.dtype, read_back.flags.writeable) == (np.int16, False)


PICKLED = np.array([{"a": 1}], dtype=object)
BOMB = zipped(b"\0" * (64 << 20), method=zipfile.ZIP_DEFLATED)
REFUSED = {
    "nothing": b"",
    "text": b"no zip at all",
    "html": b"<html><script>alert(1)</script></html>",
    "truncated": npz(ct_chunks=FINE)[:-30],
    "half": npz(ct_chunks=FINE)[:200],
    "pickle": pickle.dumps(FINE),
    "npy": npy(FINE),
    "empty zip": zipped(b"")[-22:],
    "another name": npz(chunks=FINE),
    "traversal": zipped(npy(FINE), name="../ct_chunks.npy"),
    "patient's name": zipped(npy(FINE), name="Doe^Jane.npy"),
    "two arrays": npz(ct_chunks=FINE, more=FINE),
    "twice": zipped(npy(FINE), more={"./ct_chunks.npy": npy(FINE)}),
    "object": zipped(npy(PICKLED)),
    "float nan": npz(ct_chunks=np.full((1, *SHAPE), np.nan)),
    "float32": npz(ct_chunks=FINE.astype(np.float32)),
    "uint16": npz(ct_chunks=FINE.astype(np.uint16)),
    "int64": npz(ct_chunks=FINE.astype(np.int64)),
    "big-endian": npz(ct_chunks=FINE.astype(">i2")),
    "structured": npz(ct_chunks=np.zeros(2, dtype=[("a", "<i2")])),
    "text array": npz(ct_chunks=np.array(["a"])),
    "fortran": npz(ct_chunks=np.asfortranarray(FINE)),
    "one cutout without its axis": npz(ct_chunks=FINE[0]),
    "five axes": npz(ct_chunks=FINE[:, None]),
    "scalar": npz(ct_chunks=np.int16(3)),
    "no cutout": npz(ct_chunks=FINE[:0]),
    "too many": npz(ct_chunks=np.zeros((6, *SHAPE), np.int16)),
    "another shape": npz(ct_chunks=np.zeros((2, 4, 3, 2), np.int16)),
    "huge shape": with_header(header(shape="(1, 999999999, 999999999, 999999999)")),
    "overflowing shape": with_header(header(shape=f"({'9' * 60}, 2, 3, 4)")),
    "negative shape": with_header(header(shape="(-1, 2, 3, 4)")),
    "huge bomb": BOMB,
    "announced too small": with_size(BOMB, 128 + 48),
    "announced too large": with_size(npz(ct_chunks=FINE), 1 << 31),
    "code in the header": with_header("__import__('os').system('true')"),
    "nested brackets": with_header("(" * 900),
    "long header": with_header(header() + " " * 5000),
    "format 2": with_header(header(), version=b"\x02\x00"),
    "too few voxels": with_header(header(), values=b"\0" * 46),
    "too many voxels": with_header(header(), values=b"\0" * 50),
    "no header": zipped(b"\x93NUMPY\x01\x00"),
    "checksum": flipped(npz(ct_chunks=FINE), npz(ct_chunks=FINE).index(FINE.tobytes()) + 5),
    "encrypted": with_flag(npz(ct_chunks=FINE), 1),
    "bzip2": zipped(npy(FINE), method=zipfile.ZIP_BZIP2),
    "damaged deflate": flipped(npz(np.savez_compressed, ct_chunks=FINE), 75),
    "nested zip": zipped(npz(ct_chunks=FINE)),
}


@pytest.mark.parametrize("content", REFUSED.values(), ids=REFUSED.keys())
def test_everything_else_is_refused_by_one_sentence_without_a_text_of_the_file(content: bytes):
    with pytest.raises(CutoutsError, match=" must ") as error:
        read(content)
    text = str(error.value)
    assert "got" in text
    assert "\n" not in text
    assert len(text) < 300
    assert not {word for word in ("Doe", "script", "system", "..") if word in text}


def test_the_error_names_dtype_shape_and_limit():
    with pytest.raises(CutoutsError) as error:
        read(npz(ct_chunks=np.zeros((6, 2, 3, 5), np.float32)))
    assert "ct_chunks must be int16 (N, 2, 3, 4) in C order with N from 1 to 5, got float32 (6, 2, 3, 5)." in str(
        error.value
    )


def test_the_largest_request_fits_and_no_larger_one():
    largest = npz(ct_chunks=np.zeros((5, *SHAPE), np.int16))
    assert len(largest) <= max_body_bytes(SHAPE, 5) == 5 * 24 * 2 + 65536
    assert len(read(largest)) == 5
