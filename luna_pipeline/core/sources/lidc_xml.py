"""LIDC-IDRI's XML files: what four readers marked in a chest CT.

A reading session per reader holds nodules of 3 mm or more (outlines and ratings), nodules below 3 mm (one point, no
ratings; an outline without ratings counts as one) and non-nodules (one point). Names are compared without their
namespace, which differs between files. Readings of chest X-rays (``IdriReadMessage``) are skipped.

Source:
    The LIDC-IDRI collection of The Cancer Imaging Archive, doi:10.7937/K9/TCIA.2015.LO9QL9SX, its description of the
    XML files.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from xml.etree.ElementTree import Element

import numpy as np

from luna_pipeline.core.sources.plain_xml import child, children, line_of, named, number_in, read_plain_xml, text_in
from luna_pipeline.core.sources.reader_marks import NUM_PIXELS, Contour, ReaderMark
from luna_pipeline.core.storage.regular_files import shown_name

CT_ROOT, XRAY_ROOT = "LidcReadMessage", "IdriReadMessage"
RATING_TAGS = {
    "subtlety": ("subtlety", 5),
    "internal_structure": ("internalStructure", 4),
    "calcification": ("calcification", 6),
    "sphericity": ("sphericity", 5),
    "margin": ("margin", 5),
    "lobulation": ("lobulation", 5),
    "spiculation": ("spiculation", 5),
    "texture": ("texture", 5),
    "malignancy": ("malignancy", 5),
}
"""Element of each rating and its highest value; the lowest is 1."""


@dataclass(frozen=True)
class PointMark:
    """A finding that a reader marked with one point.

    Attributes:
        kind: A nodule below 3 mm, or no nodule.
        reader: Number of the reader within the series, from 0.
        z_mm: Position of the slice along z, mm.
        point_cr: Column and row, in voxels of the DICOM image.
    """

    kind: Literal["small nodule", "non-nodule"]
    reader: int
    z_mm: float
    point_cr: tuple[int, int]


@dataclass(frozen=True, eq=False)
class SeriesReading:
    """Everything that the readers marked in one series.

    Attributes:
        series_instance_uid: DICOM (0020,000E).
        num_readers: Reading sessions.
        nodules: Nodules of 3 mm or more, one entry per reader.
        points: Nodules below 3 mm and non-nodules.
        notes: Lines about what is odd in the file.
        names: Name of each mark in the file, by its id; for marks whose reader is not known.
    """

    series_instance_uid: str
    num_readers: int
    nodules: tuple[ReaderMark, ...]
    points: tuple[PointMark, ...]
    notes: tuple[str, ...]
    names: Mapping[str, str] = field(default_factory=dict)


def read_lidc_xml(path: Path) -> SeriesReading | None:
    """Read one XML file.

    Returns:
        The marks of all readers; None if the file holds no readings of a CT.

    Raises:
        ValueError: If it is no well-formed XML, exceeds a limit of ``plain_xml``, has a document type, or lacks a value
            without which a mark has no place; the message has file and line.
    """
    root = read_plain_xml(path)
    if named(root) != CT_ROOT:
        return None
    return _Reading(path).of(root)


class _Reading:
    """Marks of one file; ``notes`` counts what is odd."""

    def __init__(self, path: Path) -> None:
        self._file = shown_name(path)
        self._notes: Counter[str] = Counter()

    def of(self, root: Element) -> SeriesReading:
        header = child(root, "ResponseHeader", self._file)
        uid = text_in(header, "SeriesInstanceUid", self._file)
        sessions = list(children(root, "readingSession"))
        if not sessions:
            msg = f"A readers' file must have a readingSession, got none ({self._file}). Copy the file again."
            raise ValueError(msg)
        nodules: list[ReaderMark] = []
        points: list[PointMark] = []
        for reader, session in enumerate(sessions):
            for number, item in enumerate(children(session, "unblindedReadNodule")):
                mark = self._nodule(item, uid, reader, number)
                if isinstance(mark, ReaderMark):
                    nodules.append(mark)
                elif mark is not None:
                    points.append(mark)
            points += [self._non_nodule(item, reader) for item in children(session, "nonNodule")]
        notes = tuple(f"{text}: {count}" for text, count in sorted(self._notes.items()))
        return SeriesReading(uid, len(sessions), tuple(nodules), tuple(points), notes)

    def _nodule(self, item: Element, uid: str, reader: int, number: int) -> ReaderMark | PointMark | None:
        contours = [self._contour(roi) for roi in children(item, "roi")]
        ratings = dict(self._ratings(item))
        kept = [contour for contour in contours if len(contour.points_cr)]
        if not kept:
            self._notes["nodules without an outline, left out"] += 1
            return None
        ordered = tuple(sorted(kept, key=lambda contour: (contour.z_mm, not contour.is_inclusion)))
        if not ratings:
            return self._small_nodule(ordered, reader)
        missing = [name for name in RATING_TAGS if name not in ratings]
        if missing:
            self._notes[f"nodules without a valid rating of {', '.join(missing)}"] += 1
        return ReaderMark(uid, f"{reader}-{number}", reader, ordered, ratings)

    def _small_nodule(self, contours: tuple[Contour, ...], reader: int) -> PointMark:
        """Return the middle of a finding without ratings: readers rated each nodule of 3 mm or more."""
        if sum(len(contour.points_cr) for contour in contours) > 1:
            self._notes["outlines without ratings, read as nodules below 3 mm"] += 1
        middle = contours[len(contours) // 2]
        column, row = (int(value) for value in np.rint(middle.points_cr.mean(axis=0)))
        return PointMark("small nodule", reader, middle.z_mm, (column, row))

    def _ratings(self, item: Element) -> Iterator[tuple[str, int]]:
        """Yield the ratings within their ranges."""
        given = next(children(item, "characteristics"), None)
        if given is None:
            return
        for name, (tag, highest) in RATING_TAGS.items():
            text = next(((part.text or "").strip() for part in children(given, tag)), "")
            if text.isascii() and text.isdecimal() and len(text) < 9 and 1 <= int(text) <= highest:
                yield name, int(text)

    def _contour(self, roi: Element) -> Contour:
        inclusion = text_in(roi, "inclusion", self._file).upper()
        if inclusion not in ("TRUE", "FALSE"):
            place = f"{self._file}, line {line_of(child(roi, 'inclusion', self._file))}"
            raise ValueError(f"inclusion must be TRUE or FALSE, got {inclusion[:40]!r} ({place}). Correct the file.")
        points = [self._point(edge) for edge in children(roi, "edgeMap")]
        slice_uid = next(((part.text or "").strip() for part in children(roi, "imageSOP_UID")), "")
        z_mm = number_in(roi, "imageZposition", self._file)
        return Contour(z_mm, inclusion == "TRUE", np.array(points, dtype=np.int64).reshape(-1, 2), slice_uid)

    def _non_nodule(self, item: Element, reader: int) -> PointMark:
        point = self._point(child(item, "locus", self._file))
        return PointMark("non-nodule", reader, number_in(item, "imageZposition", self._file), point)

    def _point(self, edge: Element) -> tuple[int, int]:
        return self._pixel(edge, "xCoord"), self._pixel(edge, "yCoord")

    def _pixel(self, edge: Element, tag: str) -> int:
        value = number_in(edge, tag, self._file)
        if not (value.is_integer() and 0 <= value < NUM_PIXELS):
            rule = f"{tag} must be a whole number of pixels below {NUM_PIXELS}, got {value:g}"
            raise ValueError(f"{rule} ({self._file}, line {line_of(edge)}). Correct the file.")
        return int(value)
