"""The one CT of an upload: which of its files belong to it, their names, and a check of its headers."""

import gzip
import os
import re
import zlib
from collections.abc import Sequence
from pathlib import Path

from luna_pipeline.core.ct.errors import UnreadableCtError
from luna_pipeline.core.ct.formats.dicom_series import is_dicom_file
from luna_pipeline.core.storage.files import fsync_folder
from luna_pipeline.launchers.diagnosis.incoming import content_of
from luna_pipeline.launchers.diagnosis.input import check_input
from luna_pipeline.serving.config import UploadLimits
from luna_pipeline.serving.http.problems import Problem
from luna_pipeline.serving.http.staging import DICOM, UNKNOWN, VOLUMES, VOXELS, StagedFile
from luna_pipeline.serving.reasons import without_values

_FORMATS = "a zip file with a DICOM series, DICOM files, .mha, .mhd with .raw, .nrrd or .nii.gz"
_DATA_FILE = re.compile(rb"^(ElementDataFile\s*[=:][ \t]*)(.*?)[ \t]*(\r?\n|\Z)", re.MULTILINE)
# "(which series and file)" and what follows; a tuple of numbers is a value.
_WHICH = re.compile(r" \((?!-?(?:[\d.e+-]+|nan|inf), ).*")
_MAX_LETTERS = 300
_MAX_HEADER_BYTES = 1 << 20
_ID_DIGITS = 32
_BLOCK_BYTES = 1 << 20


def settle(files: Sequence[StagedFile], folder: Path, limits: UploadLimits) -> None:
    """Leave the files of one CT in a folder, under names of its content, and check its headers.

    Args:
        files: All files of the folder.
        folder: Where they lie.
        limits: Limit of the voxels.

    Raises:
        Problem: 415 if no file is a CT's, 422 if there are several CTs or it cannot be used, 413 if it is too large.
    """
    dicom = [file for file in files if _is_dicom(file)]
    volumes = [file for file in files if file.suffix in VOLUMES]
    voxels = [file for file in files if file.suffix in VOXELS]
    if not dicom and not volumes:
        raise Problem(415, f"An upload must be a CT ({_FORMATS}), got none. Send one.")
    if len(volumes) > 1 or (volumes and dicom):
        rule = f"An upload must be one CT, got {len(volumes)} volumes and {len(dicom)} DICOM files."
        raise Problem(422, f"{rule} Send one CT.")
    kept = _name_volume(volumes[0], voxels) if volumes else _name_dicom(dicom)
    for path in folder.iterdir():
        if path not in kept:
            path.unlink()
    fsync_folder(folder)
    _check_headers(folder, limits)
    for path in folder.glob("*.gz"):
        _check_gzip(path, limits)


def _is_dicom(file: StagedFile) -> bool:
    # A damaged file with DICOM's suffix counts: the series would lack a slice.
    return file.suffix == DICOM or (file.suffix == UNKNOWN and is_dicom_file(file.path))


def _name_dicom(files: Sequence[StagedFile]) -> set[Path]:
    return {
        file.path.rename(file.path.with_name(f"{number:06}.dcm"))
        for number, file in enumerate(sorted(files, key=lambda it: it.path), start=1)
    }


def _name_volume(volume: StagedFile, voxels: Sequence[StagedFile]) -> set[Path]:
    """Name a volume by its content: its name is the CT's uid, and must be the same for the same files."""
    if volume.suffix == ".mhd" and len(voxels) == 1:
        stem = content_of([volume.path, voxels[0].path])[:_ID_DIGITS]
        raw = voxels[0].path.rename(volume.path.with_name(f"{stem}{voxels[0].suffix}"))
        _point_to(volume.path, raw.name)
        return {raw, volume.path.rename(volume.path.with_name(f"{stem}.mhd"))}
    if voxels:
        raise Problem(422, f"One .raw file must come with one .mhd file, got {len(voxels)}. Send the two of one CT.")
    stem = content_of([volume.path])[:_ID_DIGITS]
    return {volume.path.rename(volume.path.with_name(f"{stem}{volume.suffix}"))}


def _point_to(header: Path, name: str) -> None:
    """Write the voxel file's new name into a MetaImage header."""
    if header.stat().st_size > _MAX_HEADER_BYTES:
        raise Problem(422, f"A .mhd header must have at most {_MAX_HEADER_BYTES} bytes, got more. Send the header.")
    content = header.read_bytes()
    found = _DATA_FILE.findall(content)
    named = found[0][1] if len(found) == 1 else b"LIST"
    if named.upper() == b"LOCAL" or named.split()[:1] == [b"LIST"] or b"%" in named:
        raise Problem(422, "A .mhd header must name one .raw file, got another entry. Write the CT with one .raw file.")
    with header.open("wb") as file:
        file.write(_DATA_FILE.sub(rb"\g<1>" + name.encode() + rb"\g<3>", content))
        file.flush()
        os.fsync(file.fileno())


def _check_headers(folder: Path, limits: UploadLimits) -> None:
    try:
        num_slices, num_rows, num_cols = check_input(folder)
    except (UnreadableCtError, FileNotFoundError) as error:
        raise Problem(422, _sentence(str(error), is_dicom=any(folder.glob("*.dcm")))) from None
    if (num_voxels := num_slices * num_rows * num_cols) > limits.max_voxels:
        rule = f"A CT must have at most {limits.max_voxels} voxels, got {num_voxels}."
        raise Problem(413, f"{rule} Send the chest alone, or raise the service's limit.")


def _sentence(message: str, *, is_dicom: bool) -> str:
    """Return why a CT is refused, without names of files that its header holds and without lists of series."""
    text = " ".join(without_values(message).split())
    if is_dicom and len(text) <= _MAX_LETTERS and "--series" not in text:
        return text
    rule, got, value = text.partition(", got ")
    return f"{rule}{got}{_WHICH.sub('', value).rstrip('.')}. Correct the CT and send it again."


def _check_gzip(path: Path, limits: UploadLimits) -> None:
    """Unpack a gzip file without keeping it: only then is it known to be whole."""
    num_bytes = 0
    try:
        with gzip.open(path) as file:
            while block := file.read(_BLOCK_BYTES):
                num_bytes += len(block)
                if num_bytes > limits.max_unpacked_bytes:
                    rule = f"A gzip file must have at most {limits.max_unpacked_bytes} bytes unpacked, got more."
                    raise Problem(413, f"{rule} Send the chest alone, or raise the service's limit.")
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise Problem(422, "A gzip file must be whole, got a damaged one. Write it and send it again.") from None
