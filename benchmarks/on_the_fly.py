"""Loading cutouts on the fly against loading stored ones, from series of LUNA16's size in the page cache.

``python -m benchmarks.on_the_fly [--repeats 7]`` prints milliseconds per cutout for random cutouts (training) and for
series one after the other (prediction), and the ratio of both ways.
"""

import argparse
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.data import make_site
from benchmarks.timing import Way, measure, nothing
from benchmarks.workload import Workload
from luna_pipeline.core.cutouts.cutting import CuttingParameters
from luna_pipeline.core.cutouts.index import build_cutout_index
from luna_pipeline.core.cutouts.on_the_fly import UncutSeries
from luna_pipeline.core.cutouts.service import CtCutoutService
from luna_pipeline.core.cutouts.store import CutoutSource, CutoutStore
from luna_pipeline.core.datasets.cutouts import CutoutsDataset

NUM_LOADED, BATCH_SIZE = 1024, 64


def _load(dataset: CutoutsDataset, positions: list[int]) -> None:
    for start in range(0, len(positions), BATCH_SIZE):
        dataset.__getitems__(positions[start : start + BATCH_SIZE])


def main() -> None:
    """Make the data, measure both sources in alternation, print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as name:
        site = make_site(Path(name) / "data", Workload())
        candidates = site.candidates[site.candidates["series_instance_uid"].isin(site.uids)]
        store = CutoutStore(Path(name) / "cutouts", is_synced=False)
        service = CtCutoutService(
            data_root=site.data_root,
            catalogue=site.catalogue,
            candidates=candidates,
            store=store,
            parameters=CuttingParameters(),
        )
        service.cut_many(site.uids)
        folds = pd.DataFrame({"series_instance_uid": site.uids, "fold": 0})
        sources: dict[str, CutoutSource] = {"stored": store, "on_the_fly": UncutSeries(service)}
        datasets = {
            key: CutoutsDataset(build_cutout_index(candidates, folds, source), source)
            for key, source in sources.items()
        }
        num_rows = len(candidates)
        orders = {
            "random": np.random.default_rng(0).integers(num_rows, size=NUM_LOADED).tolist(),
            "by series": list(range(min(NUM_LOADED, num_rows))),
        }
        for order, positions in orders.items():
            ways = [Way(key, partial(_load, dataset, positions)) for key, dataset in datasets.items()]
            timings = measure(ways, repeats=repeats, before=nothing)
            each_ms = {key: 1000 * timing.median / len(positions) for key, timing in timings.items()}
            shown = ", ".join(f"{key} {value:.3f} ms" for key, value in each_ms.items())
            print(f"{order}: {shown}; ratio {each_ms['on_the_fly'] / each_ms['stored']:.2f}")


if __name__ == "__main__":
    main()
