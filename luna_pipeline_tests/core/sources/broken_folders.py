"""Ten broken data folders, each a small phantom with several faults, and the faults that must be named."""

import csv
import gzip
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.phantom.series import PhantomConfig, make_series

SEED, SIZE = 3, (32, 40, 40)
UIDS = [PhantomConfig(SEED, number, SIZE).series_instance_uid for number in range(4)]
# As the twin of csv_and_folder writes them.
DICOM, MHA, NII, NRRD = UIDS
SCANS, NODULES = "scans.csv", "nodules.csv"


@dataclass(frozen=True)
class Broken:
    """A broken folder: the source it is made of, how it is broken, and patterns of its errors and warnings."""

    source: str
    spoil: Callable[[Path], None]
    errors: tuple[str, ...]
    warnings: tuple[str, ...] = ()


def rows_of(path: Path) -> list[dict[str, str]]:
    """Read a table."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write_rows(path: Path, rows: list[dict[str, str]], **options: str) -> None:
    """Write a table."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n", **options)
        writer.writeheader()
        writer.writerows(rows)


def edit(path: Path, change: Callable[[list[dict[str, str]]], None]) -> None:
    """Change the rows of a table."""
    rows = rows_of(path)
    change(rows)
    write_rows(path, rows)


def line_of(rows: list[dict[str, str]], series: str) -> int:
    """Return the place of the first row of a series."""
    return next(place for place, row in enumerate(rows) if row["series"] == series)


def grid_of(uid: str) -> VoxelGrid:
    """Return the grid of a phantom's series."""
    return make_series(PhantomConfig(SEED, UIDS.index(uid), SIZE)).grid


def write_mask(path: Path, uid: str, kind: type = np.uint8) -> None:
    """Write a mask on the grid of a series."""
    grid = grid_of(uid)
    image = sitk.GetImageFromArray((np.indices(grid.size_irc).sum(axis=0) % 7 == 0).astype(kind))
    image.SetSpacing(grid.spacing_mm)
    image.SetOrigin(grid.origin_xyz)
    image.SetDirection(grid.direction)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path), useCompression=True)


def _spreadsheet(root: Path) -> None:
    rows = rows_of(root / NODULES)
    rows[0]["diameter_mm"], rows[1]["kind"] = "0.51", "Knoten"
    rows = [{name: value.replace(".", ",") if "mm" in name else value for name, value in row.items()} for row in rows]
    write_rows(root / NODULES, rows, delimiter=";")
    (root / SCANS).write_text((root / SCANS).read_text(), encoding="utf-16")
    path = root / f"scans/{MHA}.mha"
    path.write_bytes(path.read_bytes()[:3000])


def _names(root: Path) -> None:
    def change(rows: list[dict[str, str]]) -> None:
        rows[1]["series"] = f"{MHA}.mha"
        rows.append(dict(rows[0], fold=rows[0]["fold"]))
        rows.append(dict(rows[0], series="1.2.3.4", patient="PHANTOM-0099"))

    edit(root / SCANS, change)
    edit(root / NODULES, lambda rows: rows[line_of(rows, NII)].update(series="2.25.7"))


def _orientation(root: Path) -> None:
    def change(rows: list[dict[str, str]]) -> None:
        for row in rows:
            if row["series"] in (NII, NRRD):
                row["frame"] = "LPS"
        rows[line_of(rows, MHA)]["z_mm"] = "9000"
        rows[line_of(rows, MHA) + 1]["frame"] = "RPI"
        rows[line_of(rows, MHA) + 2]["frame"] = ""

    edit(root / NODULES, change)


def _units(root: Path) -> None:
    def change(rows: list[dict[str, str]]) -> None:
        for row in rows:
            if row["series"] != MHA:
                row.update({axis: f"{float(row[axis]) / 10:.6g}" for axis in ("x_mm", "y_mm", "z_mm")})
        grid = grid_of(MHA)
        for row in rows:
            if row["series"] == MHA:
                point = [float(row[axis]) for axis in ("x_mm", "y_mm", "z_mm")]
                voxel = grid.nearest_voxel(np.array(point))[::-1]
                row.update({axis: str(int(value)) for axis, value in zip(("x_mm", "y_mm", "z_mm"), voxel, strict=True)})
        rows[0]["diameter_mm"] = "0.4"
        rows[1]["diameter_mm"] = "400"
        rows[2]["diameter_mm"] = "6 mm"

    edit(root / NODULES, change)


def _patients(root: Path) -> None:
    def change(rows: list[dict[str, str]]) -> None:
        rows[0]["patient"] = ""
        rows[2]["fold"], rows[3]["fold"] = "0", "1"
        rows[1]["fold"] = "one"

    edit(root / SCANS, change)
    path = root / SCANS
    path.write_bytes(path.read_bytes().replace(b"PHANTOM-0001", "PHANTÖM".encode("latin-1")))


def _files(root: Path) -> None:
    scans = root / "scans"
    path = scans / f"{NRRD}.nrrd"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (scans / f"{MHA}.mha.gz").write_bytes(gzip.compress((scans / f"{MHA}.mha").read_bytes()))
    (scans / f"{MHA}.mha").unlink()
    sorted((scans / DICOM).iterdir())[10].unlink()
    (scans / f"{NII}.nii.gz").unlink()
    os.symlink("gone.nii.gz", scans / f"{NII}.nii.gz")
    (root / NODULES).unlink()


def _doubles(root: Path) -> None:
    shutil.copy(root / f"scans/{MHA}.mha", root / "scans/1.2.3.mha")
    edit(root / SCANS, lambda rows: rows.append(dict(rows[0], series="1.2.3", patient="PHANTOM-0044")))

    def change(rows: list[dict[str, str]]) -> None:
        rows.append(dict(rows[0], x_mm=f"{float(rows[0]['x_mm']):.12f}0"))

    edit(root / NODULES, change)
    path = root / NODULES
    path.write_text(path.read_text().replace(",notes", ",kind", 1))
    shutil.copytree(root / "scans" / DICOM, root / "scans" / "copy")


def _masks(root: Path) -> None:
    write_mask(root / f"scans/{MHA}_mask.nii.gz", MHA)
    write_mask(root / "scans/lungs.nrrd", NII, np.int16)
    write_mask(root / "scans/unlisted_mask.nrrd", NII, np.int16)
    path = root / f"scans/{NRRD}.nrrd"
    image = sitk.ReadImage(str(path))
    sitk.WriteImage(image + 1024, str(path), useCompression=True)

    def change(rows: list[dict[str, str]]) -> None:
        rows.append(dict(rows[0], series=f"{MHA}_mask", patient="PHANTOM-0070"))
        rows.append(dict(rows[0], series="lungs", patient="PHANTOM-0071"))

    edit(root / SCANS, change)


def _luna16_tables(root: Path) -> None:
    path = root / "annotations.csv"
    path.write_text(path.read_text().replace("coordZ", "Z"))
    rows = rows_of(root / "candidates_V2.csv")
    rows[0]["class"] = "2"
    for row in rows:
        row["coordX"], row["coordY"] = f"{-float(row['coordX']):.6g}", f"{-float(row['coordY']):.6g}"
    write_rows(root / "candidates_V2.csv", rows)
    (root / "luna16_subsets.csv").write_text(f"seriesuid,subset\n{UIDS[0]},0\n{UIDS[0]},1\n{UIDS[1]},x\n")
    (root / "annotations_with_malignancy.csv").write_text("")
    write_mask(root / f"subset0/{UIDS[0]}_seg.mha", UIDS[0])


def _luna16_lines(root: Path) -> None:
    lines = (root / "annotations.csv").read_text().splitlines()
    lines[1] += ",7"
    lines[2] = lines[2].replace(".", '"', 1)
    lines[3] = lines[3].rpartition(",")[0] + ",1\0"
    lines[4] = lines[4].rpartition(",")[0] + ',"5,2"'
    (root / "annotations.csv").write_text("\n".join(lines) + "\n")
    rows = rows_of(root / "candidates_V2.csv")
    write_rows(root / "candidates_V2.csv", [{**row, "seriesuid": f"{row['seriesuid']}.mhd"} for row in rows])
    (root / "tables").mkdir()
    (root / "annotations_with_malignancy.csv").rename(root / "tables/annotations_with_malignancy.csv")
    header = next(root.glob("subset*/*.mhd"))
    header.write_text(re.sub(r"ElementSpacing = .*", "ElementSpacing = 0,7 0,7 1,25", header.read_text()))


BROKEN = {
    "spreadsheet": Broken(
        "csv_and_folder",
        _spreadsheet,
        (
            r"UTF-16 \(scans.csv\)",
            r"separated by commas, got semicolons \(nodules.csv line 1\)",
            r"diameter_mm must be from 1 to 150 mm, got '0.51' \(nodules.csv line 2\)",
            r"kind must be nodule or excluded or not_nodule, got 'Knoten' \(nodules.csv line 3\)",
            rf"{MHA}",
        ),
    ),
    "names": Broken(
        "csv_and_folder",
        _names,
        (
            r"Each row must have its own series, got the same in 2 rows \(scans.csv line 2, 6\)",
            rf"must have a CT, got .* \(scans.csv line 3, 7\).*{MHA}.mha' in the table, .* end in '.mha'",
            rf"must have a row in scans.csv, got '{MHA}'",
            r"must have a row in scans.csv, got '2.25.7'",
        ),
        (rf"A CT must have a row in the table, got '{MHA}' without one \(scans.csv\)",),
    ),
    "orientation": Broken(
        "csv_and_folder",
        _orientation,
        (
            r"frame must be LPS or RAS, got 'RPI'",
            r"frame must have a value in each row, got ''",
            r"A position must lie in its CT.*ith x and y negated .* \(RAS instead of LPS\?\)",
            r"A position must lie in its CT, got \(.*, 9000\) mm in LPS \(nodules.csv line \d+, series",
        ),
    ),
    "units": Broken(
        "csv_and_folder",
        _units,
        (
            r"diameter_mm must be from 1 to 150 mm, got '0.4' \(nodules.csv line 2, 3\)",
            r"diameter_mm must be a finite number, got '6 mm' \(nodules.csv line 4\)",
            r"A position must lie in its CT.*ultiplied by 10, .* \(cm instead of mm\?\)",
            r"A position must lie in its CT.*s voxels \(column, row, slice\) .* \(voxels instead of mm\?\)",
        ),
    ),
    "patients": Broken(
        "csv_and_folder",
        _patients,
        (
            r"patient must have a value in each row, got '' \(scans.csv line 2\)",
            r"patient must be text in UTF-8, got a value that is not shown \(scans.csv line 3\)",
            r"fold must be a finite number, got a value that is not shown \(scans.csv line 3\)",
            r"A patient must be in one fold, got \[0, 1\] \(scans.csv line 4, 5\)",
        ),
    ),
    "files": Broken(
        "csv_and_folder",
        _files,
        (
            r"must hold nodules.csv, got none",
            rf"{NRRD}",
            rf"must not be packed .*, got a .gz file \(scans/{MHA}",
            rf"{DICOM}",
            r"must be regular files or links to them, got",
            rf"A series of the table must have a CT, got '{NII}' and 1 more series without one \(scans.csv line 3, 4\)",
        ),
    ),
    "doubles": Broken(
        "csv_and_folder",
        _doubles,
        (
            r"Each scan must be there once, got the same content in 2 files",
            r"Each row must have its own series, x_mm, y_mm, z_mm, got the same in 2 rows \(nodules.csv line 2, \d+\)",
            r"Column kind must be in the table once, got kind, kind \(nodules.csv line 1\)",
            rf"The slices of a series must lie in one folder, got 2.*{DICOM}",
        ),
    ),
    "masks": Broken(
        "csv_and_folder",
        _masks,
        (
            rf"must hold one number of 16 bits .*{MHA}_mask.*Leave label maps",
            r"Voxels must be HU .*lungs.nrrd",
            rf"Voxels must be HU .*{NRRD}.nrrd",
        ),
    ),
    "luna16_tables": Broken(
        "luna16",
        _luna16_tables,
        (
            r"Column coordZ must be in the table, got seriesuid, .*Z, diameter_mm \(annotations.csv line 1\)",
            r"class must be 0 or 1, got '2' \(candidates_V2.csv line 2\)",
            r"A position must lie in its CT.*candidates_V2.csv.*RAS instead of LPS",
            r"Each row must have its own seriesuid, got the same in 2 rows \(luna16_subsets.csv line 2, 3\)",
            r"subset must be a finite number, got 'x' \(luna16_subsets.csv line 4\)",
            r"an empty file|annotations_with_malignancy.csv",
            r"must hold one number of 16 bits .*_seg.*Leave label maps",
        ),
    ),
    "luna16_lines": Broken(
        "luna16",
        _luna16_lines,
        (
            r"A line must have 5 values as the header, got 6 \(annotations.csv line 2\)",
            r"A quote must be closed on its line, got one that is not \(annotations.csv line 3\)",
            r"diameter_mm must have no NUL bytes, got '1\u2400' \(annotations.csv line 4\)",
            r"diameter_mm must have a decimal point, got '5,2' \(annotations.csv line 5\)",
            r"must have a CT, got .*candidates_V2.csv.*end in '.mhd'",
            r"(?i)spacing.*0,7",
        ),
        (
            r"A CT must have a row in the table, got .* \(candidates_V2.csv\)",
            r"must be at the top of the data folder, got tables/annotations_with_malignancy.csv",
        ),
    ),
}
