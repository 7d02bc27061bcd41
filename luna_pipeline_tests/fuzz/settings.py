"""Seed and number of the inputs, from the variables that `make fuzz` sets."""

import os
from collections.abc import Iterator

import pytest

from luna_pipeline_tests.fuzz.inputs import Generator, Malformed, inputs_of

SEED = int(os.environ.get("LUNA_FUZZ_SEED", "0"))
FACTOR = float(os.environ.get("LUNA_FUZZ_FACTOR", "1"))
ONLY = os.environ.get("LUNA_FUZZ_ONLY", "")
_AT_ONCE = 20


def batches(generator: Generator, kind: str, num_inputs: int) -> Iterator[list[Malformed]]:
    """Yield the inputs of a kind, twenty at a time; only one where one is asked for."""
    numbers = range(round(num_inputs * FACTOR))
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
