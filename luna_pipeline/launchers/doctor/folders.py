"""Findings about memory, disks, and the folders of an installation."""

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from luna_pipeline.core.storage.files import listing
from luna_pipeline.launchers.doctor.findings import Finding, State
from luna_pipeline.settings import Settings

GIB = 2**30
MIN_FREE_GIB, FEW_FREE_GIB = 1, 10
FEW_MEMORY_GIB = 4
CT_ENDINGS = (".mhd", ".mha", ".nrrd", ".nhdr", ".nii", ".nii.gz", ".dcm")
_SECONDS_TO_COUNT = 2.0


def memory() -> Iterator[Finding]:
    """Report the memory that is free for processes."""
    import psutil

    found = psutil.virtual_memory()
    value = f"{found.available / GIB:.1f} of {found.total / GIB:.1f} GiB available, {os.cpu_count()} CPUs"
    if found.available >= FEW_MEMORY_GIB * GIB:
        yield Finding("Memory", "ok", value)
    else:
        fix = "End other programs, or use fewer processes (--workers) and a smaller batch (--batch-size)."
        yield Finding("Memory", "note", f"{value}; training and a CT in memory take a few GiB", fix)


def disk(name: str, folder: Path, fix: str) -> Iterator[Finding]:
    """Report the space that is free for a folder, and whether files can be written to it.

    Args:
        name: Name of the finding.
        folder: The folder; if it does not exist yet, its first existing parent is examined.
        fix: What to do if the space is too small.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free_gib = _free_bytes(there) / GIB
    value = f"{folder}: {free_gib:.1f} GiB free" + ("" if there == folder else " (not made yet)")
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"written by luna doctor")
    except OSError as error:
        reason = error.strerror or str(error)
        fix = f"chown or chmod {there}, or set {name} to another folder."
        yield Finding(name, "problem", f"{value}; cannot be written: {reason}", fix)
        return
    if free_gib < MIN_FREE_GIB:
        yield Finding(name, "problem", value, fix)
    elif free_gib < FEW_FREE_GIB:
        yield Finding(name, "note", f"{value}; cutouts of all of LUNA16 take about 111 GB", fix)
    else:
        yield Finding(name, "ok", value)


def _free_bytes(folder: Path) -> int:
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def home(settings: Settings) -> Iterator[Finding]:
    """Report whether the home can be written, or its address in S3 answers."""
    if isinstance(settings.home, Path):
        yield from disk("LUNA_HOME", settings.home, "Make room (`luna prune`), or set LUNA_HOME to a larger disk.")
        return
    try:
        num_tables = len(listing(settings.tables_dir))
    except OSError as error:
        fix = "Check AWS_ENDPOINT_URL_S3, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and that the bucket exists."
        yield Finding("LUNA_HOME", "problem", f"{settings.home}: {' '.join(str(error).split())}", fix)
    else:
        yield Finding("LUNA_HOME", "ok", f"{settings.home} answers, {num_tables} tables")


def data(settings: Settings, *, is_named: bool) -> Iterator[Finding]:
    """Report which tables and how many CTs lie in the data root, from names of files only.

    Args:
        settings: Paths of the installation.
        is_named: Whether LUNA_DATA_DIR is set: then the folder must exist.
    """
    folder = settings.data_dir
    if not folder.is_dir():
        fix = "Set LUNA_DATA_DIR to your CTs, or run `make demo`, which makes synthetic ones."
        yield _data("problem" if is_named else "note", f"{folder}: no such folder", fix)
    elif not os.access(folder, os.R_OK | os.X_OK):
        yield _data("problem", f"{folder}: cannot be read", f"chmod u+rx {folder}, or run as its owner.")
    else:
        yield _held(settings, folder)


def _held(settings: Settings, folder: Path) -> Finding:
    tables = sorted(path.name for path in folder.glob("*.csv*"))
    num_cts, is_all = _num_cts(folder)
    counted = f"{'' if is_all else 'more than '}{num_cts} CT files"
    synthetic = "; synthetic data" if settings.is_synthetic else ""
    value = f"{folder}: {counted}, {', '.join(tables) or 'no tables'}{synthetic}"
    if num_cts and tables:
        return _data("ok", value)
    return _data("note", value, f"`luna check_data {folder}` says what is missing.")


def _num_cts(folder: Path) -> tuple[int, bool]:
    """Return the number of files that may be CTs (of DICOM, slices), and whether all folders were seen in time."""
    ends, num_found = time.monotonic() + _SECONDS_TO_COUNT, 0
    for _, _, names in os.walk(folder):
        num_found += sum(name.lower().endswith(CT_ENDINGS) for name in names)
        if time.monotonic() > ends:
            return num_found, False
    return num_found, True


def _data(state: State, value: str, fix: str = "") -> Finding:
    return Finding("LUNA_DATA_DIR", state, value, fix)
