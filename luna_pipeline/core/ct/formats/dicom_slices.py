"""What is known of an image of a DICOM file from its header."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple


class PixelStorage(NamedTuple):
    """How the numbers of an image are stored: ``num_bits`` each, of which the lower ``num_used_bits`` are used."""

    num_channels: int
    num_bits: int
    num_used_bits: int
    dtype: str


class PixelPlace(NamedTuple):
    """Where the pixels of an image are.

    Attributes:
        first_byte: Offset of the image's first byte in the file; in the unpacked stream of a deflated file; of packed
            images, of the value that holds all of them.
        syntax: Transfer syntax of images that are packed one by one (RLE, JPEG), else empty.
        stream_start: Offset of a deflated stream in its file, else None.
        num_frames: Images in the file.
    """

    first_byte: int
    syntax: str
    stream_start: int | None
    num_frames: int


@dataclass(frozen=True)
class LeftOut:
    """An object that is no slice of a CT, such as a scout or a report; ``why`` is its kind."""

    path: Path
    series_instance_uid: str
    why: str

    @property
    def name(self) -> str:
        """File's name, for messages."""
        return self.path.name


@dataclass(frozen=True)
class DicomSlice:
    """The header of one image: of a file, or of a frame in it.

    Attributes:
        path: The file.
        frame: Number of the frame in the file, from 0; None where the file holds a single image.
        series_instance_uid: DICOM (0020,000E).
        sop_instance_uid: DICOM (0008,0018), of the file.
        patient_id: DICOM (0010,0020).
        modality: DICOM (0008,0060).
        manufacturer: DICOM (0008,0070), of the scanner.
        acquisition: DICOM (0020,0012), a number as text.
        thickness_mm: DICOM (0018,0050): thickness of the slice, not the distance to the next; nan where unknown.
        is_lossy: Whether its pixels were once compressed with loss, DICOM (0028,2110).
        fault: Why it cannot be used: the first attribute that is missing or wrong, and its value; else empty.
        size_rc: Rows and columns.
        spacing_rc_mm: Distance of neighbouring rows and of neighbouring columns.
        position_xyz: World position (LPS mm) of the first voxel.
        location_mm: DICOM (0020,1041), a position along an axis that is not told; nan where unknown.
        orientation: World directions along a row and down a column, six numbers.
        storage: How its numbers are stored.
        pixels: Where they are.
        rescale: Slope and intercept that turn a stored number into HU.
        padding: Lowest and highest stored number that mark voxels without a measurement, None where there are none.
    """

    path: Path
    frame: int | None
    series_instance_uid: str
    sop_instance_uid: str
    patient_id: str
    modality: str
    manufacturer: str
    acquisition: str
    thickness_mm: float
    is_lossy: bool
    fault: str
    size_rc: tuple[int, int]
    spacing_rc_mm: tuple[float, ...]
    position_xyz: tuple[float, ...]
    location_mm: float
    orientation: tuple[float, ...]
    storage: PixelStorage
    pixels: PixelPlace
    rescale: tuple[float, float]
    padding: tuple[int, int] | None

    @property
    def name(self) -> str:
        """File and frame, for messages; DICOM counts frames from 1."""
        return self.path.name if self.frame is None else f"frame {self.frame + 1} of {self.path.name}"


class BrokenDicomError(ValueError):
    """A file cannot be read as DICOM; the message is the cause, without the file's name."""
