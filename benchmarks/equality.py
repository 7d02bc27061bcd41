"""Do all ways cut the same voxels? A fast way that cuts others would be none."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.data import Site
from benchmarks.one_series import tutorial_cutter
from benchmarks.project import ProjectCutter, can_skip_sync, can_use_workers
from benchmarks.tutorial import TutorialCutter, nearest_voxel, read_ct
from benchmarks.workload import Workload
from luna_pipeline.core.cutouts.store import SeriesCutouts


def compare(site: Site, workload: Workload, *, folder: Path) -> dict[str, Any]:
    """Cut the same series in all ways and compare voxel by voxel.

    Returns:
        num_rows; num_equal of them to the tutorial's files; num_rounded_otherwise, whose voxel the tutorial's float32
        arithmetic takes from the neighbour; num_unequal at the same voxel; and by name whether the project's other
        ways (compressed CT, not waiting for the disk, two workers) cut the same.
    """
    shape = workload.chunk_shape_irc
    project = ProjectCutter(site, out=folder / "project", chunk_shape_irc=shape)
    tutorial = tutorial_cutter(site, workload, out=folder / "tutorial", has_csv=False)
    uid = site.uids[0]
    tutorial.cut_series(uid)
    project.cut_many([uid, site.compressed_uid])
    cutouts = project.read(uid)
    result = _against_tutorial(tutorial, uid, cutouts) | {
        "is_zraw_equal": _is_equal(cutouts, project.read(site.compressed_uid)),
        "is_unsynced_equal": _unsynced_equal(site, workload, folder, cutouts),
        "are_workers_equal": _workers_equal(site, workload, folder, cutouts),
    }
    project.remove()
    shutil.rmtree(tutorial.out)
    return result


def _against_tutorial(tutorial: TutorialCutter, uid: str, cutouts: SeriesCutouts) -> dict[str, int]:
    ct = read_ct(tutorial.data_root / f"{uid}.mhd")
    rows = tutorial.rows_of(uid)
    counts = {"num_rows": len(rows), "num_equal": 0, "num_rounded_otherwise": 0, "num_unequal": 0}
    for number, row in enumerate(rows):
        point = tutorial.table.loc[row, ["coord_x", "coord_y", "coord_z"]].to_numpy(dtype=np.float32)
        center_irc = nearest_voxel(ct, point)
        if not np.array_equal(center_irc, cutouts.center_irc[number]):
            counts["num_rounded_otherwise"] += 1
        elif np.array_equal(_chunk_of(tutorial, row), cutouts.ct_chunks[number]):
            counts["num_equal"] += 1
        else:
            counts["num_unequal"] += 1
    return counts


def _chunk_of(tutorial: TutorialCutter, row: Any) -> NDArray[np.float32]:
    with np.load(str(tutorial.table.at[row, "file_path"])) as members:
        return np.asarray(members["ct_chunk"])


def _unsynced_equal(site: Site, workload: Workload, folder: Path, expected: SeriesCutouts) -> bool | None:
    if not can_skip_sync():
        return None
    shape = workload.chunk_shape_irc
    cutter = ProjectCutter(site, out=folder / "unsynced", chunk_shape_irc=shape, is_synced=False)
    cutter.cut_series(site.uids[0])
    is_equal = _is_equal(expected, cutter.read(site.uids[0]))
    cutter.remove()
    return is_equal


def _workers_equal(site: Site, workload: Workload, folder: Path, expected: SeriesCutouts) -> bool | None:
    if not can_use_workers():
        return None
    cutter = ProjectCutter(site, out=folder / "workers", chunk_shape_irc=workload.chunk_shape_irc)
    cutter.cut_many([site.uids[0], site.compressed_uid], workers=2)
    is_equal = all(_is_equal(expected, cutter.read(uid)) for uid in (site.uids[0], site.compressed_uid))
    cutter.remove()
    return is_equal


def _is_equal(first: SeriesCutouts, second: SeriesCutouts) -> bool:
    names = ("center_irc", "center_xyz", "ct_chunks")
    return all(np.array_equal(getattr(first, name), getattr(second, name)) for name in names)
