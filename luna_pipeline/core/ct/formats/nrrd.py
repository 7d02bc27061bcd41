"""NRRD files (``.nrrd``, ``.nhdr``), with their voxels attached or in a file of their own.

Source:
    https://teem.sourceforge.net/nrrd/format.html
"""

import math
import re
from pathlib import Path

from luna_pipeline.core.ct.errors import naming_series
from luna_pipeline.core.ct.formats.header_values import TextHeader, header_lines, parsed_numbers, refusal
from luna_pipeline.core.ct.formats.stored_voxels import StoredReader, StoredVoxels
from luna_pipeline.core.ct.geometry import VoxelGrid

_TYPES = {
    "i1": "signed char, int8, int8_t",
    "u1": "uchar, unsigned char, uint8, uint8_t",
    "i2": "short, short int, signed short, signed short int, int16, int16_t",
    "u2": "ushort, unsigned short, unsigned short int, uint16, uint16_t",
    "i4": "int, signed int, int32, int32_t",
    "u4": "uint, unsigned int, uint32, uint32_t",
    "i8": "longlong, long long, long long int, signed long long, signed long long int, int64, int64_t",
    "u8": "ulonglong, unsigned long long, unsigned long long int, uint64, uint64_t",
    "f4": "float",
    "f8": "double",
}
_DTYPES = {name: dtype for dtype, names in _TYPES.items() for name in names.split(", ")}
# Space -> signs that turn its x and y axes to left and posterior, LPS.
_SPACES = {
    **dict.fromkeys(("lps", "left-posterior-superior"), (1, 1)),
    **dict.fromkeys(("ras", "right-anterior-superior"), (-1, -1)),
    **dict.fromkeys(("las", "left-anterior-superior"), (1, -1)),
}
_READ = (
    *("type", "dimension", "sizes", "encoding", "endian", "space", "space directions", "space origin"),
    *("space units", "units", "kinds", "old min", "old max", "data file", "byte skip", "line skip", "spacings"),
    *("axis mins", "axis maxs"),
)
# Fields without effect on the HU and their place.
_IGNORED = (
    *("content", "number", "block size", "min", "max", "sample units", "thicknesses", "centers", "centerings"),
    *("labels", "measurement frame", "space dimension"),
)
_SYNONYMS = {name.replace(" ", ""): name for name in (*_READ, *_IGNORED)}
_VECTOR = re.compile(r"\(([^()]*)\)\s*")


class NrrdReader(StoredReader):
    """Reads NRRD with raw or gzip-compressed voxels."""

    def parse(self) -> StoredVoxels:
        """Parse the header."""
        header = _read_fields(self)
        _check_kind_of_image(header)
        kind = " ".join(header.fields.get("type", "").lower().split())
        if kind not in _DTYPES:
            raise header.refusal("type", "a number type such as short")
        encoding = header.fields.get("encoding", "").lower()
        if encoding not in {"raw", "gzip", "gz"}:
            raise header.refusal("encoding", "raw or gzip", "Write the CT again with one of them.")
        is_packed, is_apart = encoding != "raw", "data file" in header.fields
        num_skipped = header.whole("byte skip", least=0 if is_packed else -1, default=0)
        if header.whole("line skip", least=0, default=0) or (is_packed and num_skipped):
            key = "line skip" if header.fields.get("line skip", "0") != "0" else "byte skip"
            raise header.refusal(key, "0", "Write the voxels without lines or bytes before them.")
        return StoredVoxels(
            grid=self._grid(header),
            data_path=_data_path(header),
            offset=(0 if is_apart else header.num_bytes) + max(num_skipped, 0),
            dtype=_byte_order(header, _DTYPES[kind]) + _DTYPES[kind],
            kind=kind,
            is_at_end=num_skipped == -1,
            is_packed=is_packed,
        )

    def _grid(self, header: TextHeader) -> VoxelGrid:
        num_cols, num_rows, num_slices = header.sizes("sizes")
        if {"space", "space dimension"} <= header.fields.keys():
            raise header.refusal("space dimension", "left out where space is given", "Remove one of them.")
        signs = _SPACES.get(header.fields.get("space", "").lower())
        if signs is None:
            cure = "Write the space of its coordinates: without it left and right are a guess."
            raise header.refusal("space", "left-posterior-superior, right-anterior-superior or their like", cure)
        axes = [_as_lps(vector, signs) for vector in _vectors(header, "space directions", 3)]
        x, y, z = _as_lps(_vectors(header, "space origin", 1)[0], signs)
        col_mm, row_mm, index_mm = (math.sqrt(sum(value * value for value in axis)) for axis in axes)
        lengths = (col_mm, row_mm, index_mm)
        # A length of 0 is refused by the grid.
        direction = tuple(axes[axis][world] / (lengths[axis] or 1.0) for world in range(3) for axis in range(3))
        with naming_series(self.series_instance_uid):
            return VoxelGrid((num_slices, num_rows, num_cols), lengths, (x, y, z), direction)


def _read_fields(reader: NrrdReader) -> TextHeader:
    """Read the fields up to the empty line that ends the header, or the file's end for voxels apart."""
    path, num_bytes = reader.path, 0
    fields: dict[str, str] = {}
    for number, (line, num_bytes) in enumerate(header_lines(path)):
        if number == 0:
            if not re.fullmatch("NRRD000[1-5]", line):
                raise refusal("A NRRD file must begin with NRRD0001 to NRRD0005", repr(line), path, "Copy it again.")
        elif not line:
            return TextHeader(path, fields, num_bytes)
        elif not line.startswith("#") and not re.match("[^:]*:=", line):
            name, colon, text = line.partition(": ")
            key = _SYNONYMS.get(name.lower().replace(" ", ""))
            if not colon or key is None:
                raise refusal("Each line of a NRRD header must be 'field: value' of a known field", repr(line), path)
            if key in fields:
                raise refusal(f"The field {key} must be there once", f"another line {line!r}", path)
            fields[key] = text.strip()
            # Names of files follow a list, no fields.
            if key == "data file":
                _check_one_file(TextHeader(path, fields, num_bytes))
    if "data file" not in fields:
        raise refusal("A NRRD header must end with an empty line", f"none in {num_bytes} bytes", path, "Copy it again.")
    return TextHeader(path, fields, num_bytes)


def _check_kind_of_image(header: TextHeader) -> None:
    """Refuse anything but three spatial axes in mm, and numbers that are not HU yet."""
    if header.fields.get("dimension") != "3":
        raise header.refusal("dimension", "3, as a CT has three dimensions")
    kinds = header.fields.get("kinds", "domain domain domain").lower().split()
    if len(kinds) != 3 or set(kinds) - {"domain", "space", "none", "???"}:
        raise header.refusal("kinds", "domain for every axis, as a CT has one number a voxel")
    for key in ("units", "space units"):
        words = set(re.findall(r'"([^"]*)"', header.fields.get(key, "").lower()))
        if words - {"mm", "millimeter", "millimeters", "", "???"}:
            raise header.refusal(key, 'mm, written "mm" "mm" "mm"')
    for key in ("old min", "old max", "axis mins", "axis maxs", "spacings"):
        if set(header.fields.get(key, "").lower().split()) - {"nan"}:
            raise header.refusal(key, "absent, as space directions and HU leave nothing to say", "Write the CT again.")


def _data_path(header: TextHeader) -> Path:
    if "data file" not in header.fields:
        return header.path
    return header.data_path("data file")


def _check_one_file(header: TextHeader) -> None:
    name = header.fields["data file"]
    if name.split()[:1] == ["LIST"] or "%" in name:
        raise header.refusal("data file", "the name of one file", "Write the CT into a single file.")


def _byte_order(header: TextHeader, dtype: str) -> str:
    order = {"little": "<", "big": ">"}.get(header.fields.get("endian", "").lower())
    if order is None and (dtype[1] != "1" or "endian" in header.fields):
        raise header.refusal("endian", "little or big")
    return order or "<"


def _vectors(header: TextHeader, key: str, count: int) -> list[tuple[float, ...]]:
    """Return ``count`` vectors, each written (x,y,z)."""
    text = header.fields.get(key, "")
    vectors = [parsed_numbers([word.strip() for word in match.split(",")], 3) for match in _VECTOR.findall(text)]
    found = [vector for vector in vectors if vector is not None]
    if _VECTOR.sub("", text) or not len(vectors) == len(found) == count:
        raise header.refusal(
            key, f"{count} vectors of 3 finite numbers, each written (x,y,z)" if count > 1 else "a vector"
        )
    return found


def _as_lps(vector: tuple[float, ...], signs: tuple[int, int]) -> tuple[float, float, float]:
    x, y, z = vector
    # Adding 0 avoids -0.
    return x * signs[0] + 0.0, y * signs[1] + 0.0, z
