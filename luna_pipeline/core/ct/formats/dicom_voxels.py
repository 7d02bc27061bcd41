"""Voxels of ordered DICOM slices in HU: one rule for every transfer syntax.

Stored numbers, whether plain, deflated or packed, become HU by RescaleSlope and RescaleIntercept alone.
PhotometricInterpretation says how an image is displayed: MONOCHROME1 is not inverted.

Padding: a voxel whose stored number is PixelPaddingValue, or lies between it and PixelPaddingRangeLimit, was not
measured. Values of -1000 HU and below stay as they are, since cutting turns them into air. Higher ones become
``PADDING_HU``: all of them if they are above what 12 bits can measure (3071 HU); otherwise those that are connected
with the image's border, where scanners write padding, because tissue may have the same number.

Source:
    DICOM PS3.3, C.7.5.1.1.2 (Pixel Padding Value), C.11.1 (Modality LUT).
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.ct.errors import UnreadableCtError
from luna_pipeline.core.ct.formats.dicom_slices import DicomSlice
from luna_pipeline.core.ct.formats.dicom_unpacking import decode_in_process, inflate
from luna_pipeline.core.ct.hounsfield import to_hounsfield
from luna_pipeline.core.storage.regular_files import open_regular

PADDING_HU = -2048
_AIR_HU, _HIGHEST_MEASURED_HU = -1000, 3071
# Far above any intercept; its sum with a stored number still fits into 32 bits.
_LARGE = 2**30
# Another rule must fit better by so much before a slice is refused: rounding and noise explain less.
_RESCALE_MARGIN_HU = 1.0
_EVERY_NTH_VOXEL = 7


def read_slice_voxels(slices: Sequence[DicomSlice], *, series_instance_uid: str) -> NDArray[np.int16]:
    """Read slices in the order given, each with its own rescale slope and intercept.

    Returns:
        HU, shape (I, R, C).

    Raises:
        UnreadableCtError: If pixels do not unpack, or a slice fits its neighbour better by the neighbour's slope and
            intercept than by its own.
    """
    buffer = np.empty((len(slices), *slices[0].size_rc), dtype=np.int16)
    packed = [place for place, item in enumerate(slices) if item.pixels.syntax]
    for place, stored in chain(
        _read_plain(slices), _read_packed(slices, packed, series_instance_uid=series_instance_uid)
    ):
        buffer[place] = _hounsfield(stored, slices[place])
    _check_rescale(slices, buffer)
    return buffer


def _read_plain(slices: Sequence[DicomSlice]) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield the stored numbers of images that are uncompressed, or part of a deflated stream, with their places."""
    by_path: dict[Path, list[int]] = defaultdict(list)
    for place, item in enumerate(slices):
        if not item.pixels.syntax:
            by_path[item.path].append(place)
    for path, places in by_path.items():
        # A stream has no index: it is unpacked once for all images in it.
        stream_start = slices[places[0]].pixels.stream_start
        content = None
        if stream_start is not None:
            content = inflate(path, stream_start, max(_end_of(slices[place]) for place in places))
        for place in places:
            yield place, _stored_numbers(slices[place], content)


def _end_of(item: DicomSlice) -> int:
    return item.pixels.first_byte + math.prod(item.size_rc) * item.storage.num_bits // 8


def _stored_numbers(item: DicomSlice, content: bytes | None) -> NDArray[Any]:
    """Return the stored numbers, shape (R, C), from the unpacked content, or from the file where there is none."""
    count, start = math.prod(item.size_rc), item.pixels.first_byte
    if content is None:
        with open_regular(item.path) as file:
            file.seek(start)
            stored = np.fromfile(file, item.storage.dtype, count=count)
    else:
        stored = np.frombuffer(content[start : _end_of(item)], item.storage.dtype)
    if stored.size != count:
        rule = f"An image must hold {count} pixels, got {stored.size} ({item.name}, series {item.series_instance_uid})."
        raise UnreadableCtError(f"{rule} Copy the file again.")
    return stored.reshape(item.size_rc)


def _read_packed(
    slices: Sequence[DicomSlice], places: Sequence[int], *, series_instance_uid: str
) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield the stored numbers of packed images with their places among the slices, file by file."""
    if not places:
        return
    order = sorted(places, key=lambda place: (str(slices[place].path), slices[place].frame or 0))
    files: list[dict[str, Any]] = []
    for place in order:
        item = slices[place]
        if not files or files[-1]["path"] != str(item.path):
            files.append(_decoder_request(item))
        files[-1]["frames"].append(item.frame or 0)
    yield from zip(order, decode_in_process(files, series_instance_uid=series_instance_uid), strict=True)


def _decoder_request(item: DicomSlice) -> dict[str, Any]:
    """Return what ``dicom_decoder.decoded_frames`` needs to know of a file, without its frames."""
    return {
        "path": str(item.path),
        "first_byte": item.pixels.first_byte,
        "num_frames": item.pixels.num_frames,
        "frames": [],
        "syntax": item.pixels.syntax,
        "size_rc": item.size_rc,
        "num_bits": item.storage.num_bits,
        "num_used_bits": item.storage.num_used_bits,
        "is_signed": item.storage.dtype[1] == "i",
        "dtype": item.storage.dtype,
    }


def _hounsfield(stored: NDArray[Any], item: DicomSlice) -> NDArray[np.int16]:
    """Convert the stored numbers of one image to HU."""
    # Unused upper bits may hold anything; shifting left and right also extends the sign.
    num_unused_bits = 8 * stored.dtype.itemsize - item.storage.num_used_bits
    values = (stored << num_unused_bits) >> num_unused_bits if num_unused_bits else stored
    slope, intercept = item.rescale
    if slope == 1 and intercept.is_integer() and abs(intercept) < _LARGE and stored.dtype.itemsize == 2:
        # The same result in integers, many times as fast.
        whole = np.add(values, int(intercept), dtype=np.int32)
        hounsfield = to_hounsfield(whole, series_instance_uid=item.series_instance_uid)
    else:
        hounsfield = to_hounsfield(values * slope + intercept, series_instance_uid=item.series_instance_uid)
    return hounsfield if item.padding is None else _without_padding(hounsfield, stored, values, item)


def _without_padding(
    hounsfield: NDArray[np.int16], stored: NDArray[Any], values: NDArray[Any], item: DicomSlice
) -> NDArray[np.int16]:
    """Return the HU with padding above -1000 HU replaced."""
    assert item.padding is not None
    lowest, highest = item.padding
    is_signed = item.storage.dtype[1] == "i"
    limit = 1 << (item.storage.num_used_bits - is_signed)
    is_within_used_bits = (-limit if is_signed else 0) <= lowest and highest < limit
    slope, intercept = item.rescale
    padding_hu = [number * slope + intercept for number in (lowest, highest)]
    if is_within_used_bits and max(padding_hu) <= _AIR_HU:
        return hounsfield
    # Padding that needs more bits than measurements do is told by all bits of the word.
    numbers = values if is_within_used_bits else stored
    is_padding = (numbers >= lowest) & (numbers <= highest) & (hounsfield > _AIR_HU)
    if not is_padding.any():
        return hounsfield
    if is_within_used_bits and min(padding_hu) <= _HIGHEST_MEASURED_HU:
        is_padding = _connected_with_border(is_padding)
    return np.where(is_padding, np.int16(PADDING_HU), hounsfield)


def _connected_with_border(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the parts of a mask, shape (R, C), that reach the border."""
    from scipy.ndimage import label

    labels, _ = label(mask)
    at_border = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    return np.asarray(np.isin(labels, at_border[at_border > 0]))


def _check_rescale(slices: Sequence[DicomSlice], hounsfield: NDArray[np.int16]) -> None:
    """Refuse slopes and intercepts that differ between slices without a reason.

    They may differ: some scanners use the range of their numbers slice by slice. Neighbouring slices show nearly the
    same anatomy, so each slice's own rule must bring it closer to its neighbour than the neighbour's rule would. A
    header that was damaged in some slices fails this.

    Raises:
        UnreadableCtError: If it does not.
    """
    for place in range(1, len(slices)):
        lower, upper = slices[place - 1], slices[place]
        if lower.rescale == upper.rescale:
            continue
        neighbour, own = (hounsfield[index].ravel()[::_EVERY_NTH_VOXEL].astype(float) for index in (place - 1, place))
        (lower_slope, lower_intercept), (slope, intercept) = lower.rescale, upper.rescale
        other = (own - intercept) / slope * lower_slope + lower_intercept
        own_hu, other_hu = np.abs(own - neighbour).mean(), np.abs(other - neighbour).mean()
        if own_hu > other_hu + _RESCALE_MARGIN_HU:
            raise UnreadableCtError(
                f"RescaleSlope and RescaleIntercept may differ between slices only if HU then agree, got {slope:g} and "
                f"{intercept:g} beside {lower_slope:g} and {lower_intercept:g}: HU differ by {own_hu:.4g} on average, "
                f"and by {other_hu:.4g} under one rule ({upper.name} and {lower.name}, series "
                f"{upper.series_instance_uid}). Restore the headers of the series."
            )
