"""Check that all procedures cut the same voxels."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.data import Site
from benchmarks.one_series import tutorial_cutter
from benchmarks.project import ProjectCutter
from benchmarks.tutorial import TutorialCutter, nearest_voxel, read_ct
from benchmarks.workload import Workload
from luna_pipeline.core.ct.reading import open_ct
from luna_pipeline.core.cutouts.store import SeriesCutouts


def compare(site: Site, workload: Workload, *, folder: Path) -> dict[str, Any]:
    """Cut the same series with all procedures and compare voxel by voxel.

    Returns:
        num_rows; num_equal, equal to the tutorial's files; num_rounded_otherwise, where the tutorial's float32
        arithmetic gives the neighbouring voxel; num_unequal at the same voxel; how many of the former the whole table
        has; and whether the project's other procedures (compressed CT; two workers, flushed) cut the same.
    """
    uid, both = site.uids[0], [site.uids[0], site.compressed_uid]
    project = ProjectCutter(site, out=folder / "project", chunk_shape_irc=workload.chunk_shape_irc)
    workers = ProjectCutter(site, out=folder / "workers", chunk_shape_irc=workload.chunk_shape_irc, is_synced=True)
    tutorial = tutorial_cutter(site, workload, out=folder / "tutorial", has_csv=False)
    tutorial.cut_series(uid)
    project.cut_many(both)
    workers.cut_many(both, workers=2)
    cutouts = project.read(uid)
    result = _against_tutorial(tutorial, uid, cutouts) | {
        "num_table_rows": len(site.candidates),
        "num_table_rounded_otherwise": _rounded_otherwise(site, uid),
        "is_zraw_equal": _is_equal(cutouts, project.read(site.compressed_uid)),
        "are_workers_equal": all(_is_equal(cutouts, workers.read(other)) for other in both),
    }
    shutil.rmtree(folder)
    return result


def _against_tutorial(tutorial: TutorialCutter, uid: str, cutouts: SeriesCutouts) -> dict[str, int]:
    ct = read_ct(tutorial.data_root / f"{uid}.mhd")
    rows = tutorial.rows_of(uid)
    counts = {"num_rows": len(rows), "num_equal": 0, "num_rounded_otherwise": 0, "num_unequal": 0}
    # A candidate's id is its row in the table.
    chunks = np.asarray(cutouts.ct_chunks)
    for row, center_irc, chunk in zip(cutouts.candidate_id, cutouts.center_irc, chunks, strict=True):
        tutorial_irc, _ = tutorial.place_of(ct, row)
        if not np.array_equal(tutorial_irc, center_irc):
            counts["num_rounded_otherwise"] += 1
        elif np.array_equal(_chunk_of(tutorial, row), chunk):
            counts["num_equal"] += 1
        else:
            counts["num_unequal"] += 1
    return counts


def _rounded_otherwise(site: Site, uid: str) -> int:
    """Return in how many rows of the whole table the tutorial uses another voxel; all CTs have the same grid here."""
    path = site.header_path(uid)
    points_xyz = site.candidates[["x_mm", "y_mm", "z_mm"]].to_numpy()
    nearest = open_ct(path, series_instance_uid=uid).grid().nearest_voxel(points_xyz)
    of_tutorial = nearest_voxel(read_ct(path), points_xyz.astype(np.float32))
    return int((of_tutorial != nearest).any(axis=1).sum())


def _chunk_of(tutorial: TutorialCutter, row: Any) -> NDArray[np.float32]:
    with np.load(str(tutorial.table.at[row, "file_path"])) as members:
        return np.asarray(members["ct_chunk"])


def _is_equal(first: SeriesCutouts, second: SeriesCutouts) -> bool:
    names = ("center_irc", "center_xyz", "ct_chunks")
    return all(np.array_equal(getattr(first, name), getattr(second, name)) for name in names)
