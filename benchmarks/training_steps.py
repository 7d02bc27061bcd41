"""Training steps and evaluation, each in a separate process, measured alternately; and whether all compute the same."""

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.timing import OnRun, Way, measure
from benchmarks.training_data import TrainingWorkload
from benchmarks.training_worker import KINDS, Worker, write_weights

PEAK_SIZE = 2048


def run(workload: TrainingWorkload, *, folder: Path, on_run: OnRun | None = None) -> dict[str, Any]:
    """Measure steps of a batch, evaluation, and compare losses.

    Returns:
        ``training`` and ``evaluation`` (milliseconds by name), ``compile_seconds``, ``losses`` (largest deviation from
        the tutorial's, by part and name) and ``sgemm_gflops``.
    """
    folder.mkdir(parents=True)
    write_weights(workload, folder / "weights.pt")
    kinds = [kind for kind in KINDS if workload.has_compiled or not kind.is_compiled]
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(Worker(kind, workload, weights=folder / "weights.pt")) for kind in kinds]
        first = {worker.kind.name: worker.ask("first_step") for worker in workers}
        found = {
            question: _timings([worker.way(ask) for worker in workers], workload, on_run=on_run)
            for question, ask in (("training", "train"), ("evaluation", "evaluate"))
        }
        losses = {"training": _losses(workers, "step_losses"), "evaluation": _losses(workers, "sample_losses")}
    compiled = {"compile_seconds": round(first["project_compiled"], 1)} if "project_compiled" in first else {}
    return {**found, **compiled, "losses": losses, "sgemm_gflops": sgemm_gflops(workload.repeats)}


def deviations(losses: dict[str, list[float]]) -> dict[str, float]:
    """Return the largest absolute difference of each loss from the tutorial's."""
    expected = losses["tutorial"]
    return {name: float(np.abs(np.subtract(found, expected)).max()) for name, found in losses.items()}


def sgemm_gflops(repeats: int) -> float:
    """Return the speed of a product of two matrices of 2048 x 2048, in GFLOP/s: the limit of the arithmetic."""
    matrix = torch.randn(PEAK_SIZE, PEAK_SIZE, generator=torch.Generator().manual_seed(0))
    timing = measure([Way("sgemm", lambda: matrix @ matrix)], repeats=repeats)["sgemm"]
    return round(2 * PEAK_SIZE**3 / timing.median / 1e9, 1)


def _timings(ways: list[Way], workload: TrainingWorkload, *, on_run: OnRun | None) -> dict[str, Any]:
    timings = measure(ways, repeats=workload.repeats, on_run=on_run)
    return {name: timing.as_dict() for name, timing in timings.items()}


def _losses(workers: list[Worker], question: str) -> dict[str, float]:
    return deviations({worker.kind.name: worker.ask(question) for worker in workers})
