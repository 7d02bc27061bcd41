"""Seed and number of the inputs, from the variables that `make fuzz` sets."""

import math
import os
from collections.abc import Iterator

import pytest

from luna_pipeline_tests.fuzz.inputs import Generator, Malformed, inputs_of

SEED = int(os.environ.get("LUNA_FUZZ_SEED") or 0)
NUM_OF_KIND = {
    **{"metaimage": 60, "nrrd": 50, "nifti": 50, "dicom": 60, "entry": 40, "table": 60, "submission": 50},
    **{"cutout": 40, "store": 20, "checkpoint": 30, "configuration": 40},
}
"""Inputs of each kind in `make test`: 500 in all."""

_NUM = int(os.environ.get("LUNA_FUZZ_NUM") or sum(NUM_OF_KIND.values()))
ONLY = os.environ.get("LUNA_FUZZ_ONLY", "")
_AT_ONCE = 20


def batches(generator: Generator, kind: str) -> Iterator[list[Malformed]]:
    """Yield the inputs of a kind, twenty at a time; only one where one is asked for."""
    numbers = range(math.ceil(NUM_OF_KIND[kind] * _NUM / sum(NUM_OF_KIND.values())))
    if ONLY:
        name, _, number = ONLY.rpartition("-")
        if name != kind:
            pytest.skip(f"only {ONLY}")
        numbers = range(int(number), int(number) + 1)
    for begin in range(numbers.start, numbers.stop, _AT_ONCE):
        yield inputs_of(generator, kind, seed=SEED, numbers=range(begin, min(begin + _AT_ONCE, numbers.stop)))


def report(complaints: list[str]) -> None:
    """Fail with every complaint, and how to make the input again."""
    if complaints:
        lines = "\n".join(complaints)
        pytest.fail(f"{len(complaints)} complaints; again: make fuzz SEED={SEED} ONLY=NAME\n{lines}", pytrace=False)
