"""Cutting several series: two workers against the tutorial on two threads, and cutouts per second over many series."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.data import Site
from benchmarks.one_series import tutorial_cutter
from benchmarks.project import ProjectCutter
from benchmarks.timing import OnRun, Way, measure
from benchmarks.tutorial import TutorialCutter
from benchmarks.workload import Workload

TUTORIAL_THREADS = 2


def run(site: Site, workload: Workload, *, folder: Path, on_run: OnRun | None = None) -> dict[str, Any]:
    """Measure cutting all series that were made.

    Returns:
        Milliseconds by name.
    """
    tutorial = tutorial_cutter(site, workload, out=folder / "tutorial", has_csv=False)
    remove = partial(shutil.rmtree, tutorial.out, ignore_errors=True)
    ways = [
        Way("tutorial_two_threads_without_csv", partial(_cut_on_threads, tutorial, site.uids), remove),
        *_project_ways(site, workload, folder, uids=site.uids, is_synced=False),
        *_project_ways(site, workload, folder, uids=site.uids, is_synced=True),
    ]
    timings = measure(ways, repeats=workload.repeats, on_run=on_run)
    return {name: timing.as_dict() for name, timing in timings.items()}


def rates(site: Site, workload: Workload, *, folder: Path, on_run: OnRun | None = None) -> dict[str, Any]:
    """Measure cutouts per second over more series, without flushing.

    Returns:
        Milliseconds and median cutouts per second by name; both include the start of the workers.
    """
    ways = _project_ways(site, workload, folder, uids=site.rate_uids, is_synced=False)
    timings = measure(ways, repeats=max(1, workload.repeats // 2), on_run=on_run)
    num_cutouts = int(site.candidates["series_instance_uid"].isin(site.rate_uids).sum())
    return {
        name: timing.as_dict() | {"cutouts_a_second": round(num_cutouts / timing.median)}
        for name, timing in timings.items()
    }


def _project_ways(site: Site, workload: Workload, folder: Path, *, uids: list[str], is_synced: bool) -> list[Way]:
    ways = []
    for workers in (1, 2):
        name = f"project_{workers}_worker{'s' * (workers > 1)}{'_synced' * is_synced}"
        cutter = ProjectCutter(site, out=folder / name, chunk_shape_irc=workload.chunk_shape_irc, is_synced=is_synced)
        ways.append(Way(name, partial(cutter.cut_many, uids, workers=workers), cutter.remove))
    return ways


def _cut_on_threads(cutter: TutorialCutter, uids: list[str]) -> None:
    with ThreadPoolExecutor(TUTORIAL_THREADS) as threads:
        list(threads.map(cutter.cut_series, uids))
