"""MetaImage files (``.mhd``, ``.mha``).

A header must give everything that a CT needs; MetaIO's default spacing of 1 mm and origin of 0 are guesses.

Source:
    https://itk.org/Wiki/ITK/MetaIO/Documentation
"""

import re
from pathlib import Path

from luna_pipeline.core.ct.errors import naming_series
from luna_pipeline.core.ct.formats.header_values import TextHeader, header_lines, refusal
from luna_pipeline.core.ct.formats.stored_voxels import StoredReader, StoredVoxels
from luna_pipeline.core.ct.geometry import VoxelGrid

# Element type -> numpy's type, byte order aside.
_DTYPES = {"CHAR": "i1", "SHORT": "i2", "INT": "i4", "LONG": "i4", "LONG_LONG": "i8"}
ELEMENT_TYPES = {f"MET_{name}": dtype for name, dtype in _DTYPES.items()}
ELEMENT_TYPES |= {f"MET_U{name}": f"u{dtype[1]}" for name, dtype in _DTYPES.items()}
ELEMENT_TYPES |= {"MET_FLOAT": "f4", "MET_DOUBLE": "f8"}
# Synonyms; the first is the usual one.
_ORIGIN_KEYS = ("Offset", "Position", "Origin")
_DIRECTION_KEYS = ("TransformMatrix", "Orientation", "Rotation")
_BYTE_ORDER_KEYS = ("BinaryDataByteOrderMSB", "ElementByteOrderMSB")
_SLOPE, _INTERCEPT = "ElementToIntensityFunctionSlope", "ElementToIntensityFunctionOffset"
_KEYS = (
    *("ObjectType", "NDims", "BinaryData", "CompressedData", "CompressedDataSize", "ElementSpacing", "ElementSize"),
    *("DimSize", "HeaderSize", "ElementNumberOfChannels", "ElementType", _SLOPE, _INTERCEPT, "ElementDataFile"),
    *(*_ORIGIN_KEYS, *_DIRECTION_KEYS, *_BYTE_ORDER_KEYS),
)
_VECTOR_KEYS = {*_ORIGIN_KEYS, *_DIRECTION_KEYS, "CenterOfRotation", "DimSize", "ElementSpacing", "ElementSize"}
_KEYS_BY_LOWER = {key.lower(): key for key in _KEYS}
_SPACING_CURE = "Write the voxels' distances in mm, such as ElementSpacing = 0.7 0.7 1.25."
_ORIGIN_CURE = "Write the first voxel's world position in mm, such as Offset = -198.1 -195 -335.2."


class MetaImageReader(StoredReader):
    """Reads MetaImages whose voxels are in one file, their own or the header's."""

    def parse(self) -> StoredVoxels:
        """Parse the header."""
        header = _read_fields(self.path)
        _check_kind_of_image(header)
        is_packed = _is_true(header, "CompressedData")
        data_path, offset, is_at_end = _place(header, is_packed=is_packed)
        num_packed_bytes = None
        # ITK finds compressed voxels behind the header by their length.
        if is_packed and ("CompressedDataSize" in header.fields or data_path == self.path):
            num_packed_bytes = header.whole("CompressedDataSize", least=1)
        kind = header.fields.get("ElementType", "")
        if kind not in ELEMENT_TYPES:
            raise header.refusal("ElementType", "a number type such as MET_SHORT")
        byte_order = _one_of(header, _BYTE_ORDER_KEYS)
        return StoredVoxels(
            grid=self._grid(header),
            data_path=data_path,
            offset=offset,
            dtype=(">" if _is_true(header, byte_order) else "<") + ELEMENT_TYPES[kind],
            kind=kind,
            num_channels=header.whole("ElementNumberOfChannels", least=1, default=1),
            is_at_end=is_at_end,
            is_packed=is_packed,
            is_zlib_allowed=True,
            num_packed_bytes=num_packed_bytes,
        )

    def _grid(self, header: TextHeader) -> VoxelGrid:
        num_cols, num_rows, num_slices = header.sizes("DimSize")
        # MetaIO takes the voxels' size for their distance where the distance is missing.
        is_size = "ElementSize" in header.fields and "ElementSpacing" not in header.fields
        spacing_key = "ElementSize" if is_size else "ElementSpacing"
        x_mm, y_mm, z_mm = header.numbers(spacing_key, 3, cure=_SPACING_CURE)
        x, y, z = header.numbers(_one_of(header, _ORIGIN_KEYS), 3, cure=_ORIGIN_CURE)
        axes = header.numbers(_one_of(header, _DIRECTION_KEYS), 9, default="1 0 0 0 1 0 0 0 1")
        # MetaImage lists the axes one after the other; ITK's matrix has them as columns.
        direction = tuple(axes[axis + 3 * column] for axis in range(3) for column in range(3))
        with naming_series(self.series_instance_uid):
            return VoxelGrid((num_slices, num_rows, num_cols), (x_mm, y_mm, z_mm), (x, y, z), direction)


def _read_fields(path: Path) -> TextHeader:
    """Read the header's keys, up to ``ElementDataFile``: by definition the last one."""
    fields: dict[str, str] = {}
    for line, num_bytes in header_lines(path):
        if not line:
            continue
        # MetaIO also takes "key : value".
        key, *texts = (text.strip(" \t") for text in re.split("[=:]", line, maxsplit=1))
        if not texts or not key.isascii() or not key.isprintable():
            raise refusal("Each line of a MetaImage header must be 'key = value'", repr(line), path)
        known = _KEYS_BY_LOWER.get("".join(key.split()).lower())
        if known is not None and (key != known or fields.get(key, texts[0]) != texts[0]):
            raise refusal(f"The key {known} must be written so, and only once", repr(line), path)
        fields[key] = texts[0]
        if key == "ElementDataFile":
            return TextHeader(path, fields, num_bytes)
    raise refusal("ElementDataFile must be in a MetaImage header", "none", path, "Copy the header again.")


def _check_kind_of_image(header: TextHeader) -> None:
    """Refuse what MetaIO reads as another thing than three-dimensional numbers, or does not apply."""
    if header.fields.get("ObjectType", "Image") != "Image":
        raise header.refusal("ObjectType", "Image")
    if header.fields.get("NDims") != "3":
        raise header.refusal("NDims", "3, as a CT has three dimensions")
    keys = list(header.fields)
    # MetaIO reads as many numbers as there are dimensions, which it must know by then.
    if early := _VECTOR_KEYS.intersection(keys[: keys.index("NDims")]):
        raise refusal(f"NDims must come before {min(early)}", "it behind", header.path, "Move it up.")
    if not _is_true(header, "BinaryData"):
        raise header.refusal("BinaryData", "True, as numbers written as text are not read")
    for key, value in ((_SLOPE, 1.0), (_INTERCEPT, 0.0)):
        if header.numbers(key, 1, default=str(value)) != (value,):
            raise header.refusal(key, f"{value:g}, as programs disagree on applying it", "Write HU as voxels.")


def _place(header: TextHeader, *, is_packed: bool) -> tuple[Path, int, bool]:
    """Return the file with the voxels, their offset, and whether they are the file's end."""
    name = header.fields["ElementDataFile"]
    num_head_bytes = header.whole("HeaderSize", least=-1, default=0)
    if num_head_bytes == -1 and is_packed:
        raise header.refusal("HeaderSize", "0 or positive for compressed voxels")
    if name.upper() == "LOCAL":
        if num_head_bytes not in {-1, 0, header.num_bytes}:
            raise header.refusal("HeaderSize", f"the header's {header.num_bytes} bytes, for LOCAL voxels")
        return header.path, header.num_bytes, False
    if name.split()[:1] == ["LIST"] or "%" in name:
        raise header.refusal("ElementDataFile", "the name of one file", "Write the CT with a single .raw file.")
    return header.data_path("ElementDataFile"), max(num_head_bytes, 0), num_head_bytes == -1


def _one_of(header: TextHeader, keys: tuple[str, ...]) -> str:
    """Return the key of a group of synonyms that the header has, the group's first where it has none."""
    found = [key for key in keys if key in header.fields]
    texts = {" ".join(header.fields[key].split()) for key in found}
    if len(texts) > 1:
        rule = f"{' and '.join(found)} must be equal, as they are synonyms"
        raise refusal(rule, " and ".join(repr(header.fields[key]) for key in found), header.path)
    return found[0] if found else keys[0]


def _is_true(header: TextHeader, key: str) -> bool:
    """Return a word as MetaIO reads it, by its first letter; a missing key is false."""
    letter = header.fields.get(key, "False")[:1]
    if letter not in {"T", "t", "1", "F", "f", "0"}:
        raise header.refusal(key, "True or False")
    return letter in {"T", "t", "1"}
