"""Copies of a DICOM series with one fault each."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import pydicom
from pydicom.uid import UID, ImplicitVRLittleEndian, MRImageStorage, SecondaryCaptureImageStorage, generate_uid

from benchmarks.damaged_scan import NUM_SLICES, Shifts, as_bytes, edited

Files = Sequence[bytes]
Damage = Callable[[Files], Files]

MIDDLE = NUM_SLICES // 2
ALL = tuple(range(NUM_SLICES))
OTHER_UID = "1.2.826.0.1.3680043.8.498.19"


def copies() -> Iterator[tuple[str, str, Damage]]:
    """Yield fault, variant and damage of each copy."""
    for faults in (_missing, _doubled, _shuffled, _uneven, _tilted, _flipped, _mixed, _truncated, _values, _kinds):
        yield from faults()


def _missing() -> Iterator[tuple[str, str, Damage]]:
    for name, places in {
        "the second": {1},
        "the middle one": {MIDDLE},
        "the last but one": {NUM_SLICES - 2},
        "two in the middle": {MIDDLE, MIDDLE + 1},
        "two apart": {5, 17},
        "every second of the upper half": set(range(MIDDLE, NUM_SLICES, 2)),
    }.items():
        yield "missing slice", name, _without(places)
    yield "missing slice", "the first and the last", _without({0, NUM_SLICES - 1})
    yield "few slices", "none of the series' images", lambda files: [b"no DICOM"]
    for number in (1, 2, 20):
        yield "few slices", f"{number} of {NUM_SLICES}", _without(set(ALL[number:]))


def _doubled() -> Iterator[tuple[str, str, Damage]]:
    yield "doubled slice", "the same file twice", lambda files: [*files, files[MIDDLE]]
    yield "doubled slice", "every file twice", lambda files: [*files, *files]
    yield "doubled slice", "another SOP Instance UID", _added(MIDDLE, SOPInstanceUID=OTHER_UID)
    yield "doubled slice", "another image at its place", _added(MIDDLE, SOPInstanceUID=OTHER_UID, PixelData=_blank)
    yield "doubled slice", "another image with its UID", _added(MIDDLE, PixelData=_blank)
    yield "doubled slice", "at the first place", _added(0, SOPInstanceUID=OTHER_UID, InstanceNumber=99)
    yield "doubled slice", "the whole series as a second acquisition", _second_acquisition


def _shuffled() -> Iterator[tuple[str, str, Damage]]:
    order = np.random.default_rng(1).permutation(NUM_SLICES)
    yield "shuffled slices", "file names", lambda files: [files[place] for place in order]
    yield "shuffled slices", "file names in reverse", lambda files: files[::-1]
    numbers = {place: {"InstanceNumber": int(number) + 1} for place, number in enumerate(order)}
    yield "shuffled slices", "instance numbers", _each(numbers)
    yield "shuffled slices", "all instance numbers 1", _all(InstanceNumber=1)
    yield "shuffled slices", "no instance numbers", _all(InstanceNumber=None)
    for first, second in ((MIDDLE, MIDDLE + 1), (3, 20)):
        yield "shuffled slices", f"positions of {first} and {second} swapped", _swapped(first, second)
    yield "shuffled slices", "slice locations", _each({k: {"SliceLocation": float(v)} for k, v in enumerate(order)})


def _uneven() -> Iterator[tuple[str, str, Damage]]:
    for mm in (0.05, 0.3, 1.0, 2.4):
        yield "uneven slices", f"one {mm} mm too high", _Moved({MIDDLE: (0, 0, mm)})
    yield "uneven slices", "the last 5 mm too high", _Moved({NUM_SLICES - 1: (0, 0, 5)})
    half = {place: (0, 0, 0.3 * (place - MIDDLE)) for place in ALL[MIDDLE:]}
    yield "uneven slices", "wider from the middle on", _Moved(half)
    bent = {place: (0, 0, 0.0095 * min(place, NUM_SLICES - 1 - place)) for place in ALL}
    yield "uneven slices", "0.01 mm wider to the middle, then narrower", _Moved(bent)
    noise = np.random.default_rng(2).normal(0, 0.2, NUM_SLICES)
    yield "uneven slices", "0.2 mm noise", _Moved({place: (0, 0, mm) for place, mm in enumerate(noise)})
    yield "uneven slices", "rounded to whole mm", _rounded_positions
    yield "uneven slices", "slice thickness 1 mm instead of 2.5 mm", _all(SliceThickness=1.0)
    yield "uneven slices", "no slice thickness", _all(SliceThickness=None)


def _tilted() -> Iterator[tuple[str, str, Damage]]:
    for degrees in (0.2, 1, 10, -20):
        shift = {place: (0, 2.5 * place * float(np.tan(np.deg2rad(degrees))), 0) for place in ALL}
        yield "tilted gantry", f"{degrees} degrees", _Moved(shift)
    yield "tilted gantry", "shifted to the side", _Moved({place: (0.5 * place, 0, 0) for place in ALL})
    yield "tilted gantry", "one slice 2 mm aside", _Moved({MIDDLE: (2.0, 0, 0)})
    yield "tilted gantry", "the middle bent by 1 mm", _Moved({place: (0, 1.0, 0) for place in ALL[8:16]})
    yield "tilted gantry", "orientation of one slice", _each({MIDDLE: {"ImageOrientationPatient": _turned(5)}})
    yield "tilted gantry", "orientation of all, positions as before", _all(ImageOrientationPatient=_turned(10))


def _flipped() -> Iterator[tuple[str, str, Damage]]:
    yield "flipped axes", "one slice", _each({MIDDLE: {"ImageOrientationPatient": [-1, 0, 0, 0, 1, 0]}})
    yield "flipped axes", "rows and columns, header too", _mirrored(rows=True, cols=True)
    yield "flipped axes", "columns, header too", _mirrored(rows=False, cols=True)
    yield "flipped axes", "orientation of zeros", _all(ImageOrientationPatient=[0, 0, 0, 0, 0, 0])
    yield "flipped axes", "both cosines along x", _all(ImageOrientationPatient=[1, 0, 0, 1, 0, 0])


def _mixed() -> Iterator[tuple[str, str, Damage]]:
    yield "mixed series", "a second series", lambda files: [*files, *_second_series(files)]
    yield "mixed series", "one slice of another series", _each({MIDDLE: {"SeriesInstanceUID": OTHER_UID}})
    yield (
        "mixed series",
        "upper half of another series",
        _each({place: {"SeriesInstanceUID": OTHER_UID} for place in ALL[MIDDLE:]}),
    )
    yield "mixed series", "another series, interleaved, with its UID", _interleaved
    yield "mixed series", "one slice of another size", _each({MIDDLE: {"Rows": 64, "PixelData": _half}})
    yield "mixed series", "one slice of another pixel spacing", _each({MIDDLE: {"PixelSpacing": [3.0, 3.0]}})
    yield "mixed series", "one slice without series UID", _each({MIDDLE: {"SeriesInstanceUID": None}})
    yield (
        "mixed series",
        "a localizer with its UID",
        _added(MIDDLE, SOPInstanceUID=OTHER_UID, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
    )
    yield (
        "mixed series",
        "a dose report with its UID",
        _added(MIDDLE, SOPInstanceUID=OTHER_UID, Modality="SR", SOPClassUID="1.2.840.10008.5.1.4.1.1.88.67"),
    )


def _truncated() -> Iterator[tuple[str, str, Damage]]:
    for name, share in (("half", 0.5), ("to a tenth", 0.1), ("to its preamble", 0.004), ("to nothing", 0.0)):
        yield (
            "truncated file",
            f"the middle one, {name}",
            _cut(_share(share)),
        )
    yield "truncated file", "the last byte", _cut(lambda data: data[:-1])
    yield "truncated file", "the last row", _cut(lambda data: data[:-256])
    yield "truncated file", "no pixels", _each({MIDDLE: {"PixelData": None}})
    yield "truncated file", "pixels of half the rows", _each({MIDDLE: {"PixelData": _half}})
    yield "truncated file", "a text in its place", _cut(lambda data: b"<html>404 Not Found</html>" * 500)
    yield "truncated file", "zeros in its second half", _cut(lambda data: data[:400] + bytes(len(data) - 400))
    yield "truncated file", "wrong transfer syntax", _cut(_with_wrong_syntax)


def _values() -> Iterator[tuple[str, str, Damage]]:
    for value in ("0", "2", "10", "-1", None):
        yield "wrong slope", f"slope {value or 'missing'}", _all(RescaleSlope=value)
    for value in ("0", "1024", None):
        yield "wrong slope", f"intercept {value or 'missing'}", _all(RescaleIntercept=value)
    yield "wrong slope", "intercept 0 in one slice", _each({MIDDLE: {"RescaleIntercept": "0"}})
    yield "wrong slope", "slope 2 in one slice", _each({MIDDLE: {"RescaleSlope": "2"}})
    yield "wrong slope", "slope not a number", _cut(_with_text_slope)
    yield "wrong geometry", "pixel spacing 0", _all(PixelSpacing=[0, 0])
    yield "wrong geometry", "pixel spacing missing", _all(PixelSpacing=None)
    yield "wrong geometry", "pixel spacing negative", _all(PixelSpacing=[-3.28125, 3.28125])
    yield "wrong geometry", "pixel spacing in metres", _all(PixelSpacing=[0.00328125, 0.00328125])
    yield "wrong geometry", "one position missing", _each({MIDDLE: {"ImagePositionPatient": None}})
    yield "wrong geometry", "all positions missing", _all(ImagePositionPatient=None)
    yield "wrong geometry", "all positions equal", _all(ImagePositionPatient=[0, 0, 0])
    yield "wrong geometry", "orientation missing", _all(ImageOrientationPatient=None)
    yield "wrong geometry", "rows and columns swapped in one slice", _each({MIDDLE: {"Rows": 64, "Columns": 256}})
    yield "wrong pixels", "8 bits allocated", _all(BitsAllocated=8, BitsStored=8, HighBit=7)
    yield "wrong pixels", "three samples a pixel", _all(SamplesPerPixel=3)
    yield "wrong pixels", "stored inverted", _all(PhotometricInterpretation="MONOCHROME1")


def _kinds() -> Iterator[tuple[str, str, Damage]]:
    yield "no CT", "MR", _all(Modality="MR", SOPClassUID=MRImageStorage)
    yield "no CT", "MR by its class only", _all(SOPClassUID=MRImageStorage)
    yield "no CT", "PET", _all(Modality="PT", SOPClassUID="1.2.840.10008.5.1.4.1.1.128")
    yield "no CT", "localizer", _all(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    yield "no CT", "secondary capture", _all(Modality="OT", SOPClassUID=SecondaryCaptureImageStorage)


def _without(places: set[int]) -> Damage:
    return lambda files: [data for place, data in enumerate(files) if place not in places]


def _values_for(data: bytes, values: dict[str, Any]) -> dict[str, Any]:
    return {key: value(pydicom.dcmread(BytesIO(data))) if callable(value) else value for key, value in values.items()}


def _each(values: dict[int, dict[str, Any]]) -> Damage:
    def damage(files: Files) -> Files:
        return [
            edited(data, **_values_for(data, values[place])) if place in values else data
            for place, data in enumerate(files)
        ]

    return damage


def _all(**values: Any) -> Damage:
    return _each(dict.fromkeys(ALL, values))


def _added(place: int, **values: Any) -> Damage:
    return lambda files: [*files, edited(files[place], **_values_for(files[place], values))]


def _cut(change: Callable[[bytes], bytes]) -> Damage:
    return lambda files: [change(data) if place == MIDDLE else data for place, data in enumerate(files)]


@dataclass(frozen=True)
class _Moved:
    """Moves slices by (x, y, z) mm: their positions are the truth."""

    shifts_mm: Shifts

    def __call__(self, files: Files) -> Files:
        def moved(data: bytes, shift: tuple[float, float, float]) -> bytes:
            position = [float(value) + mm for value, mm in zip(_position(data), shift, strict=True)]
            return edited(data, ImagePositionPatient=[f"{value:.6f}" for value in position])

        return [moved(data, self.shifts_mm[k]) if k in self.shifts_mm else data for k, data in enumerate(files)]


def _position(data: bytes) -> Any:
    return pydicom.dcmread(BytesIO(data)).ImagePositionPatient


def _swapped(first: int, second: int) -> Damage:
    def damage(files: Files) -> Files:
        changed = list(files)
        changed[first] = edited(files[first], ImagePositionPatient=_position(files[second]))
        changed[second] = edited(files[second], ImagePositionPatient=_position(files[first]))
        return changed

    return damage


def _rounded_positions(files: Files) -> Files:
    return [edited(data, ImagePositionPatient=[round(float(mm)) for mm in _position(data)]) for data in files]


def _second_series(files: Files) -> Files:
    return [edited(data, SeriesInstanceUID=OTHER_UID, SOPInstanceUID=generate_uid()) for data in files]


def _second_acquisition(files: Files) -> Files:
    others = [
        edited(data, AcquisitionNumber=2, SOPInstanceUID=generate_uid(), PixelData=_blank_of(data)) for data in files
    ]
    return [*files, *others]


def _interleaved(files: Files) -> Files:
    others = _Moved({place: (0, 0, 1.0) for place in ALL})(files)
    return [*files, *(edited(data, SOPInstanceUID=generate_uid()) for data in others)]


def _mirrored(*, rows: bool, cols: bool) -> Damage:
    """Mirror pixels, and orientation and position with them: the same CT, told otherwise."""

    def damage(files: Files) -> Files:
        changed = []
        for data in files:
            dataset = pydicom.dcmread(BytesIO(data))
            pixels, (x, y, z) = dataset.pixel_array, (float(value) for value in dataset.ImagePositionPatient)
            row_mm, col_mm = (float(value) for value in dataset.PixelSpacing)
            position = [x + cols * col_mm * (dataset.Columns - 1), y + rows * row_mm * (dataset.Rows - 1), z]
            mirrored = pixels[:: -1 if rows else 1, :: -1 if cols else 1]
            orientation = [-1 if cols else 1, 0, 0, 0, -1 if rows else 1, 0]
            pixel_data = np.ascontiguousarray(mirrored).tobytes()
            tags = {"ImagePositionPatient": position, "ImageOrientationPatient": orientation}
            changed.append(edited(data, PixelData=pixel_data, **tags))
        return changed

    return damage


def _turned(degrees: float) -> list[float]:
    cos, sin = float(np.cos(np.deg2rad(degrees))), float(np.sin(np.deg2rad(degrees)))
    return [1, 0, 0, 0, round(cos, 8), round(sin, 8)]


def _blank(dataset: pydicom.Dataset) -> bytes:
    return bytes(len(dataset.PixelData))


def _blank_of(data: bytes) -> bytes:
    return _blank(pydicom.dcmread(BytesIO(data)))


def _half(dataset: pydicom.Dataset) -> bytes:
    return bytes(dataset.PixelData[: len(dataset.PixelData) // 2])


def _share(share: float) -> Callable[[bytes], bytes]:
    return lambda data: data[: int(share * len(data))]


def _with_text_slope(data: bytes) -> bytes:
    tag = b"\x28\x00\x53\x10DS\x02\x00"
    start = data.index(tag) + len(tag)
    return data[:start] + b"x " + data[start + 2 :]


def _with_wrong_syntax(data: bytes) -> bytes:
    dataset = pydicom.dcmread(BytesIO(data))
    syntax = str(dataset.file_meta.TransferSyntaxUID).encode()
    wrong = str(UID(ImplicitVRLittleEndian)).encode().ljust(len(syntax), b"\0")
    return as_bytes(dataset).replace(syntax, wrong, 1)
