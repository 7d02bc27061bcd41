"""Measure training and write text, JSON and a plot: ``python -m benchmarks.bench_training --out FOLDER``.

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

from benchmarks import loading, machine, training_steps
from benchmarks.project_training import train_epoch
from benchmarks.training_data import TrainingSite, TrainingWorkload, make_training_site
from benchmarks.training_derived import baseline, goals, ratios
from benchmarks.training_plot import draw
from benchmarks.training_report import fill, text_of
from luna_pipeline.core.malloc import keep_freed_memory

Results = dict[str, Any]
PAGE = Path(__file__).resolve().parents[1] / "docs/results/training_speed.md"


@dataclass
class Bench:
    """Shared by the parts: sizes, a folder, and the cutouts, which are made at first use."""

    workload: TrainingWorkload
    folder: Path

    @cached_property
    def site(self) -> TrainingSite:
        """Return the cutouts in both forms."""
        tell("making cutouts")
        return make_training_site(self.folder / "site", self.workload)


def measure_all(workload: TrainingWorkload, *, parts: Sequence[str], folder: Path) -> Results:
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
    results |= {"ratios": ratios(results), "baseline": baseline(results)}
    return results | {"goals": goals(results)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write ``training.json`` and ``training.png``; or fill the page from a ``training.json``."""
    options = _parser().parse_args(arguments)
    if options.fill_page:
        fill(PAGE, json.loads((options.out / "training.json").read_text()))
        return 0
    workload = replace(TrainingWorkload(), repeats=options.repeats, has_compiled=not options.without_compiled)
    with tempfile.TemporaryDirectory(prefix="luna-bench-", dir=options.scratch) as folder:
        results = measure_all(workload, parts=options.only, folder=Path(folder))
    write(results, options.out)
    print(text_of(results))
    return 0


def write(results: Results, out: Path) -> None:
    """Write the figures and their plot."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "training.json").write_text(json.dumps(results, indent=2) + "\n")
    draw(results, out / "training.png")


def tell(what: str) -> None:
    """Print progress to standard error."""
    print(f"... {what}", file=sys.stderr, flush=True)


def _loading(bench: Bench) -> Results:
    section = loading.run(bench.site, bench.workload, on_run=tell)
    return {"loading": section, "is_loading_equal": loading.are_equal(bench.site, bench.workload)}


def _steps(bench: Bench) -> Results:
    return {"steps": training_steps.run(bench.workload, folder=bench.folder / "steps", on_run=tell)}


def _epoch(bench: Bench) -> Results:
    tell("an epoch from files")
    # As the project trains; the other parts no longer use this process's memory.
    keep_freed_memory()
    end = train_epoch(bench.site, bench.workload, folder=bench.folder / "epoch", num_workers=0)
    share = round(end.seconds_waiting / end.seconds, 5)
    figures = {"num_batches": end.num_batches, "seconds": round(end.seconds, 3), "share_waiting": share}
    return {"epoch": {**figures, "num_workers": 0}}


PARTS: dict[str, Callable[[Bench], Results]] = {"loading": _loading, "steps": _steps, "epoch": _epoch}


def _parts(text: str) -> list[str]:
    names = text.split(",")
    unknown = sorted(set(names) - set(PARTS))
    if unknown:
        msg = f"parts must be of {', '.join(PARTS)}, got {', '.join(unknown)}"
        raise argparse.ArgumentTypeError(msg)
    # Always in this order, because the last part changes the process.
    return [name for name in PARTS if name in names]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_training", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of training.json and training.png")
    parser.add_argument("--repeats", type=int, default=TrainingWorkload.repeats, help="timed runs of each way")
    parser.add_argument("--without-compiled", action="store_true", help="leave torch.compile out")
    parser.add_argument("--only", type=_parts, default=list(PARTS), metavar="PART,...", help=", ".join(PARTS))
    parser.add_argument("--scratch", type=Path, help="where the temporary folder lies")
    parser.add_argument("--fill-page", action="store_true", help="only fill the page from the JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
