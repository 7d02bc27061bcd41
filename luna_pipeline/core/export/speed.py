"""Speeds of the forms of a network on this CPU, by paired measurements."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.export.formats import Run

MIN_GAIN = 1.2
"""ONNX is used instead of torch if it is at least this many times as fast: less is within a machine's noise."""
TORCH = "torch"
_NUM_PAIRS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Speeds of the forms of a network.

    Attributes:
        inputs_per_second: Median by form; ``torch`` is the folded network as the pipeline runs it.
        gains: Median of the paired ratios of torch's seconds to the form's, by other form.
    """

    inputs_per_second: Mapping[str, float]
    gains: Mapping[str, float]


def measure(runs: Mapping[str, Run], values: NDArray[np.float32], *, num_pairs: int = _NUM_PAIRS) -> Speed:
    """Measure the forms by turns, so that what else the machine does slows all of them.

    Args:
        runs: Forms by name, ``torch`` among them.
        values: Input, (N, ...).
        num_pairs: Measurements of each form, after one that is not counted.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(num_pairs + 1):
        for name, run in runs.items():
            started = time.perf_counter()
            run(values)
            if number:
                seconds[name].append(time.perf_counter() - started)
    others = [name for name in runs if name != TORCH]
    return Speed(
        inputs_per_second={name: len(values) / median(found) for name, found in seconds.items()},
        gains={
            name: median(own / other for own, other in zip(seconds[TORCH], seconds[name], strict=True))
            for name in others
        },
    )
