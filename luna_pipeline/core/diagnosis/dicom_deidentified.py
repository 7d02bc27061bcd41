"""Headers of a CT without values of the patient and the study, as the source of de-identified objects.

Kept are the UIDs and the place of the images, and nothing else: without its UIDs an object could not be laid over the
CT that it belongs to. So the objects can be linked to the CT by those that have the CT. All that identifies the patient
otherwise is left out rather than searched for.

Source:
    DICOM PS3.15, E.2 (basic profile) and E.3.9 (retain UIDs option); PS3.16, CID 7050 (its codes).
"""

import hashlib
import hmac
from collections.abc import Sequence

from pydicom import Dataset
from pydicom.sr.coding import Code

from luna_pipeline.core.diagnosis.dicom_source import PLANE, UIDS

METHOD = "luna_pipeline: patient and study left out, UIDs kept"
_PROFILES = (
    Code("113100", "DCM", "Basic Application Confidentiality Profile"),
    Code("113110", "DCM", "Retain UIDs Option"),
)
_GROUPS = ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence")
_NUM_DIGITS = 16


def deidentified_sources(sources: Sequence[Dataset], patient_key: bytes) -> list[Dataset]:
    """Return headers with UIDs and place only, of a patient whose name and id are a pseudonym.

    Args:
        sources: Headers as from ``read_sources``.
        patient_key: Secret key. With the same key a patient id gives the same pseudonym, so that results of one patient
            stay together.
    """
    name = pseudonym(str(sources[0].get("PatientID") or sources[0].StudyInstanceUID), patient_key)
    return [_deidentified(source, name) for source in sources]


def pseudonym(text: str, key: bytes) -> str:
    """Return 16 hexadecimal digits that are the same for a text, and cannot be traced back without the key."""
    return hmac.new(key, text.encode(errors="surrogateescape"), hashlib.sha256).hexdigest()[:_NUM_DIGITS]


def deidentification(sources: Sequence[Dataset]) -> dict[str, str]:
    """Return what makes an object of headers of ``deidentified_sources`` another one; empty for other headers."""
    is_ours = sources[0].get("DeidentificationMethod") == METHOD
    return {"deidentified_as": str(sources[0].PatientID)} if is_ours else {}


def _deidentified(source: Dataset, name: str) -> Dataset:
    kept = Dataset()
    for keyword in (*UIDS, "SOPClassUID", "FrameOfReferenceUID", *PLANE):
        if keyword in source:
            kept[keyword] = source[keyword]
    for keyword in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        if keyword in source:
            setattr(kept, keyword, [_places_of(group) for group in source[keyword].value])
    kept.PatientID = kept.PatientName = name
    kept.PatientIdentityRemoved = "YES"
    kept.DeidentificationMethod = METHOD
    kept.DeidentificationMethodCodeSequence = [_item(code) for code in _PROFILES]
    return kept


def _places_of(group: Dataset) -> Dataset:
    kept = Dataset()
    for keyword in _GROUPS:
        if keyword in group:
            kept[keyword] = group[keyword]
    return kept


def _item(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme_designator, code.meaning
    return item
