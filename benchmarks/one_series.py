"""Cutting one series: the tutorial, this project, and the limits, measured alternately."""

import shutil
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.data import Site
from benchmarks.limits import ByteMover
from benchmarks.project import ProjectCutter
from benchmarks.timing import OnRun, Way, measure
from benchmarks.tutorial import TutorialCutter, time_parts, tutorial_table
from benchmarks.workload import Workload


def run(site: Site, workload: Workload, *, folder: Path, on_run: OnRun | None = None) -> dict[str, Any]:
    """Measure all procedures for cutting one series.

    Returns:
        Milliseconds by name.
    """
    ways = [
        *_tutorial_ways(site, workload, folder),
        *_project_ways(site, workload, folder),
        *_limit_ways(site, workload, folder),
    ]
    timings = measure(ways, repeats=workload.repeats, on_run=on_run)
    return {name: timing.as_dict() for name, timing in timings.items()}


def shares(site: Site, workload: Workload, *, folder: Path) -> dict[str, float]:
    """Return the share of the tutorial's time for each of its parts; from the second of two runs."""
    cutter = tutorial_cutter(site, workload, out=folder / "parts", has_csv=True)
    for _ in range(2):
        parts = time_parts(cutter, site.uids[0])
        shutil.rmtree(cutter.out)
    total = sum(parts.values())
    return {name: round(seconds / total, 4) for name, seconds in parts.items()}


def tutorial_cutter(site: Site, workload: Workload, *, out: Path, has_csv: bool) -> TutorialCutter:
    """Return the tutorial's procedure with a separate table."""
    return TutorialCutter(
        data_root=site.data_root,
        table=tutorial_table(site.candidates),
        out=out,
        chunk_shape_irc=workload.chunk_shape_irc,
        has_csv=has_csv,
    )


def _tutorial_ways(site: Site, workload: Workload, folder: Path) -> list[Way]:
    ways = []
    for suffix, has_csv in (("", True), ("_without_csv", False)):
        for kind, uid in (("", site.uids[0]), ("_zraw", site.compressed_uid)):
            name = f"tutorial{kind}{suffix}"
            cutter = tutorial_cutter(site, workload, out=folder / name, has_csv=has_csv)
            remove = partial(shutil.rmtree, cutter.out, ignore_errors=True)
            ways.append(Way(name, partial(cutter.cut_series, uid), remove))
    return ways


def _project_ways(site: Site, workload: Workload, folder: Path) -> list[Way]:
    ways = []
    for suffix, is_synced in (("", False), ("_synced", True)):
        for kind, uid in (("", site.uids[0]), ("_zraw", site.compressed_uid)):
            name, shape = f"project{kind}{suffix}", workload.chunk_shape_irc
            cutter = ProjectCutter(site, out=folder / name, chunk_shape_irc=shape, is_synced=is_synced)
            ways.append(Way(name, partial(cutter.cut_series, uid), cutter.remove))
    return ways


def _limit_ways(site: Site, workload: Workload, folder: Path) -> list[Way]:
    mover = ByteMover(site.raw_path(site.uids[0]), target=folder / "limit", num_bytes=workload.num_chunk_bytes)
    ways = [Way("read_write_fresh", mover.read_write_fresh, mover.remove)]
    for reserved, is_reserved in (("", False), ("_reserved", True)):
        for synced, is_synced in (("", False), ("_synced", True)):
            run = partial(mover.read_write, is_reserved=is_reserved, is_synced=is_synced)
            ways.append(Way(f"read_write{reserved}{synced}", run, mover.remove))
        ways.append(Way(f"sendfile{reserved}", partial(mover.send, is_reserved=is_reserved), mover.remove))
    return ways
