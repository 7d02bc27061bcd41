"""Marks of a phantom: files beside it and a field of its headers; without heavy imports, as checking must be fast."""

from pathlib import Path

from luna_pipeline.core.storage.regular_files import open_regular

MARKER, UNFINISHED_MARKER = "phantom.json", "phantom.unfinished"
SYNTHETIC = "SyntheticData"
"""Field of a header, which a copy of a file keeps: DICOM (0008,001C), and of the same name in other formats."""
MANUFACTURER = "luna_pipeline"
"""DICOM (0008,0070) of a phantom: ITK cannot write (0008,001C)."""

_HEADER_BYTES = 4096


def is_phantom(path: Path, *, dicom_file: Path | None = None) -> bool:
    """Return whether a CT is synthetic: by a marker in a folder above it, or by its header.

    Args:
        path: The CT's volume file or DICOM folder.
        dicom_file: A file of a DICOM series.

    Raises:
        OSError: If the header cannot be read.
    """
    if any((folder / MARKER).is_file() for folder in path.resolve().parents):
        return True
    if dicom_file is not None:
        from pydicom import dcmread

        with open_regular(dicom_file) as file:
            found = dcmread(file, specific_tags=[SYNTHETIC, "Manufacturer"], stop_before_pixels=True, force=True)
        return bool(found.get(SYNTHETIC) == "YES" or found.get("Manufacturer") == MANUFACTURER)
    with open_regular(path) as file:
        head = file.read(_HEADER_BYTES)
    return any(f"{SYNTHETIC}{sign}YES".encode() in head for sign in (" = ", ":="))
