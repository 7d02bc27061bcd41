"""Malformed DICOM series: elements of one slice or all, bytes, files that are missing or too many, bombs."""

import io
import random
import struct
import zlib

import numpy as np
import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.tag import Tag
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from luna_pipeline_tests.fuzz.ct_files import SIZE_IRC
from luna_pipeline_tests.fuzz.inputs import Malformed, damaged, uid_of
from luna_pipeline_tests.phantoms import INTERCEPT_HU, random_hounsfield

# Values that do not fit the element's own type are written as they are.
_ELEMENTS: dict[str, tuple[str, tuple[object, ...]]] = {
    "Rows": ("US", (0, 1, 7, 9, 65535)),
    "Columns": ("US", (0, 1, 9, 11, 65535)),
    "BitsAllocated": ("US", (0, 1, 8, 12, 32, 65535)),
    "BitsStored": ("US", (0, 1, 8, 20, 65535)),
    "HighBit": ("US", (0, 7, 14, 16, 65535)),
    "PixelRepresentation": ("US", (1, 2, 65535)),
    "SamplesPerPixel": ("US", (0, 2, 3, 65535)),
    "PhotometricInterpretation": ("CS", ("MONOCHROME1", "RGB", "PALETTE COLOR", "", "X")),
    "NumberOfFrames": ("IS", ("0", "2", "30000000", "2000000000", "-1", "abc", "1e9")),
    "RescaleSlope": ("DS", ("0", "-1", "nan", "inf", "1e400", "", "abc", "1,5", "1\\1", "2")),
    "RescaleIntercept": ("DS", ("nan", "inf", "-1e30", "", "abc", "-1024\\0", "1e9", "-2000")),
    "RescaleType": ("LO", ("US", "OD", "", "x" * 100)),
    "PixelSpacing": ("DS", ("0\\0", "-1\\-1", "nan\\1", "1", "1\\1\\1", "1e9\\1", "0.0008\\0.0008", "abc", "1,0\\1,0")),
    "ImagePositionPatient": (
        "DS",
        ("0\\0", "nan\\0\\0", "inf\\0\\0", "", "abc", "0\\0\\0\\0", "1e30\\0\\0", "0\\0\\0"),
    ),
    "ImageOrientationPatient": (
        "DS",
        ("1\\0\\0", "0\\0\\0\\0\\0\\0", "nan\\0\\0\\0\\1\\0", "1\\0\\0\\1\\0\\0", "1\\1\\0\\0\\1\\0"),
    ),
    "PixelPaddingValue": ("US", (0, 65535, 1024)),
    "SeriesInstanceUID": ("UI", ("", "abc", "1..2", "9" * 70, "../../x", "1.2\n3")),
    "SOPClassUID": ("UI", ("", "1.2.840.10008.5.1.4.1.1.481.2", "1.2.840.10008.5.1.4.1.1.7", "x")),
    "InstanceNumber": ("IS", ("", "-1", "abc", "99999999999999")),
    "Modality": ("CS", ("MR", "", "RTDOSE")),
    "SliceThickness": ("DS", ("nan", "-1", "abc", "")),
    "PatientID": ("LO", ("", "\u00e4", "x" * 300, "a\\b")),
    "GantryDetectorTilt": ("DS", ("15", "nan", "abc")),
}
_FALSE_SYNTAXES = (
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)
_BOMB_BYTES = 32 << 20


def dicom(rng: random.Random, name: str) -> Malformed:
    """Return a series of slices of which one, some or all were changed."""
    uid = uid_of(name)
    hounsfield = random_hounsfield(SIZE_IRC, seed=rng.randrange(1 << 30))
    slices = [_slice(uid, hounsfield[index], index) for index in range(len(hounsfield))]
    some = rng.choice([slices, slices[rng.randrange(len(slices)) :][:1], slices[::2]])
    way = rng.choice(
        ["element", "element", "element", "element", "missing", "syntax", "bytes", "files", "bomb", "nested"]
    )
    change = way
    if way in {"element", "missing"}:
        keyword = rng.choice(list(_ELEMENTS))
        vr, values = _ELEMENTS[keyword]
        value = rng.choice(values)
        change = f"{keyword} of {len(some)} slices: {'missing' if way == 'missing' else repr(value)[:60]}"
        for dataset in some:
            if way == "element":
                dataset[keyword] = _raw(keyword, vr, value)
            elif keyword in dataset:
                del dataset[keyword]
    elif way == "nested":
        for dataset in some:
            _nest(dataset, depth=rng.choice([2, 20, 200]))
    contents = [_written(dataset) for dataset in slices]
    places = [slices.index(dataset) for dataset in some]
    if way == "syntax":
        syntax = rng.choice(_FALSE_SYNTAXES)
        change = f"claims {syntax.name} in {len(some)} slices"
        for place in places:
            contents[place] = contents[place].replace(b"1.2.840.10008.1.2.1\0", syntax.encode().ljust(20, b"\0"), 1)
    elif way == "bytes":
        for place in places[:2]:
            contents[place], change = damaged(rng, contents[place], begin=rng.choice([0, 128, 132, 300]))
    elif way == "bomb":
        contents[places[0]] = _deflated(slices[places[0]])
    files = {f"slice{index}.dcm": content for index, content in enumerate(contents)}
    if way == "files":
        change = rng.choice(["gap", "copy", "two", "no suffix", "none whole"])
        files = _other_files(change, files, rng)
    return Malformed(name, uid, files, change=change)


def _raw(keyword: str, vr: str, value: object) -> RawDataElement:
    """Return an element that is written as it is, also where its text is none of its type."""
    content = struct.pack("<H", value) if isinstance(value, int) else str(value).encode("latin-1")
    content += b"\0" * (len(content) % 2)
    return RawDataElement(Tag(keyword), vr, len(content), content, 0, False, True)


def _slice(uid: str, hounsfield: np.ndarray, index: int) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, f"{uid}.{index}"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, f"{uid}.{index}"
    dataset.SeriesInstanceUID, dataset.StudyInstanceUID = uid, f"{uid}.0"
    dataset.Modality, dataset.InstanceNumber, dataset.PatientID = "CT", index, uid
    dataset.Rows, dataset.Columns = hounsfield.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
    dataset.RescaleIntercept, dataset.RescaleSlope = str(INTERCEPT_HU), "1"
    dataset.ImagePositionPatient = [-50, -40, -300 + 2.5 * index]
    dataset.ImageOrientationPatient, dataset.PixelSpacing = [1, 0, 0, 0, 1, 0], [0.8, 0.7]
    dataset.PixelData = (hounsfield.astype(np.int32) - INTERCEPT_HU).astype("<u2").tobytes()
    return dataset


def _nest(dataset: FileDataset, *, depth: int) -> None:
    inner = pydicom.Dataset()
    inner.PatientID = "x"
    for _ in range(depth):
        outer = pydicom.Dataset()
        outer.ReferencedStudySequence = [inner]
        inner = outer
    dataset.ReferencedStudySequence = [inner]


def _other_files(change: str, files: dict[str, bytes], rng: random.Random) -> dict[str, bytes]:
    names = sorted(files)
    chosen = rng.choice(names[1:-1])
    if change == "gap":
        return {name: files[name] for name in names if name != chosen}
    if change == "copy":
        return files | {"copy.dcm": files[chosen]}
    if change == "two":
        return {name: files[name] for name in names[:2]}
    if change == "no suffix":
        return {name.removesuffix(".dcm"): content[128 + 4 :] for name, content in files.items()}
    return {name: content[:200] for name, content in files.items()}


def _written(dataset: FileDataset) -> bytes:
    buffer = io.BytesIO()
    with pydicom.config.disable_value_validation():
        dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _deflated(dataset: FileDataset) -> bytes:
    """Return a slice by the deflated syntax whose content unpacks to a thousand times its length."""
    content = _written(dataset)
    length = int.from_bytes(content[140:144], "little")
    # An element that readers may skip: the data set's trailing padding.
    padding = struct.pack("<HH2sHI", 0xFFFC, 0xFFFC, b"OB", 0, _BOMB_BYTES)
    body = content[144 + length :] + padding + bytes(_BOMB_BYTES)
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    # The name of the syntax is two characters longer than that of the plain one with its padding.
    grown = DeflatedExplicitVRLittleEndian + ("\0" if len(DeflatedExplicitVRLittleEndian) % 2 else "")
    head = content[: 144 + length].replace(
        b"UI\x14\x001.2.840.10008.1.2.1\0", b"UI" + len(grown).to_bytes(2, "little") + grown.encode(), 1
    )
    head = head[:140] + (length + len(grown) - 20).to_bytes(4, "little") + head[144:]
    return head + packer.compress(body) + packer.flush()
