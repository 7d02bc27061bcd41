"""NIfTI-1 files (``.nii``, ``.nii.gz``).

Source:
    https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h
"""

import math
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.ct.errors import UnreadableCtError, naming_series
from luna_pipeline.core.ct.formats.header_values import refusal
from luna_pipeline.core.ct.formats.packed_files import byte_source
from luna_pipeline.core.ct.formats.stored_voxels import StoredReader, StoredVoxels
from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.storage.regular_files import open_regular

_SIZEOF_HEADER = 348
# The header, and four bytes that say whether extensions follow.
_HEAD_BYTES = 352
_NIFTI_2_SIZE = 540
_DTYPES = {2: "u1", 256: "i1", 4: "i2", 512: "u2", 8: "i4", 768: "u4", 1024: "i8", 1280: "u8", 16: "f4", 64: "f8"}
# Unit of xyzt_units -> mm.
_UNITS_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
# qform_code and sform_code: not set, scanner, aligned to another scan of the patient. Atlas spaces are no place in the
# patient.
_CODES = (0, 1, 2)
_MAX_DIFFERENCE_MM = 0.1


@dataclass(frozen=True)
class _Head:
    """The header's bytes in its byte order."""

    reader: "NiftiReader"
    content: bytes
    order: str

    def values(self, code: str, offset: int) -> tuple[Any, ...]:
        return struct.unpack_from(self.order + code, self.content, offset)

    def refusal(self, rule: str, value: object, cure: str = "Write the CT again.") -> UnreadableCtError:
        return refusal(rule, value, self.reader.path, cure)


class NiftiReader(StoredReader):
    """Reads NIfTI-1 with header and voxels in one file.

    HU are stored number * scl_slope + scl_inter; a slope of 0 means that there is none. The place in the patient is
    that of qform or sform, whichever is set; where both are, they must agree.
    """

    def parse(self) -> StoredVoxels:
        """Parse the header."""
        head = self._read_head()
        (magic,) = head.values("4s", 344)
        if magic != b"n+1\0":
            cure = "Write the CT as one .nii or .nii.gz file."
            raise head.refusal("magic must be 'n+1', of header and voxels in one file", magic, cure)
        kind, num_bits = head.values("2h", 70)
        dtype = _DTYPES.get(kind)
        if dtype is None or num_bits != 8 * int(dtype[1]):
            raise head.refusal("datatype and bitpix must be of one number of 8 to 64 bits", (kind, num_bits))
        (offset,) = head.values("f", 108)
        if not (_HEAD_BYTES <= offset < 2**31 and offset == int(offset)):
            raise head.refusal(f"vox_offset must be a whole number of bytes from {_HEAD_BYTES} on", f"{offset:g}")
        slope, intercept = _scale(head)
        is_packed = self._is_packed
        return StoredVoxels(
            grid=self._grid(head),
            data_path=self.path,
            offset=0 if is_packed else int(offset),
            dtype=head.order + dtype,
            kind=f"datatype {kind}",
            is_packed=is_packed,
            num_unpacked_head_bytes=int(offset) if is_packed else 0,
            slope=slope,
            intercept=intercept,
        )

    @property
    def _is_packed(self) -> bool:
        return self.path.name.lower().endswith(".gz")

    def _read_head(self) -> _Head:
        buffer = bytearray(_HEAD_BYTES)
        with open_regular(self.path) as file:
            try:
                source = byte_source(file, is_packed=self._is_packed)
                got = source.readinto(memoryview(buffer))
            except ValueError as error:
                raise refusal("A .nii.gz file must be whole", error, self.path, "Copy it again.") from error
        if got < _HEAD_BYTES:
            raise refusal(f"A NIfTI file must have {_HEAD_BYTES} bytes of header", got, self.path, "Copy it again.")
        for order in "<>":
            (size,) = struct.unpack_from(f"{order}i", buffer)
            if size == _SIZEOF_HEADER:
                return _Head(self, bytes(buffer), order)
            if size == _NIFTI_2_SIZE:
                cure = "Write the CT as NIfTI-1."
                raise refusal("sizeof_hdr must be 348, of NIfTI-1", f"{size}, of NIfTI-2", self.path, cure)
        value = struct.unpack_from("<i", buffer)[0]
        raise refusal("sizeof_hdr must be 348: no NIfTI-1 header", value, self.path, "Copy it again.")

    def _grid(self, head: _Head) -> VoxelGrid:
        num_axes, *sizes = head.values("8h", 40)
        if not (3 <= num_axes <= 7 and min(sizes[:3]) > 0 and set(sizes[3:num_axes]) <= {1}):
            cure = "Write each volume as a file of its own."
            raise head.refusal("dim must give three axes, and 1 for every other", (num_axes, *sizes), cure)
        unit_mm = _UNITS_MM.get(head.values("B", 123)[0] & 7)
        if unit_mm is None:
            raise head.refusal("xyzt_units must be metre, mm, micrometre or unknown", head.values("B", 123)[0])
        spacing = head.values("3f", 80)
        if not all(math.isfinite(value) and value > 0 for value in spacing):
            raise head.refusal("pixdim must be three positive lengths", spacing)
        axes, offset = _placement(head, sizes[:3])
        # NIfTI's x and y axes point to right and anterior.
        lps = np.array([[-1.0], [-1.0], [1.0]])
        direction = tuple(float(value) + 0.0 for value in (axes * lps).ravel())
        x, y, z = (float(value) * unit_mm + 0.0 for value in offset * lps.ravel())
        x_mm, y_mm, z_mm = (float(value) * unit_mm for value in spacing)
        with naming_series(self.series_instance_uid):
            return VoxelGrid((sizes[2], sizes[1], sizes[0]), (x_mm, y_mm, z_mm), (x, y, z), direction)


def _scale(head: _Head) -> tuple[float, float]:
    """Return slope and intercept."""
    slope, intercept = head.values("2f", 112)
    is_none = slope == 0 and intercept == 0
    # ITK takes tiny slopes for none.
    if not is_none and not (1e-6 <= abs(slope) <= 1e6 and math.isfinite(intercept)):
        rule = "scl_slope must be from 1e-6 to 1e6 in size, scl_inter finite, or both 0 where there is no scaling"
        raise head.refusal(rule, (slope, intercept), "Write HU as voxels, with a slope of 1.")
    return (slope or 1.0), intercept


def _placement(head: _Head, sizes: list[int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the axes' directions as columns and the first voxel's position, in RAS and the header's unit."""
    codes = head.values("2h", 252)
    if not set(codes) <= set(_CODES) or codes == (0, 0):
        rule = "qform_code or sform_code must be 1 (scanner) or 2 (aligned), the other one of them or 0"
        raise head.refusal(rule, codes, "Write the CT with its place in the patient.")
    spacing = np.array(head.values("3f", 80), dtype=np.float64)
    srow = np.array(head.values("12f", 280), dtype=np.float64).reshape(3, 4)
    if codes[0] == 0:
        lengths = np.linalg.norm(srow[:, :3], axis=0)
        if not np.allclose(lengths, spacing, rtol=1e-3, atol=0):
            raise head.refusal("sform's spacing must be that of pixdim", f"{lengths.tolist()} and {spacing.tolist()}")
        return srow[:, :3] / lengths, srow[:, 3]
    axes, offset = _qform(head), np.array(head.values("3f", 268), dtype=np.float64)
    if codes[1]:
        # Both are linear: where the corners agree, every voxel does.
        corners = np.array(np.meshgrid(*((0, size - 1) for size in sizes))).reshape(3, -1)
        difference = np.abs((axes * spacing) @ corners + offset[:, None] - srow[:, :3] @ corners - srow[:, 3:]).max()
        unit_mm = _UNITS_MM[head.values("B", 123)[0] & 7]
        # Written so that NaN is refused.
        if not difference * unit_mm <= _MAX_DIFFERENCE_MM:
            rule = f"qform and sform must place every voxel alike within {_MAX_DIFFERENCE_MM} mm"
            raise head.refusal(rule, f"{difference * unit_mm:.3g} mm", "Write the CT with one of them.")
    return axes, offset


def _qform(head: _Head) -> NDArray[np.float64]:
    """Return the axes of the header's quaternion, a unit one without its first number."""
    (handedness,) = head.values("f", 76)
    if handedness not in {-1.0, 0.0, 1.0}:
        raise head.refusal("pixdim[0] must be -1 or 1 with a qform", handedness)
    b, c, d = (float(value) for value in head.values("3f", 256))
    rest = 1.0 - (b * b + c * c + d * d)
    if not rest >= -1e-5:
        raise head.refusal("quatern_b, _c and _d must be of a unit quaternion", (b, c, d))
    a = math.sqrt(max(rest, 0.0))
    axes = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    # 0 means 1.
    axes[:, 2] *= -1.0 if handedness < 0 else 1.0
    return axes
