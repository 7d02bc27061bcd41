"""Equality of an exported network with its original, on random and extreme inputs."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.export.formats import Run
from luna_pipeline.core.models.base import Signature

TOLERANCE = 1e-5
"""Largest accepted difference of a probability: float32 sums in another order differ by about 1e-7."""

_AIR_HU, _BONE_HU = -1000.0, 1000.0
# The values of int16, which an input that is not clipped may hold.
_INT16 = (-32768.0, 32767.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Equality:
    """Largest absolute difference of a probability by kind of input; nan where a result is not finite."""

    differences: Mapping[str, float]
    tolerance: float = TOLERANCE

    @property
    def largest(self) -> float:
        """The largest of all; nan if one is nan."""
        return float(np.max(list(self.differences.values())))

    @property
    def is_equal(self) -> bool:
        """Whether all are at most the tolerance."""
        # False for nan.
        return self.largest <= self.tolerance


def example_inputs(signature: Signature, *, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Return inputs in HU by kind, float32 (N, ...) with different N: random, and extremes that a CT can hold."""
    (spec,) = signature.inputs
    shape = spec.shape[1:]
    generator = np.random.default_rng(seed)
    alternating = np.where(np.indices(shape).sum(axis=0) % 2, _BONE_HU, _AIR_HU)
    one_voxel = np.full(shape, _AIR_HU)
    one_voxel[tuple(size // 2 for size in shape)] = _BONE_HU
    kinds = {
        "random": generator.integers(int(_AIR_HU), int(_BONE_HU) + 1, (5, *shape)),
        "soft tissue": generator.normal(40.0, 20.0, (3, *shape)),
        "air": np.full((1, *shape), _AIR_HU),
        "bone": np.full((1, *shape), _BONE_HU),
        "alternating": alternating[None],
        "one bright voxel": one_voxel[None],
        "ends of int16": np.stack([np.full(shape, value) for value in _INT16]),
    }
    return {kind: values.astype(np.float32) for kind, values in kinds.items()}


def compare(original: Run, exported: Run, inputs: Mapping[str, NDArray[np.float32]]) -> Equality:
    """Compare two forms of a network on inputs by kind.

    Raises:
        ValueError: If a result has another shape.
    """
    differences = {}
    for kind, values in inputs.items():
        expected, got = original(values), exported(values)
        if expected.shape != got.shape:
            msg = f"An exported network must return {expected.shape}, got {got.shape} ({kind}). Do not use the export."
            raise ValueError(msg)
        differences[kind] = float(np.max(np.abs(expected.astype(np.float64) - got.astype(np.float64))))
    return Equality(differences=differences)
