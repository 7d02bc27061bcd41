"""Random valid headers of MetaImage, NRRD and NIfTI give the grid and the voxels that SimpleITK reads from them."""

import gzip
import struct
import zlib

import numpy as np
import pytest
import SimpleITK as sitk

from luna_pipeline.core.ct.reading import read_ct
from luna_pipeline_tests.phantoms import grid_of, random_direction

UID = "1.2.3"
NRRD_TYPES = {
    "i2": ["short", "signed short int", "int16_t"],
    "u2": ["ushort", "unsigned short", "uint16"],
    "i4": ["int", "int32"],
    "u4": ["uint", "unsigned int"],
    "i8": ["long long int", "int64"],
    "u8": ["ulonglong"],
    "f4": ["float"],
    "f8": ["double"],
}
NIFTI_TYPES = {"i2": 4, "u2": 512, "i4": 8, "u4": 768, "i8": 1024, "u8": 1280, "f4": 16, "f8": 64}
META_TYPES = {
    "i2": "MET_SHORT",
    "u2": "MET_USHORT",
    "i4": "MET_INT",
    "u4": "MET_UINT",
    "i8": "MET_LONG_LONG",
    "u8": "MET_ULONG_LONG",
    "f4": "MET_FLOAT",
    "f8": "MET_DOUBLE",
}


class Volume:
    """Random sizes, number type, voxels and place, by a seed."""

    def __init__(self, seed):
        self.rng = rng = np.random.default_rng(seed)
        self.size_xyz = [int(size) for size in rng.integers(1, 7, size=3)]
        self.type = list(NRRD_TYPES)[seed % len(NRRD_TYPES)]
        self.order = "<>"[int(rng.integers(2))]
        values = rng.uniform(0 if self.type[0] == "u" else -33_000, 36_000, size=self.size_xyz[::-1])
        self.voxels = np.clip(values, *((-32768, 32767) if self.type == "i2" else (None, None)))
        self.bytes = self.voxels.astype(self.order + self.type).tobytes()
        self.spacing_mm = rng.uniform(0.3, 5, size=3)
        self.origin_xyz = rng.uniform(-500, 500, size=3)
        # Rows of the matrix whose columns are the axes.
        self.direction = np.array(random_direction(seed)).reshape(3, 3)

    def pick(self, *choices):
        return choices[int(self.rng.integers(len(choices)))]


def words(values):
    return " ".join(repr(float(value)) for value in np.ravel(values))


def assert_as_itk(path, *, atol=1e-12):
    image, ct = sitk.ReadImage(str(path)), read_ct(path, series_instance_uid=UID)
    expected = grid_of(image)
    assert ct.grid.size_irc == expected.size_irc
    for name in ("spacing_mm", "origin_xyz", "direction"):
        np.testing.assert_allclose(getattr(ct.grid, name), getattr(expected, name), rtol=1e-12, atol=atol, err_msg=name)
    hounsfield = np.clip(np.rint(sitk.GetArrayFromImage(image)).astype(np.float64), -32768, 32767)
    np.testing.assert_array_equal(ct.hounsfield, hounsfield)
    assert ct.hounsfield.any()


@pytest.mark.parametrize("seed", range(48))
def test_metaimages_are_read_as_by_itk(tmp_path, seed):
    volume = Volume(seed)
    pick, content = volume.pick, volume.bytes
    is_packed, place = pick(True, False), pick("LOCAL", "local", "voxels.raw", "some voxels.raw", "below/voxels.zraw")
    is_apart, foreign = place.lower() != "local", b""
    lines = ["ObjectType = Image"] * pick(0, 1) + ["NDims = 3", "BinaryData = True", "Comment = at 10:30 h"]
    lines += [f"{pick('Offset', 'Position', 'Origin')} {pick('=', ':')} {words(volume.origin_xyz)}"]
    lines += [f"{pick('ElementSpacing', 'ElementSize')} = {words(volume.spacing_mm)}"]
    if pick(True, True, False):
        lines += [f"{pick('TransformMatrix', 'Orientation', 'Rotation')} = {words(volume.direction.T)}"]
    lines += [f"{pick('BinaryDataByteOrderMSB', 'ElementByteOrderMSB')} = {volume.order == '>'}"]
    if is_packed:
        content = pick(zlib.compress, gzip.compress)(content)
        lines += ["CompressedData = True", f"CompressedDataSize = {len(content)}"]
    elif is_apart:
        foreign = bytes(int(volume.rng.integers(9)))
        lines += [f"HeaderSize = {pick(-1, len(foreign))}"]
    lines += [f"DimSize = {' '.join(map(str, volume.size_xyz))}", f"ElementType = {META_TYPES[volume.type]}"]
    header = "".join(line + pick("\n", "  \n", "\r\n", "\n\n") for line in [*lines, f"ElementDataFile = {place}"])
    header = header.rstrip() + pick("\n", "\r\n")
    (tmp_path / "below").mkdir()
    if is_apart:
        (tmp_path / place).write_bytes(foreign + content)
    path = tmp_path / f"{UID}{pick('.mhd', '.mha')}"
    path.write_bytes(header.encode() + (b"" if is_apart else content))
    assert_as_itk(path)


@pytest.mark.parametrize("seed", range(48))
def test_nrrds_are_read_as_by_itk(tmp_path, seed):
    volume = Volume(seed)
    pick, content = volume.pick, volume.bytes
    encoding, is_apart, foreign = pick("raw", "gzip", "gz"), pick(True, False), b""
    space = pick("LPS", "RAS", "LAS", "left-posterior-superior", "right-anterior-superior", "Left-Anterior-Superior")
    vectors = [",".join(map(repr, axis.tolist())) for axis in (volume.direction * volume.spacing_mm).T]
    origin = pick(", ", ",").join(map(repr, volume.origin_xyz.tolist()))
    lines = [f"{pick('type', 'Type')}: {pick(*NRRD_TYPES[volume.type])}", "dimension: 3", "# a comment", "key:=value"]
    lines += [f"space: {space}", f"sizes: {' '.join(map(str, volume.size_xyz))}", f"encoding: {encoding}"]
    lines += ["space directions: " + pick(" ", "  ").join(f"({vector})" for vector in vectors)]
    lines += [f"space origin: ({origin})", f"endian: {'little' if volume.order == '<' else 'big'}"]
    lines += pick([], ["kinds: domain domain domain"], ['space units: "mm" "mm" "mm"'], ["centerings: cell cell cell"])
    if encoding != "raw":
        middle = int(volume.rng.integers(len(content)))
        content = pick(gzip.compress(content), gzip.compress(content[:middle]) + gzip.compress(content[middle:]))
    elif pick(True, False):
        foreign = bytes(int(volume.rng.integers(9)))
        lines += [f"{pick('byte skip', 'byteskip')}: {pick(-1, len(foreign))}"]
    if is_apart:
        (tmp_path / "some voxels.raw").write_bytes(foreign + content)
        lines += [f"{pick('data file', 'datafile')}: {pick('', './')}some voxels.raw"]
    end = pick("\n", "\r\n")
    path = tmp_path / f"{UID}{pick('.nhdr', '.nrrd')}"
    path.write_bytes((end.join(["NRRD0005", *lines]) + 2 * end).encode() + (b"" if is_apart else foreign + content))
    assert_as_itk(path)


def nifti_head(volume, *, factor, codes, unit):
    """Return 352 bytes of header; lengths are those of the volume times ``factor``."""
    pick, order, head = volume.pick, volume.order, bytearray(352)
    num_axes = int(volume.rng.integers(3, 8))
    qfac = -1.0 if np.linalg.det(volume.direction) < 0 else pick(0.0, 1.0)
    spacing, origin = volume.spacing_mm * factor, volume.origin_xyz * factor
    struct.pack_into(f"{order}i", head, 0, 348)
    struct.pack_into(f"{order}8h", head, 40, num_axes, *volume.size_xyz, 1, 1, 1, 1)
    struct.pack_into(f"{order}2h", head, 70, NIFTI_TYPES[volume.type], 8 * int(volume.type[1]))
    struct.pack_into(f"{order}4f", head, 76, qfac, *spacing)
    struct.pack_into(f"{order}f", head, 108, 352)
    struct.pack_into(f"{order}2f", head, 112, *pick((0, 0), (1, 0), (1, -1024), (0.5, 0.25), (0.013, -7.7)))
    head[123] = unit + pick(0, 8)
    struct.pack_into(f"{order}2h", head, 252, *codes)
    # NIfTI's x and y axes are those of LPS with the other sign.
    ras = volume.direction * [[-1], [-1], [1]]
    origin = origin * [-1, -1, 1]
    struct.pack_into(f"{order}6f", head, 256, *quaternion(ras * [1, 1, qfac or 1]), *origin)
    struct.pack_into(f"{order}12f", head, 280, *np.column_stack([ras * spacing, origin]).ravel())
    head[344:348] = b"n+1\0"
    return head


def quaternion(rotation):
    """Return b, c, d of a rotation matrix, with a positive a."""
    a = np.sqrt(max(1 + np.trace(rotation), 1e-12)) / 2
    skew = rotation - rotation.T
    return skew[2, 1] / (4 * a), skew[0, 2] / (4 * a), skew[1, 0] / (4 * a)


@pytest.mark.parametrize("seed", range(64))
def test_niftis_are_read_as_by_itk(tmp_path, seed):
    volume = Volume(seed)
    factor, unit = volume.pick((1, 2), (1, 0), (1e3, 3), (1e-3, 1))
    codes = volume.pick((1, 0), (2, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 1))
    head, gap = nifti_head(volume, factor=factor, codes=codes, unit=unit), volume.pick(0, 16)
    struct.pack_into(f"{volume.order}f", head, 108, 352 + gap)
    content = bytes(head) + bytes(gap) + volume.bytes
    path = tmp_path / f"{UID}{volume.pick('.nii', '.nii.gz')}"
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    # qform and sform are 32-bit numbers.
    assert_as_itk(path, atol=2e-4)


def test_wide_scaled_integers_of_a_nifti_are_rounded_as_by_itk(tmp_path):
    volume = Volume(2)
    volume.size_xyz, volume.order = [32, 32, 16], "<"
    head = nifti_head(volume, factor=1, codes=(1, 0), unit=2)
    struct.pack_into("<2f", head, 112, 1e-5, 0)
    values = np.random.default_rng(0).integers(-(2**31), 2**31, size=32 * 32 * 16, dtype="<i4")
    (tmp_path / f"{UID}.nii").write_bytes(bytes(head) + values.tobytes())
    assert_as_itk(tmp_path / f"{UID}.nii", atol=2e-4)
