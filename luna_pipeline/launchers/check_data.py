"""Everything that is wrong with a data root, for ``luna check_data``, and the template of a user's own tables."""

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luna_pipeline.core.storage.files import is_remote, write_bytes
from luna_pipeline.settings import Settings

if TYPE_CHECKING:
    from luna_pipeline.core.sources.card import SourceCard
    from luna_pipeline.core.sources.data_check import SourceReport
    from luna_pipeline.core.sources.faults import Fault

_MAX_WORKERS = 8
_EXAMPLE_SCANS = "series,patient,fold,site,notes\n"
_EXAMPLE_NODULES = "series,x_mm,y_mm,z_mm,frame,diameter_mm,kind,malignant,ratings,notes\n"


@dataclass(frozen=True)
class DataReport:
    """What is wrong with a data root.

    Attributes:
        sources: A report by source, with the source's card.
        faults: Faults of the installation, such as too little space on the disk.
    """

    sources: tuple[tuple["SourceReport", "SourceCard"], ...]
    faults: tuple["Fault", ...]

    @property
    def all_faults(self) -> list["Fault"]:
        """All faults, errors first."""
        found = [*(fault for report, _ in self.sources for fault in report.faults), *self.faults]
        return sorted(found, key=lambda fault: not fault.is_error)

    @property
    def num_errors(self) -> int:
        """Number of errors; the others are warnings."""
        return sum(fault.is_error for fault in self.all_faults)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "sources": [
                {
                    "name": report.name,
                    "num_cts": report.num_cts,
                    "num_readable": report.num_readable,
                    "num_rows": dict(report.num_rows),
                    "licence": card.licence,
                    "citation": card.citation,
                    "traps": list(card.traps),
                }
                for report, card in self.sources
            ],
            "num_errors": self.num_errors,
            "num_warnings": len(self.all_faults) - self.num_errors,
            "faults": [fault.as_dict() for fault in self.all_faults],
        }

    def lines(self) -> Iterator[str]:
        """Yield the report for people."""
        for report, card in self.sources:
            rows = ", ".join(f"{number} rows in {name}" for name, number in report.num_rows.items())
            more = f"; {rows}" if rows else ""
            yield f"{card.title} ({report.name}): {report.num_readable} of {report.num_cts} CTs are readable{more}."
        faults = self.all_faults
        for number, fault in enumerate(faults, start=1):
            if number == 1 and fault.is_error:
                yield "Errors:"
            if number == self.num_errors + 1:
                yield "Warnings:"
            yield f"{number:3d}. {fault}"
        for _, card in self.sources:
            yield f"Licence: {card.licence}."
            yield f"Citation: {card.citation}."
            yield from (f"Trap: {trap}" for trap in card.traps)
        yield f"{self.num_errors} errors, {len(faults) - self.num_errors} warnings."


def check_data(
    settings: Settings, data_root: Path, sources: Sequence[str] = (), *, reads_voxels: bool = False
) -> DataReport:
    """Check a data root; nothing is written.

    Args:
        settings: Where cutouts would be written.
        data_root: The folder.
        sources: Data sources by name; empty for those that lie in the folder.
        reads_voxels: Whether the voxels of all CTs are read, too.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If a source is not known.
    """
    from luna_pipeline.core.sources.data_check import check_source
    from luna_pipeline.core.sources.located import locate_sources

    if not data_root.is_dir():
        msg = f"The data folder must be there, got {data_root} (no such folder). Make it and put CTs into it."
        raise FileNotFoundError(msg)
    workers = min(_MAX_WORKERS, os.cpu_count() or 1)
    reports = tuple(
        (check_source(located, data_root, reads_voxels=reads_voxels, workers=workers), located.source.card)
        for located in locate_sources(data_root, sources)
    )
    num_cutouts = sum(report.num_cutouts for report, _ in reports)
    return DataReport(reports, tuple(_faults_of_disk(settings, num_cutouts)))


def write_template(folder: Path) -> list[Path]:
    """Write ``scans.csv`` with a row for each CT below a folder, and ``nodules.csv`` with its header.

    Args:
        folder: Folder with CTs, or a new one. Patients are left empty: they are the user's to name.

    Returns:
        The two files.

    Raises:
        FileExistsError: If one of them is there.
    """
    from luna_pipeline.core.ct.catalogue import catalogue_series
    from luna_pipeline.core.sources.csv_and_folder import NODULES_FILE, SCANS_FILE

    paths = [folder / SCANS_FILE, folder / NODULES_FILE]
    if there := [path.name for path in paths if path.exists()]:
        msg = f"A template is written beside no other tables, got {' and '.join(there)} ({folder})."
        raise FileExistsError(f"{msg} Choose another folder, or rename them.")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        catalogue = catalogue_series(folder, patient_key=os.urandom(32))
        uids = catalogue.loc[catalogue["is_readable"], "series_instance_uid"].tolist()
    except FileNotFoundError:
        uids = []
    rows = "".join(f"{uid},,,,\n" for uid in uids)
    write_bytes(paths[0], (_EXAMPLE_SCANS + rows).encode())
    write_bytes(paths[1], _EXAMPLE_NODULES.encode())
    return paths


def _faults_of_disk(settings: Settings, num_cutouts: int) -> Iterator["Fault"]:
    """Yield that the cutouts of all positions do not fit on the disk."""
    from luna_pipeline.core.cutouts.cutting import CuttingParameters
    from luna_pipeline.core.sources.faults import Fault

    home = settings.home
    if is_remote(home) or not isinstance(home, Path):
        return
    there = next(folder for folder in (home, *home.parents) if folder.exists())
    needed, free = num_cutouts * CuttingParameters().num_chunk_bytes, shutil.disk_usage(there).free
    if needed > free:
        got = f"{free / 1e9:.2f} GB for {num_cutouts} cutouts of {needed / 1e9:.2f} GB"
        cure = "Free the disk, set LUNA_HOME to another one, or cut fewer: `luna create_cutouts --training-length`."
        yield Fault(rule="The disk must have space for the cutouts", got=got, cure=cure)
