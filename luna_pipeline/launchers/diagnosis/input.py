"""Input of a diagnosis: one CT in a DICOM folder or a volume file, refused where it is not whole or not a CT.

The rules and their words are those of the catalogue and the readers.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from luna_pipeline.core.ct.catalogue import rows_below, settled
from luna_pipeline.core.ct.catalogue_rows import Row, rows_of_folder
from luna_pipeline.core.ct.errors import UnreadableCtError, name_series
from luna_pipeline.core.ct.formats.dicom_series import DicomReader, is_dicom_file, scan_dicom_files
from luna_pipeline.core.ct.plausible_hu import check_plausible_hu
from luna_pipeline.core.ct.reading import FORMATS, Ct, CtReader, format_of, open_ct
from luna_pipeline.core.phantom.marker import is_phantom
from luna_pipeline.core.storage.regular_files import is_regular, kind_of, shown_name

# The hash of a patient's id, which it is the key of, is not used here.
_PATIENT_KEY = b""
_NUM_LISTED = 10


@dataclass(frozen=True, kw_only=True)
class DiagnosisInput:
    """One CT to be diagnosed.

    Attributes:
        ct: Its voxels and its grid.
        fingerprint: SHA-256 over uid, grid and voxels, 64 hexadecimal digits: equal for the same CT wherever it lies,
            whatever its files are called.
        is_dicom: Whether it was read from DICOM files.
        dicom_files: Its DICOM files in the order of the slices, a multi-frame file once; empty for other formats.
        notes: What was ignored or is worth knowing, a sentence each.
        is_synthetic: Whether it is a phantom, by a marker in a folder above it or by its header.
    """

    ct: Ct
    fingerprint: str
    is_dicom: bool
    dicom_files: tuple[Path, ...]
    notes: tuple[str, ...]
    is_synthetic: bool

    @property
    def series_instance_uid(self) -> str:
        """DICOM (0020,000E), or the file's name without its suffix."""
        return self.ct.series_instance_uid


def read_input(path: Path, *, series: str | None = None, assume_hu: bool = False) -> DiagnosisInput:
    """Read the CT at a path.

    Args:
        path: A folder with the files of one series at any depth, a volume file (MetaImage, NRRD, NIfTI), or one file of
            a DICOM series, which stands for the whole series in its folder.
        series: SeriesInstanceUID; needed where the folder holds several CTs.
        assume_hu: Whether CTs without air near -1000 or tissue near 0 are accepted.

    Raises:
        FileNotFoundError: If there is no such path, or a folder holds no CT.
        UnreadableCtError: If it is no CT, is not whole, or one of several; the message is one line.
    """
    root, row, notes = _readable(path, series)
    uid = str(row["series_instance_uid"])
    reader = open_ct(root / row["path"], series_instance_uid=uid)
    ct = _read_whole(reader)
    if not assume_hu:
        check_plausible_hu(ct.hounsfield, where=f"{shown_name(reader.path)}, series {uid}")
    dicom_files = reader.files_in_slice_order() if isinstance(reader, DicomReader) else ()
    return DiagnosisInput(
        ct=ct,
        fingerprint=_fingerprint(ct),
        is_dicom=bool(dicom_files),
        dicom_files=dicom_files,
        notes=(*([str(row["notes"])] if row["notes"] else []), *notes),
        is_synthetic=is_phantom(reader.path, dicom_file=next(iter(dicom_files), None)),
    )


def check_input(path: Path, *, series: str | None = None) -> tuple[int, int, int]:
    """Check the headers of the CT at a path; voxels are not read.

    Args:
        path: As for ``read_input``.
        series: As for ``read_input``.

    Returns:
        Size of the CT (I, R, C) in voxels.

    Raises:
        FileNotFoundError: As ``read_input``.
        UnreadableCtError: As ``read_input``, as far as the headers show it.
    """
    _, row, _ = _readable(path, series)
    num_slices, num_rows, num_cols = (int(size) for size in row["size_irc"])
    return num_slices, num_rows, num_cols


def _readable(path: Path, series: str | None) -> tuple[Path, Row, list[str]]:
    """Return the folder that rows are relative to, the row of the CT that is meant, and notes on the others."""
    root, rows = _rows_at(path)
    row, notes = _chosen(rows, series or _series_of_file(path, rows))
    if not row["is_readable"]:
        raise UnreadableCtError(str(row["reason"]))
    return root, row, notes


def _rows_at(path: Path) -> tuple[Path, list[Row]]:
    """Return the folder that the paths of rows are relative to, and the catalogue's rows of what a path names."""
    if path.is_dir():
        return path, rows_below(path, patient_key=_PATIENT_KEY)
    folder = path.parent
    if not is_regular(path):
        rule = f"A CT must be a file ({', '.join(FORMATS)}) or a DICOM folder, got {kind_of(path)} ({path})."
        raise FileNotFoundError(f"{rule} Check the path.")
    if _is_directory_file(path):
        return folder, rows_below(folder, patient_key=_PATIENT_KEY)
    if format_of(path) is None and is_dicom_file(path):
        files: Sequence[Path] = sorted(file for file in folder.iterdir() if not file.name.startswith("."))
        dicom = [file for file in files if format_of(file) is None]
        return folder, settled(rows_of_folder(folder, dicom, data_root=folder, patient_key=_PATIENT_KEY), folder)
    # Headers beside it, one of which may name the same voxels.
    beside = [file for file in folder.iterdir() if file.suffix.lower() in {".mhd", ".nhdr"}]
    rows = rows_of_folder(folder, sorted({path, *beside}), data_root=folder, patient_key=_PATIENT_KEY)
    own = [row for row in rows if row["path"] == path.name]
    if not own:
        rule = f"A CT must be a file ({', '.join(FORMATS)}) or a DICOM folder, got a file of another kind"
        raise UnreadableCtError(f"{rule} ({shown_name(path)}). Convert it, or name the CT.")
    return folder, settled(own, folder)


def _is_directory_file(path: Path) -> bool:
    """Return whether a file is the list of a DICOM medium's files: it stands for its folder."""
    return path.name.upper() == "DICOMDIR"


def _series_of_file(path: Path, rows: Sequence[Row]) -> str | None:
    """Return the series that a DICOM file names, None for other paths and for a damaged file that names none."""
    if not is_regular(path) or format_of(path) is not None or not is_dicom_file(path):
        return None
    uid = next(iter(scan_dicom_files([path])))
    return uid if any(row["series_instance_uid"] == uid for row in rows) else None


def _chosen(rows: list[Row], series: str | None) -> tuple[Row, list[str]]:
    """Return the row of the CT that is meant, and notes on the others.

    Raises:
        UnreadableCtError: If the series is not there, or none is named and there is not exactly one CT.
    """
    # The readable one of several copies comes first.
    by_uid = {row["series_instance_uid"]: row for row in sorted(rows, key=lambda row: bool(row["is_readable"]))}
    if series is not None:
        if series not in by_uid:
            rule = f"The series that is asked for must be there, got {series} (of {_listed(list(by_uid.values()))})."
            raise UnreadableCtError(f"{rule} Choose one with --series UID.")
        return by_uid[series], []
    cts = {uid: row for uid, row in by_uid.items() if row["is_ct"]}
    reasons = {uid: str(row["reason"]) for uid, row in by_uid.items() if uid not in cts}
    if len(cts) == 1:
        notes = [f"Series {uid} is ignored: {reason}" for uid, reason in sorted(reasons.items())]
        return next(iter(cts.values())), notes
    if cts:
        rule = f"One CT is diagnosed at a time, got {len(cts)} series ({_listed(list(cts.values()))})."
        raise UnreadableCtError(f"{rule} Choose one with --series UID.")
    if len(reasons) == 1:
        return next(iter(by_uid.values())), []
    rule = f"A folder must hold a CT, got {len(reasons)} series or files that are none ({name_series(reasons)})."
    raise UnreadableCtError(f"{rule} Name a folder with a CT.")


def _listed(rows: Sequence[Row]) -> str:
    """Return the series with their sizes, nothing of the patient: paths are left out, they may name one."""
    shown = []
    for row in sorted(rows, key=lambda row: str(row["series_instance_uid"]))[:_NUM_LISTED]:
        if row["is_readable"]:
            num_slices, num_rows, num_cols = row["size_irc"]
            what = f"{num_slices} slices of {num_rows} x {num_cols}, {row['format']}"
        else:
            what = f"refused: {row['reason']}"
        shown.append(f"{row['series_instance_uid']}: {what}")
    more = len(rows) - len(shown)
    return " | ".join([*shown, f"and {more} more"] if more else shown)


def _read_whole(reader: CtReader) -> Ct:
    before = reader.file_states()
    ct = reader.read()
    if reader.file_states() != before:
        rule = f"A CT must stay as it is while it is read, got another in its place (series {ct.series_instance_uid})."
        raise UnreadableCtError(f"{rule} Wait until it is copied.")
    return ct


def _fingerprint(ct: Ct) -> str:
    header = {"series_instance_uid": ct.series_instance_uid} | asdict(ct.grid)
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for voxels in ct.hounsfield:
        digest.update(voxels.astype("<i2", order="C", copy=False).tobytes())
    return digest.hexdigest()
