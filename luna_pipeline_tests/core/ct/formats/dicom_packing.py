"""Writes DICOM files again in another transfer syntax, for tests."""

import io
from collections.abc import Callable
from pathlib import Path

import gdcm
import numpy as np
import pydicom
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)


def _native(syntax: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        dataset = pydicom.dcmread(path)
        is_big = syntax == ExplicitVRBigEndian
        if is_big:
            dataset.PixelData = np.frombuffer(dataset.PixelData, dtype="<u2").astype(">u2").tobytes()
        dataset.file_meta.TransferSyntaxUID = syntax
        pydicom.dcmwrite(path, dataset, little_endian=not is_big, implicit_vr=syntax == ImplicitVRLittleEndian)

    return write


def _compressed(syntax: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        dataset = pydicom.dcmread(path)
        dataset.compress(syntax, generate_instance_uid=False)
        dataset.save_as(path)

    return write


def by_gdcm(kind: int) -> Callable[[Path], None]:
    """Return a function that packs a file by GDCM's encoder."""

    def write(path: Path) -> None:
        reader = gdcm.ImageReader()
        reader.SetFileName(str(path))
        assert reader.Read()
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(kind))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer = gdcm.ImageWriter()
        writer.SetFileName(str(path))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()

    return write


def unsigned_jpeg_2000(path: Path) -> None:
    """Pack by Pillow, whose codestream is unsigned whatever the pixels are: two's complement is inside."""
    dataset = pydicom.dcmread(path)
    stored = np.frombuffer(dataset.PixelData, dtype="<u2").reshape(dataset.Rows, dataset.Columns)
    packed = io.BytesIO()
    Image.fromarray(stored).save(packed, "JPEG2000", irreversible=False, no_jp2=True)
    dataset.PixelData = encapsulate([packed.getvalue() + b"\0" * (len(packed.getvalue()) % 2)])
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    dataset.save_as(path)


WRITERS: dict[str, Callable[[Path], None]] = {
    "explicit": _native(ExplicitVRLittleEndian),
    "implicit": _native(ImplicitVRLittleEndian),
    "big endian": _native(ExplicitVRBigEndian),
    "deflated": _native(DeflatedExplicitVRLittleEndian),
    "RLE": _compressed(RLELossless),
    "JPEG lossless": by_gdcm(gdcm.TransferSyntax.JPEGLosslessProcess14_1),
    "JPEG lossless, any prediction": by_gdcm(gdcm.TransferSyntax.JPEGLosslessProcess14),
    "JPEG-LS": _compressed(JPEGLSLossless),
    "JPEG 2000": by_gdcm(gdcm.TransferSyntax.JPEG2000Lossless),
}
"""Transfer syntaxes by name: each function writes a file again in it."""
