"""Malformed MetaImage, NRRD and NIfTI files."""

import gzip
import os
import random
import struct
import zlib

import numpy as np

from luna_pipeline_tests.fuzz.inputs import NUMBERS, Malformed, changed_lines, damaged, uid_of
from luna_pipeline_tests.phantoms import random_hounsfield

SIZE_IRC = (6, 8, 10)
# Unpacked bytes of a bomb; its packed form takes a thousandth.
_BOMB_BYTES = 32 << 20
_METAIMAGE = (
    *("ObjectType = Image", "NDims = 3", "BinaryData = True", "BinaryDataByteOrderMSB = False"),
    *("CompressedData = False", "TransformMatrix = 1 0 0 0 1 0 0 0 1", "Offset = -50 -40 -300"),
    *("CenterOfRotation = 0 0 0", "AnatomicalOrientation = RAI", "ElementSpacing = 0.7 0.8 2.5"),
    *("DimSize = 10 8 6", "ElementType = MET_SHORT"),
)
_METAIMAGE_KEYS = (
    *("Position = 1 2 3", "Origin = 0 0 nan", "Orientation = 1 0 0 0 1 0 0 0 1", "HeaderSize = -1", "HeaderSize = 9"),
    *("ElementByteOrderMSB = True", "ElementNumberOfChannels = 2", "ElementNumberOfChannels = -1", "ElementMin = nan"),
    *("ElementToIntensityFunctionSlope = 2", "ElementToIntensityFunctionOffset = -1024", "CompressedDataSize = 1"),
    *("CompressedDataSize = 99999999999", "Comment = " + "x" * 7_000, "ElementSize = 0 0 0", "DistanceUnits = um"),
)
_DATA_FILES = (
    *("LIST", "LIST 2", "%03d.raw 1 6 1", "%s%s%s.raw 1 6 1", "/dev/zero", "/dev/urandom", "..", ".", "", "gone.raw"),
    *("ct.mhd", "../ct.raw", "ct.raw ct.raw", "\u00e4.raw", "a" * 300, "pipe"),
)
_NRRD = (
    *("type: short", "dimension: 3", "space: left-posterior-superior", "sizes: 10 8 6"),
    *("space directions: (0.7,0,0) (0,0.8,0) (0,0,2.5)", "kinds: domain domain domain", "endian: little"),
    *("encoding: raw", "space origin: (-50,-40,-300)"),
)
_NRRD_FIELDS = (
    *("line skip: 3", "line skip: -1", "byte skip: -1", "byte skip: 99999999999", "byte skip: nan", "spacings: 1 1 1"),
    *(
        "spacings: 1 nan 1",
        "data file: LIST",
        "data file: /dev/zero",
        "data file: gone.raw",
        "data file: %03d.raw 1 6 1",
    ),
    *("space dimension: 3", "measurement frame: (1,0,0) (0,1,0) (0,0,1)", "thicknesses: 1 1 1", "old min: nan"),
    *("centerings: cell cell cell", 'units: "mm" "mm" "mm"', 'space units: "m" "m" "m"', "x" * 70_000),
)
# Offset and format of each field of NIfTI-1's header that is read.
_NIFTI = (
    *((0, "i"), (40, "h"), (42, "h"), (44, "h"), (46, "h"), (48, "h"), (70, "h"), (72, "h"), (76, "f"), (80, "f")),
    *((84, "f"), (88, "f"), (92, "f"), (108, "f"), (112, "f"), (116, "f"), (123, "B"), (252, "h"), (254, "h")),
    *((256, "f"), (260, "f"), (264, "f"), (268, "f"), (272, "f"), (276, "f"), (280, "f"), (296, "f"), (320, "f")),
    *((344, "i"),),
)
_FLOATS = (0.0, -1.0, 1e-30, 1e30, float("nan"), float("inf"), float("-inf"), 351.9, 352.5, 348.0, 1e9, -352.0, 0.5)


def stored(seed: int) -> bytes:
    """Return the voxels of an input, int16 little-endian; every voxel differs from its neighbours."""
    return random_hounsfield(SIZE_IRC, seed=seed).astype("<i2").tobytes()


def whole_metaimage(seed: int) -> bytes:
    """Return a MetaImage without any fault."""
    return "\n".join([*_METAIMAGE, "ElementDataFile = LOCAL", ""]).encode() + stored(seed)


def metaimage(rng: random.Random, name: str) -> Malformed:
    """Return a MetaImage whose header, voxels or packing were changed."""
    uid, lines, voxels = uid_of(name), list(_METAIMAGE), stored(rng.randrange(1 << 30))
    place, data, suffix = "LOCAL", voxels, ".mha"
    changes = []
    if rng.random() < 0.3:
        lines[4] = "CompressedData = True"
        content = voxels if rng.random() < 0.7 else bytes(_BOMB_BYTES)
        data = zlib.compress(content, 1)
        if len(content) > len(voxels):
            changes.append("bomb")
            if rng.random() < 0.5:
                lines.insert(5, f"CompressedDataSize = {len(data)}")
    if rng.random() < 0.5:
        place, suffix = "ct.raw", ".mhd"
    way = rng.choice(["line", "line", "line", "key", "data file", "voxels", "bytes"])
    if way == "line":
        lines, change = changed_lines(rng, lines, " = ")
    elif way == "key":
        change = rng.choice(_METAIMAGE_KEYS)
        # After NDims, which other readers need first.
        lines.insert(rng.randrange(2, len(lines)), change)
    elif way == "data file":
        place, suffix = rng.choice(_DATA_FILES), ".mhd"
        change = f"ElementDataFile {place[:40]!r}"
    elif way == "voxels":
        data, change = damaged(rng, data)
    head = "\n".join([*lines, f"ElementDataFile = {place}", ""]).encode()
    if way == "bytes":
        head, change = damaged(rng, head)
    files = {f"{uid}.mha": head + data} if suffix == ".mha" else {f"{uid}.mhd": head, "ct.raw": data}
    has_pipe = place == "pipe"
    return Malformed(
        name,
        uid,
        files,
        make=(lambda folder: os.mkfifo(folder / "pipe")) if has_pipe else None,
        change=", ".join([*changes, change]),
    )


def nrrd(rng: random.Random, name: str) -> Malformed:
    """Return a NRRD whose header, voxels or packing were changed."""
    uid, lines, data, changes = uid_of(name), list(_NRRD), stored(rng.randrange(1 << 30)), []
    if rng.random() < 0.3:
        lines[7] = "encoding: gzip"
        is_bomb = rng.random() < 0.3
        data = gzip.compress(bytes(_BOMB_BYTES) if is_bomb else data, 1, mtime=0)
        changes += ["bomb"] * is_bomb
    is_apart = rng.random() < 0.3
    if is_apart:
        lines.append("data file: ct.raw")
    way = rng.choice(["line", "line", "line", "field", "voxels", "bytes"])
    if way == "line":
        lines, change = changed_lines(rng, lines, ": ")
    elif way == "field":
        change = rng.choice(_NRRD_FIELDS)
        lines.insert(rng.randrange(len(lines)), change)
    elif way == "voxels":
        data, change = damaged(rng, data)
    head = "\n".join([rng.choice(["NRRD0004", "NRRD0004", "NRRD0004", "NRRD0009", "NRRD"]), *lines, "", ""]).encode()
    if way == "bytes":
        head, change = damaged(rng, head)
    files = {f"{uid}.nrrd": head, "ct.raw": data} if is_apart else {f"{uid}.nrrd": head + data}
    return Malformed(name, uid, files, change=", ".join([*changes, change[:120]]))


def nifti_header(*, qform: int = 1, sform: int = 1) -> bytearray:
    """Return a header of NIfTI-1 for ``SIZE_IRC`` voxels of int16."""
    head, (num_slices, num_rows, num_cols) = bytearray(352), SIZE_IRC
    struct.pack_into("<i", head, 0, 348)
    struct.pack_into("<8h", head, 40, 3, num_cols, num_rows, num_slices, 1, 1, 1, 1)
    struct.pack_into("<2h", head, 70, 4, 16)
    struct.pack_into("<8f", head, 76, 1, 0.7, 0.8, 2.5, 1, 1, 1, 1)
    struct.pack_into("<3f", head, 108, 352, 1, 0)
    struct.pack_into("<B", head, 123, 2)
    struct.pack_into("<2h", head, 252, qform, sform)
    struct.pack_into("<6f", head, 256, 0, 0, 0, 50, 40, -300)
    struct.pack_into("<12f", head, 280, 0.7, 0, 0, 50, 0, 0.8, 0, 40, 0, 0, 2.5, -300)
    head[344:348] = b"n+1\0"
    return head


def nifti(rng: random.Random, name: str) -> Malformed:
    """Return a NIfTI whose header, voxels or packing were changed."""
    uid, data = uid_of(name), stored(rng.randrange(1 << 30))
    head = nifti_header(qform=rng.choice([0, 1, 1]), sform=rng.choice([0, 1, 1]))
    changes = []
    if (way := rng.choice(["field", "field", "field", "voxels", "bytes", "NaN"])) == "field":
        for _ in range(rng.choice([1, 1, 2])):
            place, kind = rng.choice(_NIFTI)
            value = rng.choice(_FLOATS if kind == "f" else NUMBERS)
            if kind == "f":
                struct.pack_into("<f", head, place, np.float32(value))
            else:
                num_bytes = struct.calcsize(kind)
                head[place : place + num_bytes] = (int(value) % (1 << (8 * num_bytes))).to_bytes(num_bytes, "little")
            changes.append(f"{kind} at {place} = {value}")
    elif way == "NaN":
        floats = np.frombuffer(data, "<i2").astype("<f4")
        floats[rng.randrange(len(floats))] = rng.choice([np.nan, np.inf, -np.inf, 1e30])
        struct.pack_into("<2h", head, 70, 16, 32)
        data = floats.tobytes()
        changes.append(f"a voxel of {floats[~(np.abs(floats) < 1e5)]}")
    content = bytes(head) + data
    if way in {"voxels", "bytes"}:
        content, change = damaged(rng, content, begin=352 if way == "voxels" else 0)
        changes.append(change)
    if rng.random() < 0.3:
        is_bomb = rng.random() < 0.3
        packed = gzip.compress(content + bytes(_BOMB_BYTES if is_bomb else 0), 1, mtime=0)
        if rng.random() < 0.4:
            packed, change = damaged(rng, packed)
            changes.append(f"packed: {change}")
        return Malformed(name, uid, {f"{uid}.nii.gz": packed}, change=", ".join(changes + ["bomb"] * is_bomb))
    return Malformed(name, uid, {f"{uid}.nii": content}, change=", ".join(changes))
