"""Copies of a real scan with one fault each, read by the project and by SimpleITK's readers.

``python -m benchmarks.damaged_copies --scan FOLDER --out FOLDER`` writes a table as Markdown. A copy is *refused* with
a reason, or *right*: each voxel within 0.1 mm of its place and with its HU. Anything else is wrong. There is no copy
whose header is wrong alike in all slices, but possible (a mirrored patient, another pixel spacing): no reader can tell.
"""

# SimpleITK types half of its wrappers.
# mypy: allow-untyped-calls

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import SimpleITK as sitk

from benchmarks import damaged_dicom, damaged_volumes
from benchmarks.damaged_scan import RIGHT, Scan, Shifts, small_scan
from luna_pipeline.core.ct.errors import UnreadableCtError
from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.launchers.diagnosis.input import read_input

REFUSED = "refused"


@dataclass(frozen=True)
class Copy:
    """A copy of a scan with one fault."""

    file_format: str
    fault: str
    variant: str
    write: Callable[[Scan, Path], Path]
    shifts_mm: Shifts | None = None

    @property
    def name(self) -> str:
        """What distinguishes it."""
        return f"{self.file_format}: {self.fault}, {self.variant}"


@dataclass(frozen=True)
class Outcome:
    """What became of a copy: ``refused``, ``right`` or ``wrong: ...``, and the reason of a refusal."""

    copy: Copy
    ours: str
    reason: str
    simpleitk: str


def all_copies() -> Iterator[Copy]:
    """Yield all copies, DICOM first."""
    for fault, variant, damage in damaged_dicom.copies():
        shifts_mm = getattr(damage, "shifts_mm", None)

        yield Copy("DICOM", fault, variant, _of_files(damage), shifts_mm)
    for file_format, fault, variant, write in damaged_volumes.copies():
        yield Copy(file_format, fault, variant, _of_ct(write))


def _of_files(damage: damaged_dicom.Damage) -> Callable[[Scan, Path], Path]:
    return lambda scan, folder: _folder(damage(scan.files), folder)


def _of_ct(write: damaged_volumes.Write) -> Callable[[Scan, Path], Path]:
    return lambda scan, folder: write(scan.ct, folder)


def outcome_of(copy: Copy, scan: Scan, folder: Path) -> Outcome:
    """Write a copy into an empty folder and read it in both ways."""
    path = copy.write(scan, folder)
    try:
        ct = read_input(path).ct
        ours, reason = scan.verdict(ct.hounsfield, ct.grid, copy.shifts_mm), ""
    except (UnreadableCtError, FileNotFoundError) as error:
        ours, reason = REFUSED, str(error)
    return Outcome(copy, ours, reason, _by_simpleitk(path, scan, copy.shifts_mm))


def measured(scan: Scan, scratch: Path) -> list[Outcome]:
    """Return what becomes of every copy."""
    outcomes = []
    for number, copy in enumerate(all_copies()):
        folder = scratch / f"{number:03d}"
        folder.mkdir()
        outcomes.append(outcome_of(copy, scan, folder))
    return outcomes


def table_of(outcomes: list[Outcome]) -> str:
    """Return the outcomes as Markdown."""
    lines = ["# Damaged copies of a scan", "", _summary(outcomes), ""]
    lines += ["| format | fault | variant | luna diagnose | SimpleITK |", "|---|---|---|---|---|"]
    lines += [
        f"| {item.copy.file_format} | {item.copy.fault} | {item.copy.variant} | {item.ours} | {item.simpleitk} |"
        for item in outcomes
    ]
    return "\n".join(lines) + "\n"


def _summary(outcomes: list[Outcome]) -> str:
    def counted(values: list[str]) -> str:
        words = [value.split(":")[0] for value in values]
        return ", ".join(f"{words.count(word)} {word}" for word in (REFUSED, RIGHT, "wrong"))

    ours, theirs = [item.ours for item in outcomes], [item.simpleitk for item in outcomes]
    return (
        f"{len(outcomes)} copies of a real scan (24 slices, every fourth row and column) with one fault each. "
        f"`luna diagnose`: {counted(ours)}. SimpleITK {sitk.Version_VersionString()} (`ImageSeriesReader` with GDCM's "
        f"file names, `ReadImage`): {counted(theirs)}."
    )


def _folder(files: Sequence[bytes], folder: Path) -> Path:
    for number, content in enumerate(files):
        (folder / f"{number:03d}.dcm").write_bytes(content)
    return folder


def _by_simpleitk(path: Path, scan: Scan, shifts_mm: Shifts | None) -> str:
    try:
        image = _read_by_simpleitk(path)
        (num_cols, num_rows, num_slices), (col_mm, row_mm, slice_mm) = image.GetSize(), image.GetSpacing()
        x_mm, y_mm, z_mm = image.GetOrigin()
        size, spacing = (num_slices, num_rows, num_cols), (col_mm, row_mm, slice_mm)
    except (RuntimeError, ValueError):
        return REFUSED
    voxels = sitk.GetArrayFromImage(image)
    if voxels.ndim != 3:
        return "wrong: several channels"
    try:
        grid = VoxelGrid(size, spacing, (x_mm, y_mm, z_mm), image.GetDirection())
        return scan.verdict(voxels, grid, shifts_mm)
    except ValueError:
        return f"wrong: spacing {', '.join(f'{mm:.3g}' for mm in spacing)} mm"


def _read_by_simpleitk(path: Path) -> sitk.Image:
    if path.is_file():
        return sitk.ReadImage(str(path))
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(path)))
    image: sitk.Image = reader.Execute()
    return image


def main(arguments: list[str] | None = None) -> int:
    """Write the table and print its summary; 1 if a copy was read wrongly."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scan", type=Path, required=True, help="folder of the files of a chest CT")
    parser.add_argument("--out", type=Path, required=True, help="folder of damaged_copies.md")
    options = parser.parse_args(arguments)
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder) / "scan"
        scratch.mkdir()
        outcomes = measured(small_scan(options.scan, scratch), Path(folder))
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "damaged_copies.md").write_text(table_of(outcomes))
    wrong = [f"{item.copy.name}: {item.ours}" for item in outcomes if item.ours not in {REFUSED, RIGHT}]
    sys.stdout.write("\n".join([_summary(outcomes), *wrong]) + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
