"""Growth of the cost of a series with its number of candidates, and a linear fit."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.data import Site, points_in, table_of
from benchmarks.project import ProjectCutter
from benchmarks.timing import OnRun, Way, measure
from benchmarks.workload import Workload


def run(site: Site, workload: Workload, *, folder: Path, on_run: OnRun | None = None) -> dict[str, Any]:
    """Measure one series with increasing numbers of candidates, without flushing.

    Returns:
        Milliseconds by number of candidates, and the line through the medians.
    """
    ways = [_way(site, workload, folder, count=count) for count in workload.candidate_counts]
    timings = measure(ways, repeats=workload.repeats, on_run=on_run)
    medians_ms = [1000 * timings[way.name].median for way in ways]
    return {
        "by_candidates": {name: timing.as_dict() for name, timing in timings.items()},
        "fit": fit_line(workload.candidate_counts, medians_ms),
    }


def fit_line(counts: tuple[int, ...], medians_ms: list[float]) -> dict[str, float]:
    """Return slope (µs per candidate), intercept (ms) and R² of the line through the points."""
    slope, intercept = np.polyfit(counts, medians_ms, 1)
    rest = np.asarray(medians_ms) - (slope * np.asarray(counts) + intercept)
    r_squared = 1 - (rest**2).sum() / ((np.asarray(medians_ms) - np.mean(medians_ms)) ** 2).sum()
    return {
        "microseconds_a_candidate": round(1000 * float(slope), 3),
        "intercept_ms": round(float(intercept), 3),
        "r_squared": round(float(r_squared), 5),
    }


def _way(site: Site, workload: Workload, folder: Path, *, count: int) -> Way:
    uid, shape = site.uids[0], workload.chunk_shape_irc
    points_xyz = points_in(workload.size_irc, count, seed=(workload.seed, 2, count))
    candidates = table_of(np.repeat(np.asarray([uid], dtype=object), count), points_xyz)
    cutter = ProjectCutter(site, out=folder / str(count), chunk_shape_irc=shape, candidates=candidates)
    return Way(str(count), partial(cutter.cut_series, uid), cutter.remove)
