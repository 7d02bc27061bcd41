"""Measure cutting and write text, JSON and a plot: ``python -m benchmarks.bench_cutting --out FOLDER``.

Run it on an idle machine. All data are in a temporary folder, which is removed.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks import bench_tables, equality, growth, machine, many_series, memory, one_series, startup, unchanged
from benchmarks.data import Site, make_site
from benchmarks.derived import baseline, goals, ratios, steady_rates
from benchmarks.plot import draw
from benchmarks.report import text_of
from benchmarks.workload import Workload, quick

Results = dict[str, Any]


@dataclass
class Bench:
    """Shared by the parts: sizes, a folder, and the series, which are made at first use."""

    workload: Workload
    folder: Path

    @cached_property
    def site(self) -> Site:
        """Return the series of LUNA16's size."""
        tell("making series")
        return make_site(self.folder / "site", self.workload)


def measure_all(workload: Workload, *, parts: Sequence[str], folder: Path) -> Results:
    """Measure the parts and return all figures.

    Args:
        workload: Sizes.
        parts: Names of ``PARTS``.
        folder: An empty folder for everything that is written.
    """
    bench = Bench(workload, folder)
    results: Results = {"machine": machine.facts(folder), "workload": asdict(workload)}
    for part in parts:
        results |= PARTS[part](bench)
    return results | {"goals": goals(results)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write ``cutting.json`` and ``cutting.png``."""
    options = _parser().parse_args(arguments)
    workload = replace(Workload(), num_series=options.series, repeats=options.repeats)
    if options.quick:
        workload = quick(workload)
    with tempfile.TemporaryDirectory(prefix="luna-bench-", dir=options.scratch) as folder:
        results = measure_all(workload, parts=options.only, folder=Path(folder))
    write(results, options.out)
    print(text_of(results))
    return 0


def write(results: Results, out: Path) -> None:
    """Write the figures and their plot."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "cutting.json").write_text(json.dumps(results, indent=2) + "\n")
    draw(results, out / "cutting.png")


def tell(what: str) -> None:
    """Print progress to standard error."""
    print(f"... {what}", file=sys.stderr, flush=True)


def _one_series(bench: Bench) -> Results:
    folder = bench.folder / "one_series"
    section = one_series.run(bench.site, bench.workload, folder=folder, on_run=tell)
    parts = one_series.shares(bench.site, bench.workload, folder=folder)
    derived = {"ratios": ratios(section), "baseline": baseline(section)}
    return {"one_series": section, **derived, "tutorial_parts": parts}


def _many_series(bench: Bench) -> Results:
    folder = bench.folder / "many_series"
    found = {
        "many_series": many_series.run(bench.site, bench.workload, folder=folder, on_run=tell),
        "rates": many_series.rates(bench.site, bench.workload, folder=folder, on_run=tell),
    }
    return found | {"steady_rates": steady_rates(found | {"workload": asdict(bench.workload)})}


def _equality(bench: Bench) -> Results:
    tell("comparing voxels")
    return {"equality": equality.compare(bench.site, bench.workload, folder=bench.folder / "equality")}


def _memory(bench: Bench) -> Results:
    tell("peak memory")
    return {"memory": memory.run(bench.site, bench.workload, folder=bench.folder / "memory")}


def _growth(bench: Bench) -> Results:
    return {"growth": growth.run(bench.site, bench.workload, folder=bench.folder / "growth", on_run=tell)}


def _unchanged(bench: Bench) -> Results:
    return {"unchanged": unchanged.run(bench.workload, folder=bench.folder / "unchanged", on_run=tell)}


def _startup(bench: Bench) -> Results:
    return {"startup": startup.run(bench.workload, folder=bench.folder / "startup", on_run=tell)}


def _tables(bench: Bench) -> Results:
    return {"tables": bench_tables.run(bench.workload.repeats, on_run=tell)}


PARTS: dict[str, Callable[[Bench], Results]] = {
    "tables": _tables,
    "one_series": _one_series,
    "many_series": _many_series,
    "equality": _equality,
    "memory": _memory,
    "growth": _growth,
    "unchanged": _unchanged,
    "startup": _startup,
}


def _parts(text: str) -> list[str]:
    names = text.split(",")
    unknown = sorted(set(names) - set(PARTS))
    if unknown:
        msg = f"parts must be of {', '.join(PARTS)}, got {', '.join(unknown)}"
        raise argparse.ArgumentTypeError(msg)
    return names


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_cutting", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of cutting.json and cutting.png")
    parser.add_argument("--series", type=int, default=Workload.num_series, help="CTs that are made")
    parser.add_argument("--repeats", type=int, default=Workload.repeats, help="timed runs of each way")
    parser.add_argument("--quick", action="store_true", help="fewer runs and shorter curves: does it work")
    parser.add_argument("--only", type=_parts, default=list(PARTS), metavar="PART,...", help=", ".join(PARTS))
    parser.add_argument("--scratch", type=Path, help="where the temporary folder lies: the disk that is measured")
    return parser


if __name__ == "__main__":
    sys.exit(main())
