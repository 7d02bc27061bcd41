"""Copies of a CT as MetaImage, NRRD and NIfTI files with one fault each."""

# SimpleITK types half of its wrappers.
# mypy: allow-untyped-calls

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from luna_pipeline.core.ct.reading import Ct

Write = Callable[[Ct, Path], Path]
NAME = "scan"


def copies() -> Iterator[tuple[str, str, str, Write]]:
    """Yield format, fault, variant and the function that writes each copy."""
    for suffix, name in ((".mha", "MetaImage"), (".nrrd", "NRRD"), (".nii", "NIfTI"), (".nii.gz", "NIfTI")):
        shown = f"{name} {suffix}"
        yield shown, "truncated file", "half", _bytes(suffix, lambda data: data[: len(data) // 2])
        yield shown, "truncated file", "the last byte", _bytes(suffix, lambda data: data[:-1])
        yield shown, "truncated file", "to its header", _bytes(suffix, lambda data: data[:100])
        yield shown, "truncated file", "to nothing", _bytes(suffix, lambda data: b"")
        yield shown, "few slices", "1 of 24", _image(suffix, lambda image: image[:, :, :1])
        yield shown, "few slices", "20 of 24", _image(suffix, lambda image: image[:, :, :20])
        yield shown, "wrong slope", "no intercept", _image(suffix, lambda image: image + 1024)
        yield shown, "wrong slope", "slope 4", _image(suffix, lambda image: image * 4)
        yield shown, "no CT", "mask", _image(suffix, lambda image: sitk.Cast(image > -400, sitk.sitkInt16))
        yield shown, "flipped axes", "x and y, header too", _image(suffix, lambda image: image[::-1, ::-1, :])
        yield shown, "flipped axes", "sagittal slices, header too", _image(suffix, _sagittal)
        yield shown, "no CT", "a fourth axis", _image(suffix, lambda image: sitk.JoinSeries([image, image]))
        yield shown, "no CT", "two channels", _image(suffix, lambda image: sitk.Compose(image, image))
    yield from _metaimage()
    yield from _nrrd()
    yield from _nifti()


def _metaimage() -> Iterator[tuple[str, str, str, Write]]:
    for variant, pattern, value in (
        ("spacing 0", rb"ElementSpacing = .*", b"ElementSpacing = 0 0 0"),
        ("spacing negative", rb"ElementSpacing = ", b"ElementSpacing = -"),
        ("spacing missing", rb"ElementSpacing = .*\n", b""),
        ("matrix sheared", rb"TransformMatrix = .*", b"TransformMatrix = 1 0 0 0 1 0 0 0.2 0.98"),
        ("matrix of zeros", rb"TransformMatrix = .*", b"TransformMatrix = 0 0 0 0 0 0 0 0 0"),
        ("matrix not a number", rb"TransformMatrix = .*", b"TransformMatrix = 1 0 0 0 nan 0 0 0 1"),
        ("a slice more than there is", rb"DimSize = 128 128 24", b"DimSize = 128 128 25"),
        ("a slice less than there is", rb"DimSize = 128 128 24", b"DimSize = 128 128 23"),
        ("8 bits", rb"ElementType = MET_SHORT", b"ElementType = MET_CHAR"),
        ("32 bits", rb"ElementType = MET_SHORT", b"ElementType = MET_INT"),
        ("wrong byte order", rb"ByteOrderMSB = False", b"ByteOrderMSB = True"),
    ):
        yield "MetaImage .mha", "wrong header", variant, _bytes(".mha", _replaced(pattern, value))
    yield (
        "MetaImage .mhd",
        "truncated file",
        "no voxel file",
        _bytes(".mhd", lambda data: data, voxels=lambda data: None),
    )
    yield (
        "MetaImage .mhd",
        "truncated file",
        "voxels, half",
        _bytes(".mhd", lambda data: data, voxels=lambda data: data[::2]),
    )
    yield (
        "MetaImage .mhd",
        "truncated file",
        "voxels of a slice more",
        _bytes(".mhd", lambda data: data, voxels=lambda data: data + data[: 2 * 128 * 128]),
    )


def _nrrd() -> Iterator[tuple[str, str, str, Write]]:
    for variant, pattern, value in (
        ("no space directions", rb"space directions: .*\n", b""),
        ("sheared", rb"\(0,0,2\.5\d*\)", b"(0,0.4,2.5)"),
        ("directions of zeros", rb"space directions: .*", b"space directions: (0,0,0) (0,0,0) (0,0,0)"),
        ("a slice more than there is", rb"sizes: 128 128 24", b"sizes: 128 128 25"),
        ("origin not a number", rb"space origin: .*", b"space origin: (nan,0,0)"),
        ("wrong byte order", rb"endian: little", b"endian: big"),
        ("8 bits", rb"type: short", b"type: uchar"),
        ("unknown encoding", rb"encoding: \w+", b"encoding: lzma"),
    ):
        yield "NRRD .nrrd", "wrong header", variant, _bytes(".nrrd", _replaced(pattern, value))


def _nifti() -> Iterator[tuple[str, str, str, Write]]:
    for variant, start, content in (
        ("neither form", 252, np.array([0, 0], "<i2")),
        ("forms that differ", 292, np.array([50.0], "<f4")),
        ("sform sheared", 304, np.array([1.0], "<f4")),
        ("spacing 0", 80, np.zeros(3, "<f4")),
        ("in metres", 123, np.array([1], "u1")),
        ("in micrometres", 123, np.array([3], "u1")),
        ("slope 2", 112, np.array([2.0], "<f4")),
        ("slope not a number", 112, np.array([np.nan], "<f4")),
        ("intercept 1024", 112, np.array([1.0, 1024.0], "<f4")),
        ("voxels start later", 108, np.array([2000.0], "<f4")),
        ("a slice more than there is", 46, np.array([25], "<i2")),
        ("wrong magic number", 344, np.frombuffer(b"xyz\0", "u1")),
    ):
        yield "NIfTI .nii", "wrong header", variant, _bytes(".nii", _patched(start, content.tobytes()))


def _image_of(ct: Ct) -> sitk.Image:
    image = sitk.GetImageFromArray(np.asarray(ct.hounsfield))
    image.SetSpacing(ct.grid.spacing_mm)
    image.SetOrigin(ct.grid.origin_xyz)
    image.SetDirection(ct.grid.direction)
    return image


def _image(suffix: str, change: Callable[[sitk.Image], sitk.Image]) -> Write:
    def write(ct: Ct, folder: Path) -> Path:
        path = folder / f"{NAME}{suffix}"
        sitk.WriteImage(change(_image_of(ct)), str(path))
        return path

    return write


def _bytes(
    suffix: str, change: Callable[[bytes], bytes], voxels: Callable[[bytes], bytes | None] | None = None
) -> Write:
    """Write a whole file, then change its bytes, or those of the voxel file beside it."""

    def write(ct: Ct, folder: Path) -> Path:
        path = folder / f"{NAME}{suffix}"
        sitk.WriteImage(_image_of(ct), str(path))
        path.write_bytes(change(path.read_bytes()))
        if voxels is not None:
            beside = path.with_suffix(".raw")
            content = voxels(beside.read_bytes())
            beside.unlink()
            if content is not None:
                beside.write_bytes(content)
        return path

    return write


def _replaced(pattern: bytes, value: bytes) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        changed, number = re.subn(pattern, value, data[:2000], count=1)
        if not number:
            raise AssertionError(pattern)
        return changed + data[2000:]

    return change


def _patched(start: int, content: bytes) -> Callable[[bytes], bytes]:
    return lambda data: data[:start] + content + data[start + len(content) :]


def _sagittal(image: sitk.Image) -> sitk.Image:
    turned: sitk.Image = sitk.PermuteAxes(image, [1, 2, 0])
    return turned
