"""The scans that are compared: the CTs of a catalogue, and blocks in ``.npz`` and ``.npy`` files."""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from luna_pipeline.core.ct.catalogue import catalogue_series, scan_key
from luna_pipeline.core.ct.errors import UnreadableCtError
from luna_pipeline.core.ct.formats.luna25_block import BLOCKS, is_block
from luna_pipeline.core.ct.hounsfield import to_hounsfield
from luna_pipeline.core.ct.limits import check_announced_bytes, max_ct_bytes
from luna_pipeline.core.ct.reading import READERS, read_ct
from luna_pipeline.core.storage.files import folders_below
from luna_pipeline.core.storage.regular_files import is_regular, open_regular
from luna_pipeline.core.storage.zip_limits import zip_problem

BLOCK_SUFFIXES = (".npz", ".npy")
"""Files with one array of three axes in HU: cutouts, LUNA25's nodule blocks."""


@dataclass(frozen=True, kw_only=True)
class ScanFile:
    """A scan on the disk.

    Attributes:
        name: Its series uid, or the stem of a block's file; unique among compared scans.
        path: The file, or the folder with DICOM files.
        series_instance_uid: The series; selects one in a DICOM folder with several.
        fingerprint: Its ``scan_key``, by the catalogue's fingerprint, or by size and time of a block.
        data_source: Data source of the catalogue; None if not known.
    """

    name: str
    path: Path
    series_instance_uid: str
    fingerprint: str
    data_source: str | None = None

    def read(self) -> NDArray[np.int16]:
        """Return the HU, shape (I, R, C).

        Raises:
            UnreadableCtError: If the files are missing or damaged, or hold no array of three axes.
        """
        if self.path.suffix.lower() in BLOCK_SUFFIXES and self.path.is_file():
            return _read_block(self.path, self.name)
        return read_ct(self.path, series_instance_uid=self.series_instance_uid).hounsfield


def scans_of_catalogue(catalogue: pd.DataFrame, data_root: Path) -> list[ScanFile]:
    """Return the readable CTs of a catalogue; gray values of an unknown scale cannot be compared and are left out.

    Args:
        catalogue: As from ``catalogue_series``; ``data_source`` is optional.
        data_root: Folder that its paths are relative to.
    """
    gray = [word for word, reader in READERS.items() if not reader.is_hounsfield]
    readable = catalogue[catalogue["is_readable"].astype(bool) & ~catalogue["format"].isin(gray)]
    sources = readable["data_source"] if "data_source" in readable else [None] * len(readable)
    columns = (readable[name] for name in ("series_instance_uid", "path", "fingerprint"))
    rows = zip(*columns, sources, strict=True)
    return [_scan_file(uid, data_root / path, uid, fingerprint, source) for uid, path, fingerprint, source in rows]


def scans_below(folder: Path, *, patient_key: bytes) -> tuple[list[ScanFile], dict[str, str]]:
    """Return every scan and block below a folder, and the reason by name of each that cannot be read.

    LUNA25's blocks, whose files name patients, are CTs of the catalogue: they and their metadata are no other blocks.

    Args:
        folder: Absolute path of a folder with CTs of any format, ``.npz`` and ``.npy`` files, at any depth.
        patient_key: Key of the patients' hashes.

    Raises:
        FileNotFoundError: If there is none.
    """
    blocks = [
        place / name
        for place, _, names in folders_below(folder)
        if BLOCKS not in place.parts
        for name in names
        if name.lower().endswith(BLOCK_SUFFIXES) and not name.startswith(".") and is_regular(place / name)
    ]
    found = [_block_file(path, folder) for path in blocks]
    try:
        catalogue = catalogue_series(folder, patient_key=patient_key)
    except FileNotFoundError:
        if not found:
            raise
        return found, {}
    unreadable = catalogue[~catalogue["is_readable"]]
    reasons = {
        uid if is_block(folder / path) else path: str(reason)
        for uid, path, reason in zip(
            *(unreadable[name] for name in ("series_instance_uid", "path", "reason")), strict=True
        )
    }
    return scans_of_catalogue(catalogue, folder) + found, reasons


def _block_file(path: Path, folder: Path) -> ScanFile:
    status = path.stat()
    name = path.relative_to(folder).with_suffix("").as_posix()
    return _scan_file(name, path, path.stem, f"block {status.st_size} {status.st_mtime_ns}")


def _scan_file(name: str, path: Path, uid: str, fingerprint: str, data_source: str | None = None) -> ScanFile:
    key = scan_key(fingerprint, uid, path)
    return ScanFile(name=name, path=path, series_instance_uid=uid, fingerprint=key, data_source=data_source)


def _read_block(path: Path, name: str) -> NDArray[np.int16]:
    advice = "Keep one array (index, row, col) of HU in the file, or leave it out."
    try:
        arrays = _arrays(path)
    # Damaged files raise errors of many kinds in numpy and zipfile.
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UnreadableCtError(f"A block must be readable by numpy, got: {reason} ({name}). {advice}") from error
    volumes = [each for each in arrays if each.ndim == 3 and each.dtype.kind in "iuf" and each.size]
    if len(volumes) != 1:
        raise UnreadableCtError(f"A block must be one array of three axes, got {len(volumes)} ({name}). {advice}")
    return to_hounsfield(volumes[0], series_instance_uid=name)


def _arrays(path: Path) -> list[NDArray[np.generic]]:
    """Return all arrays of a file; objects are never unpickled."""
    if path.suffix.lower() == ".npy":
        check_announced_bytes(path.stat().st_size, where=path.name)
        return [np.load(path, allow_pickle=False)]
    with open_regular(path) as file:
        if problem := zip_problem(file, max_member_bytes=max_ct_bytes()):
            raise ValueError(problem)
        file.seek(0)
        with np.load(file, allow_pickle=False) as arrays:
            return [arrays[key] for key in arrays.files]
