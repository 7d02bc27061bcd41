"""Values of DICOM attributes, parsed strictly: what is no number is refused with its text.

Source:
    DICOM PS3.5, 6.2 (decimal strings: digits, a point, an exponent; several are separated by a backslash), 9.1 (UIDs);
    PS3.3, C.7.3.1.1.1 (modalities).
"""

import math
import re
import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydicom import Dataset

_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
# Value representations that hold binary numbers; all others that hold numbers are text.
_BINARY_VRS = {"FD": "d", "FL": "f", "SL": "i", "SS": "h", "UL": "I", "US": "H", "SV": "q", "UV": "Q"}


_UID = re.compile(r"[0-9.]{1,64}")
# What lies beside CTs.
_MODALITIES = {
    *("CT", "MR", "PT", "NM", "US", "CR", "DX", "MG", "XA", "RF", "OT", "SC", "DOC", "ECG"),
    *("SR", "SEG", "PR", "KO", "REG", "RWV", "RTDOSE", "RTIMAGE", "RTPLAN", "RTRECORD", "RTSTRUCT"),
}


class BadAttributeError(ValueError):
    """An attribute is missing or has another value than it must; the message names both."""


def numbers_of(dataset: "Dataset | None", keyword: str, num_values: int) -> tuple[float, ...]:
    """Return the numbers of an attribute, a decimal string or (in odd files) another text or binary numbers.

    Raises:
        BadAttributeError: If it is missing or empty, or does not hold exactly so many finite numbers.
    """
    text = _text_of(dataset, keyword)
    if not text.strip():
        raise BadAttributeError(f"{keyword} must be in the header, got none")
    parts = [part.strip() for part in text.split("\\")]
    numbers = tuple(float(part) for part in parts if _DECIMAL.fullmatch(part))
    if not len(numbers) == len(parts) == num_values or not all(map(math.isfinite, numbers)):
        kind = "a finite number" if num_values == 1 else f"{num_values} finite numbers"
        raise BadAttributeError(f"{keyword} must be {kind}, got {text[:80]!r}")
    return numbers


def whole_number_of(dataset: "Dataset", keyword: str, *, default: int | None = None) -> int:
    """Return a whole number, such as Rows; the default where the attribute is missing or empty.

    Raises:
        BadAttributeError: If it is missing without a default, or no whole number.
    """
    value = dataset.get(keyword)
    if value is None or value == "":
        if default is None:
            raise BadAttributeError(f"{keyword} must be in the header, got none")
        return default
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        raise BadAttributeError(f"{keyword} must be a whole number, got {str(value)[:80]!r}") from None


def text_of(dataset: "Dataset", keyword: str) -> str:
    """Return an attribute as text without the padding of its ends; empty where it is missing."""
    return str(dataset.get(keyword) or "").strip(" \0")


def is_uid(text: str) -> bool:
    """Return whether a text has the letters of a UID, so that it holds no name."""
    return _UID.fullmatch(text) is not None


def shown_modality(modality: str) -> str:
    """Return a known modality as it is; another text may be anything, such as a name, and is not shown."""
    return modality if modality in _MODALITIES else f"a text of {len(modality)} characters"


def words_of(dataset: "Dataset", keyword: str) -> list[str]:
    """Return the values of a text attribute in capitals; pydicom returns a single one as itself."""
    value = dataset.get(keyword)
    values = [value] if isinstance(value, str) else list(value or [])
    return [str(word).strip(" \0").upper() for word in values]


def stored_number_of(dataset: "Dataset", keyword: str, *, is_signed: bool) -> int | None:
    """Return a number of 16 bits that means a stored pixel, with the pixels' sign; None where it is missing.

    Its own value representation, US or SS, is often not that of the pixels: 63536 means -2000 in signed ones.

    Raises:
        BadAttributeError: If it is no such number.
    """
    if keyword not in dataset:
        return None
    item: Any = dataset.get_item(keyword)
    value = item.value
    if isinstance(value, bytes) and len(value) == 2:
        value = struct.unpack("<H" if getattr(item, "is_little_endian", True) else ">H", value)[0]
    elif isinstance(value, bytes):
        value = value.decode("latin-1").strip(" \0")
    if value is None or value == "":
        return None
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = 1 << 20
    if not -(1 << 15) <= number < 1 << 16:
        raise BadAttributeError(f"{keyword} must be a number of 16 bits, got {str(value)[:80]!r}")
    word = number & 0xFFFF
    return word - 0x10000 if is_signed and word >= 0x8000 else word


def _text_of(dataset: "Dataset | None", keyword: str) -> str:
    """Return the text that is written in the file, or binary numbers as text; empty where there is none."""
    if dataset is None or keyword not in dataset:
        return ""
    item: Any = dataset.get_item(keyword)
    value = item.value
    if not isinstance(value, bytes):
        values = value if hasattr(value, "__iter__") and not isinstance(value, str) else [value]
        return "\\".join("" if part is None else str(part) for part in values)
    code = _BINARY_VRS.get(str(getattr(item, "VR", None)))
    if code is None:
        return value.decode("latin-1").rstrip("\0")
    order = "<" if getattr(item, "is_little_endian", True) else ">"
    if len(value) % struct.calcsize(code):
        return repr(value)
    return "\\".join(
        str(number) for number in struct.unpack(f"{order}{len(value) // struct.calcsize(code)}{code}", value)
    )
