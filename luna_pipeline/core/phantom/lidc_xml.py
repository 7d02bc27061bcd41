"""Readings as XML text in the form of LIDC-IDRI's files."""

from collections.abc import Iterable, Iterator
from xml.sax.saxutils import escape

from luna_pipeline.core.phantom.series import phantom_uid
from luna_pipeline.core.sources.lidc_xml import CT_ROOT, RATING_TAGS, XRAY_ROOT, PointMark, SeriesReading
from luna_pipeline.core.sources.reader_marks import Contour, ReaderMark

NAMESPACE = "http://www.nih.gov"
XRAY_NAMESPACE = "http://www.nih.gov/idri"


def ct_message(series_instance_uid: str, study_instance_uid: str, reading: SeriesReading) -> str:
    """Return a reading as a file: a session per reader with nodules, points of small nodules, and non-nodules."""
    header = f"<SeriesInstanceUid>{escape(series_instance_uid)}</SeriesInstanceUid>"
    lines = [*_head(CT_ROOT, NAMESPACE, header, study_instance_uid)]
    for reader in range(reading.num_readers):
        lines += ["<readingSession>", "<annotationVersion>3.12</annotationVersion>"]
        lines.append(f"<servicingRadiologistID>synthetic-{reader}</servicingRadiologistID>")
        own = [mark for mark in reading.nodules if mark.reader == reader]
        points = [point for point in reading.points if point.reader == reader]
        for number, mark in enumerate(own, start=1):
            lines += _nodule(f"Nodule {number:03d}", mark)
        for number, point in enumerate(points, start=1):
            lines += _point(number, point, series_instance_uid)
        lines.append("</readingSession>")
    return "\n".join([*lines, f"</{CT_ROOT}>", ""])


def xray_message(series_instance_uid: str, study_instance_uid: str) -> str:
    """Return the file of a chest X-ray's reading: another root, and a session without marks."""
    header = f"<CXRSeriesInstanceUid>{escape(series_instance_uid)}</CXRSeriesInstanceUid>"
    lines = [*_head(XRAY_ROOT, XRAY_NAMESPACE, header, study_instance_uid), "<CXRreadingSession>"]
    return "\n".join([*lines, "</CXRreadingSession>", f"</{XRAY_ROOT}>", ""])


def _head(root: str, namespace: str, series: str, study_instance_uid: str) -> Iterator[str]:
    yield '<?xml version="1.0" encoding="UTF-8"?>'
    yield f'<{root} uid="{phantom_uid(study_instance_uid)}" xmlns="{namespace}">'
    yield "<ResponseHeader>"
    yield "<Version>1.8.1</Version>"
    yield "<TaskDescription>Second unblinded read, synthetic</TaskDescription>"
    yield series
    yield f"<StudyInstanceUID>{study_instance_uid}</StudyInstanceUID>"
    yield "</ResponseHeader>"


def _nodule(name: str, mark: ReaderMark) -> Iterator[str]:
    yield f"<unblindedReadNodule><noduleID>{name}</noduleID>"
    yield "<characteristics>"
    yield from (f"<{tag}>{mark.ratings[key]}</{tag}>" for key, (tag, _) in RATING_TAGS.items() if key in mark.ratings)
    yield "</characteristics>"
    for contour in mark.contours:
        yield from _roi(contour, mark.series_instance_uid)
    yield "</unblindedReadNodule>"


def _roi(contour: Contour, uid: str) -> Iterator[str]:
    yield f"<roi>{_place(contour.z_mm, uid)}<inclusion>{str(contour.is_inclusion).upper()}</inclusion>"
    yield from (f"<edgeMap>{_pixel(point)}</edgeMap>" for point in contour.points_cr.tolist())
    yield "</roi>"


def _point(number: int, point: PointMark, uid: str) -> Iterator[str]:
    if point.kind == "non-nodule":
        name = f"<nonNoduleID>_Non-nodule {number:03d}</nonNoduleID>"
        yield f"<nonNodule>{name}{_place(point.z_mm, uid)}<locus>{_pixel(point.point_cr)}</locus></nonNodule>"
    else:
        edge = f"<inclusion>TRUE</inclusion><edgeMap>{_pixel(point.point_cr)}</edgeMap>"
        roi = f"<roi>{_place(point.z_mm, uid)}{edge}</roi>"
        yield f"<unblindedReadNodule><noduleID>small {number:03d}</noduleID>{roi}</unblindedReadNodule>"


def _place(z_mm: float, uid: str) -> str:
    slice_uid = phantom_uid(f"slice {uid} {z_mm:.6f}")
    return f"<imageZposition>{z_mm:.6f} </imageZposition><imageSOP_UID>{slice_uid}</imageSOP_UID>"


def _pixel(point_cr: Iterable[int]) -> str:
    column, row = point_cr
    return f"<xCoord>{column}</xCoord><yCoord>{row}</yCoord>"
