"""The grid of a MetaImage from its own header text, equal to ITK's to the last bit.

Source:
    https://itk.org/Wiki/ITK/MetaIO/Documentation: TransformMatrix holds the direction of the first axis, then of the
    second, then of the third; ITK's direction matrix has them as columns.
"""

import math

import numpy as np

from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.ct.metaimage import MetaImageHeader, is_true

# Synonyms; where a header has several, MetaIO's own rules decide, and ITK is asked.
_ORIGIN_KEYS = ("Offset", "Position", "Origin")
_DIRECTION_KEYS = ("TransformMatrix", "Orientation", "Rotation")
_BYTE_ORDER_KEYS = ("BinaryDataByteOrderMSB", "ElementByteOrderMSB")


def grid_of_header(header: MetaImageHeader) -> VoxelGrid | None:
    """Return where the voxels lie, None where a header is unusual and ITK must be asked.

    Raises:
        ValueError: If a spacing or the direction makes no sense.
    """
    fields = header.fields
    spacing_key = "ElementSpacing" if "ElementSpacing" in fields else "ElementSize"
    spacing_mm = _numbers(fields.get(spacing_key, "1 1 1"), 3)
    origin_xyz = _numbers(_first_of(fields, _ORIGIN_KEYS, "0 0 0"), 3)
    axes = _numbers(_first_of(fields, _DIRECTION_KEYS, "1 0 0 0 1 0 0 0 1"), 9)
    if not _is_usual(header) or spacing_mm is None or origin_xyz is None or axes is None:
        return None
    num_cols, num_rows, num_slices = header.sizes
    return VoxelGrid(
        size_irc=(num_slices, num_rows, num_cols),
        spacing_mm=(spacing_mm[0], spacing_mm[1], spacing_mm[2]),
        origin_xyz=(origin_xyz[0], origin_xyz[1], origin_xyz[2]),
        direction=tuple(float(value) for value in np.reshape(axes, (3, 3)).T.ravel()),
    )


def _is_usual(header: MetaImageHeader) -> bool:
    fields = header.fields
    return (
        fields.get("ObjectType") == "Image"
        and fields.get("NDims") == "3"
        and len(header.sizes) == 3
        and is_true(fields.get("BinaryData", "False"))
        # MetaIO also takes "key : value".
        and not any(":" in key for key in fields)
        and all(sum(key in fields for key in keys) < 2 for keys in (_ORIGIN_KEYS, _DIRECTION_KEYS, _BYTE_ORDER_KEYS))
    )


def _first_of(fields: dict[str, str], keys: tuple[str, ...], default: str) -> str:
    return next((fields[key] for key in keys if key in fields), default)


def _numbers(text: str, num_values: int) -> tuple[float, ...] | None:
    """Return exactly so many finite numbers, None for anything else."""
    try:
        values = tuple(float(word) for word in text.split())
    except ValueError:
        return None
    return values if len(values) == num_values and all(math.isfinite(value) for value in values) else None
