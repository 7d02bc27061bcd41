"""Loading random samples into float32: the tutorial, this project, and copying as many bytes."""

from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from benchmarks.project_training import ProjectLoader
from benchmarks.timing import OnRun, Way, measure, nothing
from benchmarks.training_data import TrainingSite, TrainingWorkload
from benchmarks.tutorial_training import TutorialCutouts


def run(site: TrainingSite, workload: TrainingWorkload, *, on_run: OnRun | None = None) -> dict[str, Any]:
    """Measure all procedures for loading the same random samples; files are in the page cache after the first round.

    Returns:
        Milliseconds by name. ``tutorial`` collates samples into batches, as its loader does without workers;
        ``tutorial_samples`` only makes single samples; ``memcpy`` copies the samples, as float32, into a reused batch.
    """
    positions = positions_of(site, workload)
    ways = []
    for suffix, is_augmented in (("", False), ("_augmented", True)):
        tutorial = TutorialCutouts(site.table, is_augmented=is_augmented)
        project = ProjectLoader(site, workload, is_augmented=is_augmented)
        ways.append(Way(f"tutorial_samples{suffix}", partial(_load_each, tutorial, positions)))
        loader = DataLoader(tutorial, batch_size=workload.batch_size, sampler=positions)
        ways.append(Way(f"tutorial{suffix}", partial(_load_all, loader)))
        ways.append(Way(f"project{suffix}", partial(_load_positions, project, positions)))
    ways.append(_memcpy(workload))
    # No pause is needed, because nothing is written; an idle processor is slow for the first milliseconds.
    timings = measure(ways, repeats=workload.repeats, on_run=on_run, before=nothing)
    return {name: timing.as_dict() for name, timing in timings.items()}


def are_equal(site: TrainingSite, workload: TrainingWorkload) -> bool:
    """Return whether both load the same voxels without augmentation."""
    positions = positions_of(site, workload)
    tutorial = TutorialCutouts(site.table, is_augmented=False)
    samples = np.stack([tutorial[position].candidate.numpy() for position in positions])
    loader = ProjectLoader(site, workload, is_augmented=False)
    batches = np.concatenate([batch.numpy() for batch in loader.load(positions)])
    return batches.dtype == samples.dtype and bool(np.array_equal(batches, samples))


def positions_of(site: TrainingSite, workload: TrainingWorkload) -> list[int]:
    """Draw the samples."""
    positions = np.random.default_rng(workload.seed).integers(len(site.index), size=workload.num_loaded)
    return [int(position) for position in positions]


def _load_each(dataset: TutorialCutouts, positions: list[int]) -> None:
    for position in positions:
        dataset[position]


def _load_all(batches: Iterable[Any]) -> None:
    for _batch in batches:
        pass


def _load_positions(loader: ProjectLoader, positions: list[int]) -> None:
    _load_all(loader.load(positions))


def _memcpy(workload: TrainingWorkload) -> Way:
    source = np.ones((workload.num_loaded, *workload.chunk_shape_irc), dtype=np.float32)
    target = np.ones((workload.batch_size, *workload.chunk_shape_irc), dtype=np.float32)
    order = np.random.default_rng(workload.seed).permutation(workload.num_loaded)
    return Way("memcpy", partial(_copy, source, target, order))


def _copy(source: NDArray[np.float32], target: NDArray[np.float32], order: NDArray[np.int64]) -> None:
    for place, position in enumerate(order):
        target[place % len(target)] = source[position]
