"""The CTs of a source by themselves: unreadable ones, masks, doubled files, patients and voxels."""

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

from luna_pipeline.core.ct.content_hash import content_fingerprint
from luna_pipeline.core.ct.errors import failure_of
from luna_pipeline.core.ct.plausible_hu import check_plausible_hu
from luna_pipeline.core.ct.reading import open_ct
from luna_pipeline.core.sources.faults import Fault, fault_of_line

_MASK_NAME = re.compile(r"(^|[^a-z])(mask|masks|seg|segmentation|label|labels|labelmap|roi)([^a-z]|$)", re.IGNORECASE)
# Bytes of a header before voxels of one byte each.
_HEADER_BYTES = 4096
# A packed CT takes about half of its bytes; a label map takes next to nothing.
_MASK_BYTES_A_VOXEL = 0.1
# Formats whose file names name patients.
_SECRET_NAMES = ("luna25_block",)
_SAMPLE_BYTES = 1 << 16
_MIN_PATIENTS = 3
_MAX_NAMED = 3


def faults_of_unreadable(catalogue: pd.DataFrame, used: Collection[str] | None) -> Iterator[Fault]:
    """Yield the reason of each CT that cannot be read.

    Args:
        catalogue: As from ``catalogue_series``.
        used: Series that are named in the table of scans; None where there is no such table. Others may be anything.
    """
    readable = set(catalogue.loc[catalogue["is_readable"], "series_instance_uid"])
    for row in catalogue[~catalogue["is_readable"]].itertuples():
        uid = str(row.series_instance_uid)
        # A file that is no CT has its whole name as uid.
        if used is None or uid in used or any(uid.startswith(f"{name}.") for name in used):
            path = "" if row.format in _SECRET_NAMES else str(row.path)
            yield fault_of_line(str(row.reason), file=path, is_error=uid not in readable)


def faults_of_masks(
    catalogue: pd.DataFrame, data_root: Path, used: Collection[str] | None, *, reads_voxels: bool, workers: int
) -> Iterator[Fault]:
    """Yield CTs whose voxels are no HU: those that look like masks by name and size, or all.

    Args:
        catalogue: As from ``catalogue_series``.
        data_root: Folder that its paths are relative to.
        used: As for ``faults_of_unreadable``; others are not read.
        reads_voxels: Whether the voxels of all CTs are read.
        workers: Threads that read.
    """
    rows = [
        (str(row.series_instance_uid), str(row.path))
        for row in catalogue[catalogue["is_readable"]].itertuples()
        if (used is None or row.series_instance_uid in used) and (reads_voxels or looks_like_mask(row))
    ]
    with ThreadPoolExecutor(workers) as pool:
        for (uid, path), reason in zip(
            rows, pool.map(lambda row: _reason_of_voxels(data_root, *row), rows), strict=True
        ):
            if reason is not None:
                fault = fault_of_line(reason, file=path)
                yield fault if fault.where else Fault(rule=fault.rule, got=fault.got, cure=fault.cure, where=uid)


def looks_like_mask(row: object) -> bool:
    """Return whether a readable row of a catalogue may be a mask, by its name or the few bytes of its voxels."""
    path, size = str(row.path), row.size_irc  # type: ignore[attr-defined]
    if any(_MASK_NAME.search(part) for part in path.split("/")):
        return True
    num_voxels = int(np.prod(size))
    num_bytes = int(row.num_bytes)  # type: ignore[attr-defined]
    is_one_byte = num_voxels <= num_bytes <= min(num_voxels + _HEADER_BYTES, 1.5 * num_voxels)
    return is_one_byte or num_bytes < _MASK_BYTES_A_VOXEL * num_voxels


def _reason_of_voxels(data_root: Path, uid: str, path: str) -> str | None:
    try:
        ct = open_ct(data_root / path, series_instance_uid=uid).read()
        if ct.is_hounsfield:
            check_plausible_hu(ct.hounsfield, where=f"{path}, series {uid}")
    except Exception as error:
        return failure_of(error, uid)
    return None


def faults_of_doubles(catalogue: pd.DataFrame, data_root: Path, used: Collection[str] | None) -> Iterator[Fault]:
    """Yield CTs in one file whose content is that of another series: files of equal size are compared.

    Args:
        catalogue: As from ``catalogue_series``.
        data_root: Folder that its paths are relative to.
        used: As for ``faults_of_unreadable``; others are not compared.
    """
    groups: dict[tuple[object, ...], list[tuple[str, str, list[Path]]]] = defaultdict(list)
    rows = catalogue[catalogue["is_readable"] & ~catalogue["format"].isin(["dicom", "nodulemnist3d", *_SECRET_NAMES])]
    if used is not None:
        rows = rows[rows["series_instance_uid"].isin(used)]
    for row in rows.itertuples():
        uid, path = str(row.series_instance_uid), str(row.path)
        reader = open_ct(data_root / path, series_instance_uid=uid)
        # The header beside a voxel file names it; equal scans under two names have different headers.
        files = list(reader.files())
        voxels = [file for file in files if file.suffix.lower() not in (".mhd", ".nhdr")] or files
        sizes = tuple(file.stat().st_size for file in voxels)
        groups[(row.format, str(row.size_irc), *sizes)].append((uid, path, voxels))
    for group in groups.values():
        yield from _doubles_in(group)


def _doubles_in(group: Sequence[tuple[str, str, list[Path]]]) -> Iterator[Fault]:
    if len(group) < 2:
        return
    alike: dict[bytes, list[tuple[str, str, list[Path]]]] = defaultdict(list)
    for item in group:
        alike[b"".join(_sample_of(path) for path in item[2])].append(item)
    for items in alike.values():
        same: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for uid, path, files in items if len(items) > 1 else ():
            same[content_fingerprint(files)].append((uid, path))
        for copies in same.values():
            if len(copies) > 1:
                names = ", ".join(path for _, path in copies[:_MAX_NAMED])
                got = f"the same content in {len(copies)} files: {names}"
                cure = "Keep one: copies may lie in training and test."
                yield Fault(rule="Each scan must be there once", got=got, cure=cure, file=copies[0][1])


def _sample_of(path: Path) -> bytes:
    """Return bytes from the middle of a file: most files of one size differ there."""
    with path.open("rb") as file:
        file.seek(path.stat().st_size // 2)
        return file.read(_SAMPLE_BYTES)


def faults_of_patients(
    catalogue: pd.DataFrame, patients: Mapping[str, str], folds: Mapping[str, int]
) -> Iterator[Fault]:
    """Yield patients in two folds, CTs without a patient beside others with one, and ids that many CTs share.

    Args:
        catalogue: As from ``catalogue_series``, with patient_hash where the files name the patient.
        patients: Patient by series where a table names it; never shown.
        folds: Fold by series.
    """
    rows = catalogue[catalogue["is_readable"]]
    hashes = dict(zip(rows["series_instance_uid"], rows["patient_hash"], strict=True))
    of_series = {str(uid): patients.get(str(uid)) or found for uid, found in hashes.items()}
    groups: dict[str, list[str]] = defaultdict(list)
    for uid, patient in of_series.items():
        if isinstance(patient, str):
            groups[patient].append(uid)
    yield from _in_two_folds(groups, folds)
    bare = sorted(uid for uid, patient in of_series.items() if not isinstance(patient, str))
    if bare and groups:
        got, cure = f"none for {_named(bare)}", "Name the patient, or its scans may lie in two folds."
        yield Fault(rule="Each CT must have a patient", got=got, cure=cure, is_error=False)
    if len(of_series) >= _MIN_PATIENTS and len(groups) == 1 and not bare:
        got = f"one id for all {len(of_series)} CTs"
        cure = "If they are of several patients, give each its own id: all count as one patient in the folds."
        yield Fault(rule="Patients must have different ids", got=got, cure=cure, is_error=False)
    yield from _named_otherwise(patients, hashes)


def _in_two_folds(groups: Mapping[str, Sequence[str]], folds: Mapping[str, int]) -> Iterator[Fault]:
    for uids in groups.values():
        numbers = sorted({folds[uid] for uid in uids if uid in folds})
        if len(numbers) > 1:
            cure = "Give all scans of a patient the same fold."
            yield Fault(rule="A patient must be in one fold", got=str(numbers), cure=cure, where=_named(sorted(uids)))


def _named_otherwise(patients: Mapping[str, str], hashes: Mapping[str, object]) -> Iterator[Fault]:
    """Yield series that the table gives to different patients and the files to one."""
    by_file: dict[str, list[str]] = defaultdict(list)
    for uid, found in hashes.items():
        if isinstance(found, str) and uid in patients:
            by_file[found].append(uid)
    for uids in by_file.values():
        if len({patients[uid] for uid in uids}) > 1:
            got = f"two patients in the table and one PatientID in the files for {_named(sorted(uids))}"
            rule, cure = "Scans of one patient must have the same patient", "Correct the table or the files."
            yield Fault(rule=rule, got=got, cure=cure, is_error=False)


def _named(uids: Sequence[str]) -> str:
    more = f" and {len(uids) - _MAX_NAMED} more" if len(uids) > _MAX_NAMED else ""
    return f"series {', '.join(uids[:_MAX_NAMED])}{more}"
