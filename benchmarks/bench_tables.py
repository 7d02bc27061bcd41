"""Measure LUNA16's tables, from files to matched diameters: ``python -m benchmarks.bench_tables --out FOLDER``.

The book's procedure is a re-implementation of 'Deep Learning with PyTorch', chapter 10: the csv module, an object per
row, and for each candidate a loop over the annotations of its series. It matches by this project's rule (the nearest
annotation whose radius exceeds the distance), so that all procedures must give the same diameters. Run it on an idle
machine.
"""

import argparse
import csv
import json
import math
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks import machine
from benchmarks.derived import at_least
from benchmarks.timing import OnRun, Timing, Way, measure
from luna_pipeline.core.candidates.csv_tables import parse_numbers, read_table
from luna_pipeline.core.candidates.matching import nearest_in_series
from luna_pipeline.core.candidates.tables import build_candidates
from luna_pipeline.core.storage.tables import write_table

MEASURED = "from files to matched diameters; build_candidates also checks, names and sorts the rows"
CANDIDATES, ANNOTATIONS, TABLE = "candidates_V2.csv", "annotations.csv", "tables/candidates.parquet"
CSV_GOAL, PARQUET_GOAL = 20, 60
Diameters = NDArray[np.float64]


@dataclass(frozen=True)
class Sizes:
    """Numbers of rows and series; by default those of LUNA16."""

    num_candidates: int = 754_975
    num_series: int = 888
    num_annotations: int = 1_186
    num_annotated_series: int = 601
    seed: int = 0


class CandidateRow(NamedTuple):
    """A candidate as in the book."""

    is_nodule: bool
    diameter_mm: float
    series_instance_uid: str
    center_xyz: tuple[float, ...]


def run(repeats: int = 5, *, sizes: Sizes = Sizes(), on_run: OnRun | None = None) -> dict[str, Any]:
    """Measure all procedures alternately on synthetic tables.

    Args:
        repeats: Timed runs of each procedure, after one to warm up.
        sizes: Of the tables.
        on_run: Called with the name of a procedure before each of its runs.

    Returns:
        The measured quantity, the sizes, the number of matched candidates, the timings by procedure, the speed of each
        relative to the book's, and the goals.

    Raises:
        RuntimeError: If the procedures do not give the same diameters.
    """
    with tempfile.TemporaryDirectory(prefix="luna-bench-") as name:
        folder = Path(name)
        catalogue = make_tables(folder, sizes)
        write_table(folder / TABLE, build_candidates(folder, catalogue).candidates)
        ways: dict[str, Callable[[], Any]] = {
            "book": partial(book_rows, folder),
            "csv": partial(from_csv, folder),
            "parquet": partial(from_parquet, folder),
            "build_candidates": partial(whole, folder, catalogue),
        }
        num_matched = _num_matched(ways)
        timings = measure([_kept(*way) for way in ways.items()], repeats=repeats, on_run=on_run)
    ratios = {name: round(timings["book"].median / timing.median, 1) for name, timing in timings.items()}
    return {
        "measured": MEASURED,
        "sizes": asdict(sizes),
        "num_matched": num_matched,
        **{name: timing.as_dict() for name, timing in timings.items()},
        "times_book": ratios,
        "goals": goals(timings),
    }


def goals(timings: dict[str, Timing]) -> list[dict[str, Any]]:
    """Return the goals, and whether they are met."""
    book_seconds = timings["book"].median
    return [
        at_least("tables from CSV, times the book", book_seconds / timings["csv"].median, CSV_GOAL),
        at_least("tables from parquet, times the book", book_seconds / timings["parquet"].median, PARQUET_GOAL),
    ]


def make_tables(folder: Path, sizes: Sizes) -> pd.DataFrame:
    """Write candidates and annotations as LUNA16 does, and return a catalogue whose CTs contain all of them.

    One of 500 candidates is near an annotation, as in LUNA16.
    """
    rng = np.random.default_rng(sizes.seed)
    digits = rng.integers(0, 10, (sizes.num_series, 30)).astype(str)
    uids = np.sort([f"1.3.6.1.4.1.14519.5.2.1.6279.6001.{''.join(row)}" for row in digits])
    annotated = rng.choice(sizes.num_series, sizes.num_annotated_series, replace=False)
    num_more = sizes.num_annotations - sizes.num_annotated_series
    annotation_series = np.sort(np.concatenate([annotated, rng.choice(annotated, num_more)]))
    centers = rng.uniform(-150, 150, (sizes.num_annotations, 3))
    diameters = 3 + rng.gamma(2, 3, sizes.num_annotations)
    series = np.sort(rng.integers(0, sizes.num_series, sizes.num_candidates))
    points = rng.uniform(-150, 150, (sizes.num_candidates, 3))
    near = rng.choice(sizes.num_candidates, sizes.num_candidates // 500, replace=False)
    # Rows of series without an annotation keep their position.
    place = np.minimum(np.searchsorted(annotation_series, series[near]), sizes.num_annotations - 1)
    near, place = near[annotation_series[place] == series[near]], place[annotation_series[place] == series[near]]
    points[near] = centers[place] + rng.normal(0, 2, (len(near), 3))
    classes = np.zeros(sizes.num_candidates, dtype=int)
    classes[near] = 1
    _write_csv(folder / CANDIDATES, "class", uids[series], points.round(2), classes)
    _write_csv(folder / ANNOTATIONS, "diameter_mm", uids[annotation_series], centers.round(7), diameters.round(9))
    grid = {"size_irc": [512] * 3, "spacing_mm": [1.0] * 3, "origin_xyz": [-256.0] * 3}
    rows = [{"series_instance_uid": uid, **grid, "direction": list(np.eye(3).ravel())} for uid in uids]
    return pd.DataFrame(rows).assign(is_readable=True, reason=None)


def book_rows(folder: Path) -> list[CandidateRow]:
    """Return the book's list of candidates; 0 mm outside of all annotations."""
    annotations: dict[str, list[tuple[tuple[float, ...], float]]] = {}
    with (folder / ANNOTATIONS).open() as file:
        for uid, *numbers in list(csv.reader(file))[1:]:
            *center, diameter_mm = (float(number) for number in numbers)
            annotations.setdefault(uid, []).append((tuple(center), diameter_mm))
    rows = []
    with (folder / CANDIDATES).open() as file:
        for uid, *numbers, is_nodule in list(csv.reader(file))[1:]:
            point = tuple([float(number) for number in numbers])
            rows.append(CandidateRow(bool(int(is_nodule)), _diameter_at(point, annotations.get(uid, [])), uid, point))
    return rows


def _diameter_at(point: tuple[float, ...], annotations: list[tuple[tuple[float, ...], float]]) -> float:
    diameter_mm, least_mm2 = 0.0, math.inf
    for center, other_mm in annotations:
        for axis in range(3):
            if abs(point[axis] - center[axis]) > other_mm / 2:
                break
        else:
            distance_mm2 = sum((point[axis] - center[axis]) ** 2 for axis in range(3))
            if distance_mm2 < min(least_mm2, (other_mm / 2) ** 2):
                diameter_mm, least_mm2 = other_mm, distance_mm2
    return diameter_mm


def from_csv(folder: Path) -> Diameters:
    """Match as the project does, from the CSV files; 0 mm outside of all annotations."""
    series, points, _ = _numbers(folder / CANDIDATES, "class")
    center_series, centers, diameters = _numbers(folder / ANNOTATIONS, "diameter_mm")
    return _matched(series, points, center_series, centers, diameters)


def from_parquet(folder: Path) -> Diameters:
    """Match as the project does, from its own table of candidates and annotations; 0 mm outside of all annotations."""
    columns = ["series_instance_uid", "x_mm", "y_mm", "z_mm", "source", "diameter_mm"]
    table = pd.read_parquet(folder / TABLE, columns=columns)
    is_nodule = (table["source"] == "annotation").to_numpy()
    nodules = table[is_nodule]
    points, diameters = table[columns[1:4]].to_numpy(), nodules["diameter_mm"].to_numpy()
    found = _matched(table["series_instance_uid"], points, nodules["series_instance_uid"], points[is_nodule], diameters)
    return found[~is_nodule]


def whole(folder: Path, catalogue: pd.DataFrame) -> Diameters:
    """Build the candidate table; 0 mm outside of all annotations."""
    table = build_candidates(folder, catalogue).candidates
    return table["diameter_mm"].to_numpy(na_value=0.0)[(table["source"] == "candidate").to_numpy()]


def _numbers(path: Path, value: str) -> tuple[pd.Series, NDArray[np.float64], NDArray[np.float64]]:
    table = read_table(path, ("series_instance_uid", "x", "y", "z", value))
    points = np.column_stack([parse_numbers(table[axis])[0] for axis in ("x", "y", "z")])
    return table["series_instance_uid"], points, parse_numbers(table[value])[0]


def _matched(
    series: pd.Series,
    points: NDArray[np.float64],
    center_series: pd.Series,
    centers: NDArray[np.float64],
    diameters: Diameters,
) -> Diameters:
    places = nearest_in_series(series, points, center_series=center_series, centers_xyz=centers, radii_mm=diameters / 2)
    # Position -1 (no match) is the last.
    return np.append(diameters, 0.0)[places]


def _num_matched(ways: dict[str, Callable[[], Any]]) -> int:
    """Run each procedure once and compare their diameters, independent of the order of rows."""
    found = {name: way() for name, way in ways.items()}
    expected = np.sort([row.diameter_mm for row in found.pop("book")])
    wrong = [name for name, diameters in found.items() if not np.array_equal(np.sort(diameters), expected)]
    if wrong:
        msg = f"All ways must give the book's diameters, got others from {', '.join(wrong)}. Fix them first."
        raise RuntimeError(msg)
    return int((expected > 0).sum())


def _kept(name: str, work: Callable[[], Any]) -> Way:
    """Keep the result until the clock has stopped, so that freeing the book's 755,000 objects is not measured."""
    results: list[Any] = []
    return Way(name, lambda: results.append(work()), reset=results.clear)


def _write_csv(path: Path, value: str, uids: NDArray[Any], points: NDArray[np.float64], values: NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        file.write(f"seriesuid,coordX,coordY,coordZ,{value}\n")
        rows = zip(uids.tolist(), points.tolist(), values.tolist(), strict=True)
        file.writelines(f"{uid},{x},{y},{z},{number}\n" for uid, (x, y, z), number in rows)


def text_of(results: dict[str, Any]) -> str:
    """Return medians, spread, ratios and goals as lines."""
    lines = [results["measured"], f"matched candidates: {results['num_matched']}"]
    for name, times in results["times_book"].items():
        timing = results[name]
        spread = f"{timing['min_ms']:.0f} to {timing['max_ms']:.0f}"
        lines.append(f"{name:<18}{timing['median_ms']:>9.0f} ms ({spread}){times:>8.1f} times the book")
    for goal in results["goals"]:
        lines.append(f"{goal['goal']}: {goal['value']} ({goal['bound']}) {'met' if goal['is_met'] else 'missed'}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write ``tables.json``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_tables", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of tables.json")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of each way")
    options = parser.parse_args(arguments)
    results = {"machine": machine.facts(Path(tempfile.gettempdir())), **run(options.repeats)}
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "tables.json").write_text(json.dumps(results, indent=2) + "\n")
    print(text_of(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
