"""Uploads that are wrong in one way each. Without that they would be accepted, as the first of each kind shows."""

import gzip
import io
import stat
import struct
import tempfile
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk

from luna_pipeline_tests.phantoms import make_image, random_hounsfield, write_dicom_series
from luna_pipeline_tests.serving.http.apps import PATIENT, Parts, parts_of, zip_of

MAX_FILES = 60
HTML, SQL = "<script>alert('Doe')</script>", "'; DROP TABLE jobs; -- Doe"
_SIZE_IRC = (6, 8, 10)


@cache
def slices() -> tuple[bytes, ...]:
    """The DICOM files of a CT that is accepted."""
    with tempfile.TemporaryDirectory() as folder:
        write_dicom_series(Path(folder), "1.2.840.5", random_hounsfield(_SIZE_IRC), tags={"PatientName": PATIENT})
        return tuple(path.read_bytes() for path in sorted(Path(folder).iterdir()))


@cache
def volume(suffix: str) -> bytes:
    """A volume file that is accepted."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"ct{suffix}"
        sitk.WriteImage(make_image(random_hounsfield(_SIZE_IRC)), path)
        return path.read_bytes()


def zipped(*members: tuple[str | zipfile.ZipInfo, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Parts:
    """The accepted series in a zip file, with further members before it."""
    series = [(f"IM{number}.dcm", content) for number, content in enumerate(slices())]
    return parts_of((f"{PATIENT}.zip", zip_of(*members, *series, compression=compression)))


def dicom(**tags: object) -> Parts:
    """The accepted series with other tags in its third slice; None removes one."""
    edited = pydicom.dcmread(io.BytesIO(slices()[2]))
    for keyword, value in tags.items():
        if value is None:
            delattr(edited, keyword)
        else:
            setattr(edited, keyword, value)
    buffer = io.BytesIO()
    edited.save_as(buffer)
    return _series(buffer.getvalue())


def _series(third: bytes) -> Parts:
    contents = [*slices()[:2], third, *slices()[3:]]
    return parts_of(*((f"{PATIENT}{number}.dcm", content) for number, content in enumerate(contents)))


def all_slices(**tags: object) -> Parts:
    """The accepted series with other tags in every slice."""
    contents = []
    for content in slices():
        dataset = pydicom.dcmread(io.BytesIO(content))
        for keyword, value in tags.items():
            setattr(dataset, keyword, value)
        buffer = io.BytesIO()
        dataset.save_as(buffer)
        contents.append(buffer.getvalue())
    return parts_of(*((f"{number}.dcm", content) for number, content in enumerate(contents)))


def text(suffix: str, old: str, new: str) -> Parts:
    """An accepted volume with another text in its header."""
    content = volume(suffix)
    assert old.encode() in content, content[:400]
    return parts_of((f"{PATIENT}{suffix}", content.replace(old.encode(), new.encode(), 1)))


def _nifti(place: int, form: str, *values: float) -> Parts:
    header = bytearray(gzip.decompress(volume(".nii.gz")))
    struct.pack_into(form, header, place, *values)
    return parts_of(("a.nii.gz", gzip.compress(bytes(header))))


def _named(name: str, *, mode: int = 0) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name)
    member.filename = name
    member.external_attr = mode << 16
    return member


def _patched(old: bytes, new: bytes, *members: tuple[str, bytes]) -> Parts:
    """A zip file in which bytes are replaced by as many others."""
    assert len(old) == len(new)
    content = zip_of(*members, *((f"IM{number}", it) for number, it in enumerate(slices())))
    assert old in content
    return parts_of(("a.zip", content.replace(old, new)))


def _with_method(method: int) -> Parts:
    """A zip file whose first member says that it is packed by another method."""
    content = bytearray(zip_of(("a.dcm", slices()[0])))
    struct.pack_into("<H", content, 8, method)
    struct.pack_into("<H", content, content.index(b"PK\x01\x02") + 10, method)
    return parts_of(("a.zip", bytes(content)))


def _announcing(num_bytes: int, *, packed: bytes | None = None) -> Parts:
    """A zip file whose member announces another length."""
    content = bytearray(zip_of(("a.dcm", packed or slices()[0])))
    for place in (22, content.index(b"PK\x01\x02") + 24):
        struct.pack_into("<I", content, place, num_bytes)
    return parts_of(("a.zip", bytes(content)))


def _streamed(member: zipfile.ZipInfo, content: bytes) -> Parts:
    """A zip file as a pipe makes it: no length stands before a member, so that only the directory tells."""

    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def tell(self) -> int:
            raise OSError

        def seek(self, *_: int) -> int:
            raise OSError

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, content)
    return parts_of(("a.zip", pipe.getvalue()))


def _overlapping() -> Parts:
    """A zip file whose directory lists one member many times, as a bomb does."""
    content = zip_of(("a.dcm", slices()[0]))
    start, end = content.index(b"PK\x01\x02"), content.index(b"PK\x05\x06")
    entry = content[start:end]
    directory = b"".join(entry.replace(b"a.dcm", f"{number:02}dcm".encode()) for number in range(50))
    tail = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 50, 50, len(directory), start, 0)
    return parts_of(("a.zip", content[:start] + directory + tail))


def _truncated(content: bytes) -> bytes:
    return content[: len(content) * 2 // 3]


def _mhd(data_file: str, *names: str) -> Parts:
    header, _, voxels = volume(".mha").partition(b"ElementDataFile = LOCAL\n")
    files = [("a.mhd", header + f"ElementDataFile = {data_file}\n".encode())]
    return parts_of(*files, *((name, voxels) for name in names))


def _last(content: bytes, old: bytes, new: bytes) -> bytes:
    head, _, tail = content.rpartition(old)
    return head + new + tail


def _flagged(content: bytes, flag: int) -> bytes:
    changed = bytearray(content)
    struct.pack_into("<H", changed, 6, flag)
    struct.pack_into("<H", changed, changed.index(b"PK\x01\x02") + 8, flag)
    return bytes(changed)


def _of_10_gb() -> bytes:
    """A zip64 file whose only member, of 9.7 MB, announces 10 GB: as long as DEFLATE allows."""
    num_bytes, packed = 10 * 10**9, b"\0" * 9_700_000
    extra = struct.pack("<HHQQ", 1, 16, num_bytes, len(packed))
    head = struct.pack("<4s5H3I2H", b"PK\x03\x04", 45, 0, 8, 0, 0, 0, 0xFFFFFFFF, 0xFFFFFFFF, 7, len(extra))
    return head + b"doe.dcm" + extra + packed


def _patched_content() -> Parts:
    content = zip_of(("a.dcm", slices()[0]), compression=zipfile.ZIP_STORED)
    return parts_of(("a.zip", content.replace(b"MONOCHROME2", b"MONOCHROME1")))


def _of_another_series() -> bytes:
    dataset = pydicom.dcmread(io.BytesIO(slices()[0]))
    dataset.SeriesInstanceUID, dataset.SOPInstanceUID = "1.2.840.6", "1.2.840.6.1"
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.840.6.1"
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    return buffer.getvalue()


def _npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, random_hounsfield(_SIZE_IRC))
    return buffer.getvalue()


def _bad_position() -> Parts:
    """A position with letters, of the length of the right one."""
    dataset = pydicom.dcmread(io.BytesIO(slices()[2]))
    position = "\\".join(str(value) for value in dataset.ImagePositionPatient).encode()
    assert slices()[2].count(position) == 1
    return _series(slices()[2].replace(position, (HTML.encode() * 2)[: len(position)]))


ACCEPTED: dict[str, Callable[[], Parts]] = {
    "zip": zipped,
    "dicom": dicom,
    "mha": lambda: parts_of(("a.mha", volume(".mha"))),
    "nrrd": lambda: parts_of(("a.nrrd", volume(".nrrd"))),
    "nii": lambda: parts_of(("a.nii.gz", volume(".nii.gz"))),
    "mhd": lambda: _mhd(f"{PATIENT}.raw", "a.raw"),
    "streamed zip": lambda: _streamed(zipfile.ZipInfo("a.mha"), volume(".mha")),
}

_ZEROS = b"\0" * (8 << 20)
ZIPS: dict[str, Callable[[], Parts]] = {
    "zip that is none": lambda: parts_of(("a.zip", b"Jane Doe" * 100)),
    "zip without members": lambda: parts_of(("a.zip", zip_of())),
    "zip of 0 bytes": lambda: parts_of(("a.zip", b"")),
    "truncated zip": lambda: parts_of(("a.zip", _truncated(zip_of(("a.dcm", slices()[0]))))),
    "zip without its directory": lambda: parts_of(("a.zip", zip_of(("a.dcm", slices()[0])).split(b"PK\x01\x02")[0])),
    "bytes behind a zip": lambda: parts_of(("a.zip", zip_of(("a.dcm", slices()[0])) + b"x" * 5000)),
    "traversal": lambda: zipped((_named(f"../../{PATIENT}.dcm"), b"x")),
    "traversal in the middle": lambda: zipped((_named("a/../../b.dcm"), b"x")),
    "absolute name": lambda: zipped((_named("/etc/cron.d/doe"), b"x")),
    "backslashes": lambda: zipped((_named("..\\..\\doe.dcm"), b"x")),
    "drive": lambda: zipped((_named("C:doe.dcm"), b"x")),
    "control characters": lambda: zipped((_named("doe\x1b[2J.dcm"), b"x")),
    "NUL in a name": lambda: _patched(b"doe_x", b"doe\0x", ("doe_x", b"x")),
    "traversal in the directory alone": lambda: (
        _patched(b"PK\x01\x02", b"PK\x01\x02", ("dd/doe", b"x"))
        and parts_of(("a.zip", _last(zip_of(("dd/doe", b"x"), ("a.dcm", slices()[0])), b"dd/doe", b"../doe")))
    ),
    "symbolic link": lambda: zipped((_named("doe.dcm", mode=stat.S_IFLNK | 0o777), b"/etc/passwd")),
    "device": lambda: zipped((_named("doe.dcm", mode=stat.S_IFCHR | 0o600), b"")),
    "FIFO": lambda: zipped((_named("doe.dcm", mode=stat.S_IFIFO | 0o600), b"")),
    "encrypted": lambda: parts_of(("a.zip", _flagged(zip_of(("doe.dcm", b"x" * 100)), 1))),
    "Deflate64": lambda: _with_method(9),
    "LZMA": lambda: zipped(compression=zipfile.ZIP_LZMA),
    "BZIP2": lambda: zipped(compression=zipfile.ZIP_BZIP2),
    "unknown method": lambda: _with_method(200),
    "nested zip": lambda: zipped(("doe.zip", zip_of(("a.dcm", slices()[0])))),
    "nested zip in disguise": lambda: zipped(("doe.dcm", zip_of(("a.dcm", slices()[0])))),
    "nested 7z in disguise": lambda: zipped(("doe", b"7z\xbc\xaf\x27\x1c" + b"\0" * 100)),
    "nested tar": lambda: zipped(("doe.tar.gz", b"\x1f\x8b" + b"\0" * 100)),
    "bomb": lambda: zipped(("doe.dcm", _ZEROS)),
    "streamed bomb": lambda: _streamed(zipfile.ZipInfo("doe.dcm"), _ZEROS),
    "bomb of 10 GB": lambda: parts_of(("a.zip", _of_10_gb())),
    "overlapping members": _overlapping,
    "more bytes than announced": lambda: _announcing(100),
    "fewer bytes than announced": lambda: _announcing(2000),
    "other content than announced": _patched_content,
    "too many members": lambda: zipped(*((f"{number}.txt", b"x") for number in range(MAX_FILES + 1))),
    "a name twice over two series": lambda: zipped(("a/1.dcm", _of_another_series())),
    "folders alone": lambda: parts_of(("a.zip", zip_of(("a/", b""), ("a/b/", b"")))),
    "text alone": lambda: parts_of(("a.zip", zip_of(("readme.txt", b"Jane Doe")))),
    "two zips of one series": lambda: parts_of(
        ("a.zip", zip_of(*((f"{number}.dcm", it) for number, it in enumerate(slices()[:3])))),
        ("b.zip", zip_of(*((f"{number}.dcm", it) for number, it in enumerate(slices()[3:])))),
    ),
    "streamed traversal": lambda: _streamed(_named("../doe.dcm"), slices()[0]),
}


VOLUMES: dict[str, Callable[[], Parts]] = {
    "mha of HTML": lambda: parts_of(("a.mha", HTML.encode())),
    "mha of 0 bytes": lambda: parts_of(("a.mha", b"")),
    "truncated mha": lambda: parts_of(("a.mha", _truncated(volume(".mha")))),
    "mha with half a header": lambda: parts_of(("a.mha", volume(".mha")[:60])),
    "mha of huge dimensions": lambda: text(".mha", "DimSize = 10 8 6", "DimSize = 100000 100000 100000"),
    "mha of negative dimensions": lambda: text(".mha", "DimSize = 10 8 6", "DimSize = -10 8 6"),
    "mha without dimensions": lambda: text(".mha", "DimSize = 10 8 6\n", ""),
    "mha with a NaN spacing": lambda: text(".mha", "ElementSpacing = 0.69999999999999996", "ElementSpacing = nan"),
    "mha with a spacing of 0": lambda: text(".mha", "ElementSpacing = 0.69999999999999996", "ElementSpacing = 0"),
    "mha with two dimensions": lambda: text(".mha", "NDims = 3", "NDims = 2"),
    "mha of another type": lambda: text(".mha", "MET_SHORT", SQL),
    "mha with voxels elsewhere": lambda: text(".mha", "LOCAL", "/etc/passwd"),
    "mha with voxels above": lambda: text(".mha", "LOCAL", "../../jobs.sqlite"),
    "mhd without raw": lambda: _mhd("a.raw"),
    "mhd with a list of files": lambda: _mhd("LIST", "a.raw"),
    "mhd with a pattern of files": lambda: _mhd("%03d.raw 1 6 1", "a.raw"),
    "mhd with two raws": lambda: _mhd("a.raw", "a.raw", "b.raw"),
    "mha with a raw": lambda: parts_of(("a.mha", volume(".mha")), ("a.raw", b"x")),
    "raw alone": lambda: parts_of((f"{PATIENT}.raw", b"\0" * 960)),
    "nrrd of SQL": lambda: parts_of(("a.nrrd", SQL.encode())),
    "truncated nrrd": lambda: parts_of(("a.nrrd", _truncated(volume(".nrrd")))),
    "nrrd with voxels elsewhere": lambda: text(".nrrd", "encoding: raw", "encoding: raw\ndata file: /etc/passwd"),
    "nrrd with voxels of another name": lambda: text(".nrrd", "encoding: raw", "encoding: raw\ndata file: doe.raw"),
    "nrrd of huge dimensions": lambda: text(".nrrd", "sizes: 10 8 6", "sizes: 99999999 99999999 99999999"),
    "nrrd of text": lambda: text(".nrrd", "encoding: raw", "encoding: ascii"),
    "nrrd with unknown fields": lambda: text(".nrrd", "encoding: raw", f"patient doe: {HTML}\nencoding: raw"),
    "nii.gz that is none": lambda: parts_of(("a.nii.gz", b"Jane Doe" * 100)),
    "truncated nii.gz": lambda: parts_of(("a.nii.gz", _truncated(volume(".nii.gz")))),
    "nii.gz of huge dimensions": lambda: _nifti(40, "<4h", 3, 32767, 32767, 32767),
    "nii.gz of five dimensions": lambda: _nifti(40, "<6h", 5, 10, 8, 6, 7, 7),
    "nii.gz of colours": lambda: _nifti(70, "<2h", 128, 24),
    "nii.gz with a NaN spacing": lambda: _nifti(80, "<f", float("nan")),
    "nii.gz bomb": lambda: parts_of(("a.nii.gz", gzip.compress(_ZEROS))),
    "two volumes": lambda: parts_of(("a.mha", volume(".mha")), ("b.nrrd", volume(".nrrd"))),
    "volume and series": lambda: [*dicom(), *parts_of(("a.mha", volume(".mha")))],
    "picture": lambda: parts_of(("a.png", b"\x89PNG\r\n\x1a\n" + b"\0" * 200)),
    "program": lambda: parts_of(("a.exe", b"MZ" + b"\0" * 200)),
    "pickle": lambda: parts_of(("a.pkl", b"cos\nsystem\n(S'touch /tmp/doe'\ntR.")),
    "array": lambda: parts_of(("a.npy", _npy())),
    "tar": lambda: parts_of(("a.tar", b"\0" * 1024)),
    "7z": lambda: parts_of(("a.7z", b"7z\xbc\xaf\x27\x1c")),
    "hidden file": lambda: parts_of((".mha", volume(".mha"))),
}


SERIES: dict[str, Callable[[], Parts]] = {
    "truncated slice": lambda: _series(_truncated(slices()[2])),
    "slice of 0 bytes": lambda: _series(b""),
    "slice of HTML": lambda: _series(HTML.encode()),
    "slice is missing": lambda: [part for number, part in enumerate(dicom()) if number != 2],
    "one slice": lambda: dicom()[:1],
    "slice twice at a place": lambda: dicom(ImagePositionPatient=[-50, -40, -300]),
    "MR": lambda: all_slices(Modality="MR"),
    "SQL as modality": lambda: all_slices(Modality=SQL[:16]),
    "HTML as series uid": lambda: all_slices(SeriesInstanceUID=HTML),
    "path as series uid": lambda: all_slices(SeriesInstanceUID="../../doe"),
    "no position": lambda: dicom(ImagePositionPatient=None),
    "no pixel spacing": lambda: dicom(PixelSpacing=None),
    "HTML as position": _bad_position,
    "no pixels": lambda: dicom(PixelData=None),
    "pixels are missing": lambda: dicom(PixelData=b"\0\0" * 7),
    "no rows": lambda: dicom(Rows=None),
    "huge image": lambda: all_slices(Rows=65535, Columns=65535),
    "8 bits": lambda: dicom(BitsAllocated=8, BitsStored=8, HighBit=7),
    "colours": lambda: dicom(PhotometricInterpretation="RGB", SamplesPerPixel=3),
    "other orientation": lambda: dicom(ImageOrientationPatient=[0, 1, 0, 1, 0, 0]),
    "two series": lambda: [*dicom(), *parts_of(("b.dcm", _of_another_series()))],
    "too many files": lambda: parts_of(*[(f"{number}.dcm", b"x") for number in range(MAX_FILES + 1)]),
    "DICOMDIR alone": lambda: parts_of(("DICOMDIR", slices()[0])),
}
