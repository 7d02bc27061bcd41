"""Stated limits of what a CT's files may claim, checked before memory is taken."""

from luna_pipeline.core.config.byte_limits import byte_limit
from luna_pipeline.core.ct.errors import UnreadableCtError

MAX_FRAMES = 20_000
"""Frames of a DICOM file; a whole-body CT at 0.5 mm has 4,000."""

MAX_SLICES = 20_000
"""Slices of a CT."""

# A DEFLATE stream unpacks to at most 1,032 times its length.
_MAX_DEFLATE_RATIO = 1032


def max_ct_bytes() -> int:
    """Return the largest number of bytes of a CT's unpacked voxels.

    1 GiB, which is 2,048 slices of 512 x 512 voxels of 16 bits; the variable ``LUNA_MAX_CT_GIB`` sets another limit.

    Raises:
        ValueError: If the variable is no positive number.
    """
    return byte_limit("LUNA_MAX_CT_GIB", default=1.0)


def check_announced_bytes(num_bytes: int, num_packed_bytes: int | None = None, *, where: str) -> None:
    """Refuse voxels that cannot be what a header announces.

    Args:
        num_bytes: Bytes of the unpacked voxels by the header.
        num_packed_bytes: Bytes that they are packed into by DEFLATE (zlib, gzip), None for voxels that are not.
        where: File and series, for the message.

    Raises:
        UnreadableCtError: If they exceed the limit of a CT, or what the packed bytes can hold.
    """
    if num_bytes > (limit := max_ct_bytes()):
        rule = f"A CT must have at most {limit / (1 << 30):g} GiB of voxels, got {num_bytes} bytes announced ({where})."
        raise UnreadableCtError(f"{rule} Check its sizes; if they are right, set LUNA_MAX_CT_GIB to more.")
    if num_packed_bytes is not None and num_bytes > num_packed_bytes * _MAX_DEFLATE_RATIO:
        rule = f"Packed voxels must be able to fill {num_bytes} bytes, got {num_packed_bytes} bytes packed ({where})."
        raise UnreadableCtError(f"{rule} Copy header and voxels again.")
