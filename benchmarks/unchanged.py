"""Cost of finding that nothing changed, by number of series; their CTs and cutouts are small but real files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.data import ORIGIN_XYZ, SPACING_MM, Site, points_in, table_of, uid_of
from benchmarks.project import ProjectCutter
from benchmarks.timing import OnRun, Way, measure
from benchmarks.workload import Workload
from luna_pipeline.core.ct.catalogue import catalogue_series
from luna_pipeline.core.cutouts.up_to_date import UpToDateMarker

SIZE_IRC = (8, 16, 16)
CHUNK_SHAPE_IRC = (2, 2, 2)
HEADER = f"""ObjectType = Image
NDims = 3
BinaryData = True
BinaryDataByteOrderMSB = False
CompressedData = False
TransformMatrix = 1 0 0 0 1 0 0 0 1
Offset = {" ".join(map(str, ORIGIN_XYZ))}
CenterOfRotation = 0 0 0
AnatomicalOrientation = RAI
ElementSpacing = {" ".join(map(str, SPACING_MM))}
DimSize = {" ".join(map(str, reversed(SIZE_IRC)))}
ElementType = MET_SHORT
ElementDataFile = """


@dataclass(frozen=True, eq=False)
class TinySeries:
    """Series that were cut, and the check of whether they are current."""

    site: Site
    folder: Path

    @property
    def marker(self) -> UpToDateMarker:
        """Return the marker that everything is current."""
        return UpToDateMarker(self.site.data_root, self._cutouts, [self._table], {"benchmark": 1})

    def cut(self) -> None:
        """Cut what is missing, and write the marker."""
        summary = self._cutter().service.cut_many()
        if summary.failed:
            msg = f"Tiny series must be cut, got {next(iter(summary.failed.values()))}"
            raise RuntimeError(f"{msg} ({len(summary.failed)} such). Fix the cutting.")
        self.site.candidates.to_parquet(self._table)
        self.marker.write(self.marker.stat_digest(), self.marker.files())

    def look_at_note(self) -> None:
        """Check with the marker, as a repeated command does."""
        if not self.marker.holds():
            msg = "The note of an unchanged check must hold, got one that does not. Cut first."
            raise RuntimeError(msg)

    def look_at_files(self) -> None:
        """Check without the marker: the tables are in memory, and the header of each cutout file is read."""
        num_stale = int((self._cutter().service.plan()["state"] != "current").sum())
        if num_stale:
            msg = f"All series of an unchanged check must be current, got {num_stale} that are not. Cut first."
            raise RuntimeError(msg)

    @property
    def _table(self) -> Path:
        return self.folder / "candidates.parquet"

    @property
    def _cutouts(self) -> Path:
        return self.folder / "cutouts"

    def _cutter(self) -> ProjectCutter:
        """Return a cutting service without cached state."""
        return ProjectCutter(self.site, out=self._cutouts, chunk_shape_irc=CHUNK_SHAPE_IRC)


def run(workload: Workload, *, folder: Path, on_run: OnRun | None = None) -> dict[str, Any]:
    """Measure the check for increasing numbers of series, and for all of LUNA16's rows.

    Returns:
        Milliseconds of the check with the marker and from the files, by number of series (``by_series``), and at
        LUNA16's size (``luna16``) with its numbers.
    """
    by_series = {}
    for count in workload.check_counts:
        series = make_series(folder / "growing", np.full(count, workload.check_candidates))
        by_series[str(count)] = _timed(series, workload.repeats, on_run)
    rows = np.full(workload.num_table_series, workload.num_table_rows // workload.num_table_series)
    rows[: workload.num_table_rows - rows.sum()] += 1
    luna16 = _timed(make_series(folder / "luna16", rows), workload.repeats, on_run)
    return {"by_series": by_series, "luna16": {**luna16, "num_series": len(rows), "num_rows": int(rows.sum())}}


def make_series(folder: Path, counts: NDArray[np.int64]) -> TinySeries:
    """Write small CTs with this many candidates each, unless they exist; nothing is cut."""
    data_root = folder / "data"
    data_root.mkdir(parents=True, exist_ok=True)
    uids = [uid_of(number) for number in range(len(counts))]
    voxels = np.random.default_rng(0).integers(-1000, 400, size=SIZE_IRC, dtype=np.int16).tobytes()
    for uid in uids:
        if not (data_root / f"{uid}.mhd").exists():
            (data_root / f"{uid}.raw").write_bytes(voxels)
            (data_root / f"{uid}.mhd").write_text(f"{HEADER}{uid}.raw\n")
    points_xyz = points_in(SIZE_IRC, int(counts.sum()), seed=(0, 3))
    candidates = table_of(np.repeat(np.asarray(uids, dtype=object), counts), points_xyz)
    catalogue = catalogue_series(data_root, patient_key=b"benchmark")
    return TinySeries(Site(data_root, uids, "", uids, catalogue, candidates), folder)


def _timed(series: TinySeries, repeats: int, on_run: OnRun | None) -> dict[str, Any]:
    series.cut()
    ways = [Way("by_note", series.look_at_note), Way("by_files", series.look_at_files)]
    return {name: timing.as_dict() for name, timing in measure(ways, repeats=repeats, on_run=on_run).items()}
