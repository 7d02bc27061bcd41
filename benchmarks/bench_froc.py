"""LUNA16's evaluation at its full size against the official procedure: ``python -m benchmarks.bench_froc``.

888 scans, 1,186 nodules, 35,192 excluded findings and 100 marks per scan, synthetic; one core. The official procedure
is re-implemented: marks of a scan are found by comparing strings row by row, with Python loops, and each bootstrap
sample is assembled.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

# Before NumPy starts its threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd

from benchmarks.official_froc import froc_curve
from luna_pipeline.core.evaluation.froc_files import FrocTables
from luna_pipeline.core.evaluation.official import evaluate_froc

NUM_SCANS, NUM_NODULES, NUM_EXCLUDED, MARKS_PER_SCAN = 888, 1186, 35192, 100
NUM_OFFICIAL_DRAWS = 5
GOALS_SECONDS = {"point": 1.0, "bootstrap": 10.0}


def made_tables(*, num_scans: int = NUM_SCANS, seed: int = 0) -> FrocTables:
    """Return tables with LUNA16's proportions: of every five marks near a nodule four hit it."""
    generator = np.random.default_rng(seed)
    scans = [f"1.3.6.1.4.1.14519.5.2.1.6279.6001.{number:039d}" for number in range(num_scans)]
    share = num_scans / NUM_SCANS
    nodules = _findings(generator, scans, round(NUM_NODULES * share), diameter_mm=8.0)
    excluded = _findings(generator, scans, round(NUM_EXCLUDED * share), diameter_mm=-1.0)
    marks = _findings(generator, scans, num_scans * MARKS_PER_SCAN, diameter_mm=0.0).drop(columns="diameter_mm")
    marks["series_instance_uid"] = np.repeat(scans, MARKS_PER_SCAN)
    hits = nodules.sample(frac=0.8, random_state=seed)
    first = {uid: place * MARKS_PER_SCAN for place, uid in enumerate(scans)}
    places = hits["series_instance_uid"].map(first).to_numpy() + np.arange(len(hits)) % MARKS_PER_SCAN
    for axis in ("x_mm", "y_mm", "z_mm"):
        marks.loc[places, axis] = hits[axis].to_numpy()
    marks["probability"] = generator.random(len(marks)) * 0.5
    marks.loc[places, "probability"] = 0.3 + 0.7 * generator.random(len(places))
    return FrocTables(marks=marks, nodules=nodules, excluded=excluded, scans=scans)


def official_point(tables: FrocTables) -> tuple[list[float], list[float], list[str]]:
    """Match as the script does; return labels, scores and scans of the samples."""
    labels, scores, of_scan = [], [], []
    rows: list[Any] = list(tables.marks.itertuples(index=False))
    findings: list[tuple[Any, bool]] = [(row, True) for row in tables.nodules.itertuples(index=False)]
    findings += [(row, False) for row in tables.excluded.itertuples(index=False)]
    for scan in tables.scans:
        marks = {place: row for place, row in enumerate(rows) if row.series_instance_uid == scan}
        left = dict(marks)
        for finding, is_nodule in findings:
            if finding.series_instance_uid != scan:
                continue
            hits = _official_hits(finding, marks)
            for place in hits:
                left.pop(place, None)
            if is_nodule:
                labels.append(1.0)
                scores.append(max((float(marks[place].probability) for place in hits), default=-1e9))
                of_scan.append(scan)
        for row in left.values():
            labels.append(0.0)
            scores.append(float(row.probability))
            of_scan.append(scan)
    return labels, scores, of_scan


def official_draws(samples: tuple[list[float], list[float], list[str]], num_scans: int, num_draws: int) -> None:
    """Assemble bootstrap samples of scans one by one, as the script does."""
    labels, scores, of_scan = (np.asarray(part) for part in samples)
    entries = {scan: np.stack([labels[of_scan == scan], scores[of_scan == scan]]) for scan in np.unique(of_scan)}
    names = list(entries)
    generator = np.random.RandomState(0)
    for _ in range(num_draws):
        drawn = np.empty((2, 0))
        for place in generator.randint(num_scans, size=num_scans):
            if place < len(names):
                drawn = np.concatenate([drawn, entries[names[place]]], axis=1)
        is_nodule = drawn[0] == 1
        curve = froc_curve(drawn[1], is_nodule, drawn[1] == -1e9, num_scans=num_scans)
        np.interp(np.linspace(0.125, 8, 10000), curve.fps_per_scan, curve.sensitivity)


def main(arguments: list[str]) -> int:
    """Measure and print as JSON; return 1 if a goal was missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scans", type=int, default=NUM_SCANS)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args(arguments)
    tables = made_tables(num_scans=options.scans)
    found = measured(tables, num_draws=options.draws, repeats=options.repeats)
    print(json.dumps(found, indent=1))
    return 0 if all(found[f"{name}_seconds"] < goal for name, goal in GOALS_SECONDS.items()) else 1


def measured(tables: FrocTables, *, num_draws: int, repeats: int) -> dict[str, Any]:
    """Return median seconds of both procedures, measured alternately, and their ratios."""
    seconds: dict[str, list[float]] = {name: [] for name in ("point", "bootstrap", "official_point", "official_draw")}
    for _ in range(repeats):
        seconds["point"].append(_timed(lambda: evaluate_froc(tables))[0])
        seconds["bootstrap"].append(_timed(lambda: evaluate_froc(tables, num_bootstraps=num_draws))[0])
        taken, samples = _timed(lambda: official_point(tables))
        seconds["official_point"].append(taken)
        taken, _ = _timed(lambda: official_draws(samples, len(tables.scans), NUM_OFFICIAL_DRAWS))  # noqa: B023
        seconds["official_draw"].append(taken / NUM_OFFICIAL_DRAWS)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    draws = medians["bootstrap"] - medians["point"]
    return {
        "num_scans": len(tables.scans),
        "num_marks": len(tables.marks),
        "num_bootstraps": num_draws,
        **{f"{name}_seconds": round(value, 4) for name, value in medians.items()},
        "point_ratio": round(medians["official_point"] / medians["point"], 1),
        "draw_ratio": round(medians["official_draw"] * num_draws / draws, 1),
    }


def _findings(generator: np.random.Generator, scans: list[str], number: int, *, diameter_mm: float) -> pd.DataFrame:
    points = generator.uniform(-150, 150, size=(number, 3))
    uids = generator.choice(scans, size=number)
    return pd.DataFrame(points, columns=["x_mm", "y_mm", "z_mm"]).assign(
        series_instance_uid=uids, diameter_mm=diameter_mm
    )


def _official_hits(finding: Any, marks: dict[int, Any]) -> list[int]:
    radius_mm = (10.0 if finding.diameter_mm < 0 else finding.diameter_mm) / 2
    return [
        place
        for place, mark in marks.items()
        if (finding.x_mm - mark.x_mm) ** 2 + (finding.y_mm - mark.y_mm) ** 2 + (finding.z_mm - mark.z_mm) ** 2
        < radius_mm**2
    ]


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    made = work()
    return time.perf_counter() - started, made


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
