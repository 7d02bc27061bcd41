"""Program that unpacks the encapsulated frames of DICOM files (RLE, JPEG lossless, JPEG-LS, JPEG 2000).

It runs as a process of its own, with limits of memory and time: decoders are C code, and a malformed frame may crash
them or keep them busy for ever. It imports nothing of the project, so that it starts in a fraction of a second.

The request is JSON on standard input: ``num_memory_bytes``, ``limit_s`` and ``files``, for each of which
``decoded_frames`` names the keys. The stored numbers are written to standard output, frame by frame. The last line of
standard error is the reason of a failure.

Source:
    DICOM PS3.5, annex A.4 (encapsulation), 8.2 (pixel data); ITU-T T.81 B.2.2, T.87 C.2.2 (frame headers of JPEG and
    JPEG-LS), T.800 A.5.1 (SIZ of JPEG 2000).
"""

import json
import os
import struct
import sys
import warnings
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

RLE_LOSSLESS = "1.2.840.10008.1.2.5"
_JPEG_2000 = ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91")
_JPEG_2000_START = b"\xff\x4f\xff\x51"
# SOF markers of JPEG, and of JPEG-LS (F7); C4, C8 and CC are other segments.
_JPEG_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}


class Codestream(NamedTuple):
    """What the header of a packed frame says itself."""

    size_rc: tuple[int, int]
    num_channels: int
    num_bits: int
    is_signed: bool


def decoded_frames(file: dict[str, Any]) -> Iterator[NDArray[Any]]:
    """Yield the chosen frames of one file, shape (R, C), as the stored numbers of type ``dtype``.

    Args:
        file: ``path``; ``first_byte`` of the encapsulated value; ``num_frames`` in the file; ``frames``, the numbers of
            the chosen ones, rising; ``syntax``, the transfer syntax's UID; ``size_rc``; ``num_bits`` allocated;
            ``num_used_bits``; ``is_signed``; ``dtype`` of the result.

    Raises:
        ValueError: If a frame is missing, or is no frame of that size.
    """
    from pydicom.encaps import generate_frames

    wanted = iter(file["frames"])
    number = next(wanted, None)
    with open(file["path"], "rb") as stream:
        stream.seek(file["first_byte"])
        for index, packed in enumerate(generate_frames(stream, number_of_frames=file["num_frames"])):
            if index == number:
                yield _decoded(packed, file)
                number = next(wanted, None)
            if number is None:
                return
    raise ValueError(f"there must be {file['num_frames']} frames, got none of number {number}")


def _decoded(packed: bytes, file: dict[str, Any]) -> NDArray[Any]:
    from pydicom.encaps import encapsulate
    from pydicom.pixels.decoders.base import get_decoder

    is_rle = file["syntax"] == RLE_LOSSLESS
    stream = Codestream(tuple(file["size_rc"]), 1, file["num_used_bits"], bool(file["is_signed"]))
    if not is_rle:
        stream = parse_codestream(packed)
        if stream.size_rc != tuple(file["size_rc"]) or stream.num_channels != 1 or stream.num_bits > file["num_bits"]:
            raise ValueError(f"a packed frame must be of {file['size_rc']} single numbers, got {stream}")
    options: dict[str, Any] = {
        "rows": file["size_rc"][0],
        "columns": file["size_rc"][1],
        "number_of_frames": 1,
        "samples_per_pixel": 1,
        # It says how an image is displayed, not what its numbers are: MONOCHROME1 is not inverted.
        "photometric_interpretation": "MONOCHROME2",
        "bits_allocated": file["num_bits"],
        "bits_stored": stream.num_bits,
        "pixel_representation": int(file["is_signed"]),
        "pixel_keyword": "PixelData",
    }
    if is_rle:
        # As in uncompressed pixels: padding is told apart by the upper bits.
        options["correct_unused_bits"] = False
    plugin = "pydicom" if is_rle else "gdcm"
    decoder = get_decoder(file["syntax"])
    array, _ = decoder.as_array(encapsulate([packed]), index=0, raw=True, decoding_plugin=plugin, **options)
    if file["syntax"] in _JPEG_2000 and stream.is_signed != bool(file["is_signed"]):
        _check_sign(array, stream, file)
    stored: NDArray[Any] = array.astype(file["dtype"], copy=False)
    return stored


def _check_sign(array: NDArray[Any], stream: Codestream, file: dict[str, Any]) -> None:
    """Refuse numbers that mean something else as signed and as unsigned ones, where the headers disagree on the sign.

    An unsigned codestream of all bits in use holds two's complement, as some encoders write it; pydicom converts it.
    """
    half = 1 << (stream.num_bits - 1)
    is_ambiguous = bool(((array < 0) | (array >= half)).any())
    if is_ambiguous and (stream.is_signed or stream.num_bits != file["num_used_bits"]):
        kind = "signed" if stream.is_signed else "unsigned"
        raise ValueError(
            f"a JPEG 2000 codestream must have the sign of PixelRepresentation {int(file['is_signed'])}, got {kind} "
            f"numbers of {stream.num_bits} bits for {file['num_used_bits']} bits stored"
        )


def parse_codestream(packed: bytes) -> Codestream:
    """Return size, channels, bits and sign by the header of a JPEG, JPEG-LS or JPEG 2000 frame.

    JPEG and JPEG-LS have no sign: their numbers are unsigned.

    Raises:
        ValueError: If there is no such header.
    """
    # JPEG 2000 may be wrapped in the boxes of a .jp2 file, against the standard.
    if (start := packed[:4096].find(_JPEG_2000_START)) >= 0 and len(packed) >= start + 43:
        right, lower, left, upper = struct.unpack_from(">4I", packed, start + 8)
        num_channels, bits = struct.unpack_from(">HB", packed, start + 40)
        return Codestream((lower - upper, right - left), num_channels, (bits & 0x7F) + 1, bool(bits & 0x80))
    place = 2
    while packed[:2] == b"\xff\xd8" and place + 10 <= len(packed) and packed[place] == 0xFF:
        marker, length = packed[place + 1], struct.unpack_from(">H", packed, place + 2)[0]
        if marker in _JPEG_FRAMES:
            num_bits, num_rows, num_cols, num_channels = struct.unpack_from(">BHHB", packed, place + 4)
            return Codestream((num_rows, num_cols), num_channels, num_bits, is_signed=False)
        # A marker may be preceded by any number of 0xFF.
        place += 1 if marker == 0xFF else 2 + length
    raise ValueError(f"a packed frame must begin with its header, got {packed[:8]!r}")


def main() -> int:
    """Carry out the request of standard input; returns the exit code."""
    # Decoders that print must not write between the frames.
    frames_out: BinaryIO = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    try:
        request = json.load(sys.stdin.buffer)
        _limit_process(request["num_memory_bytes"], request["limit_s"])
        for file in request["files"]:
            for frame in decoded_frames(file):
                frames_out.write(np.ascontiguousarray(frame).data)
        frames_out.close()
    # Each decoder raises other errors; the calling process says of which series this one was.
    except Exception as error:
        # pydicom names its plugins first, and says nothing of a MemoryError.
        text = " ".join(str(error).split()).rpartition("available plugins: ")[2]
        text = f"{text} too little memory" if text.endswith(":") else text
        sys.stderr.write(f"\n{text or type(error).__name__}\n")
        return 1
    return 0


def _limit_process(num_memory_bytes: int, limit_s: int) -> None:
    import resource
    import signal

    # Its default ends the process, in C code too, and also if the calling process is no longer there.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(limit_s)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (num_memory_bytes, num_memory_bytes))


if __name__ == "__main__":
    sys.exit(main())
