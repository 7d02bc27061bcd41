"""Equality of exported networks, on numbers by hand; and the speeds that decide which form is used."""

import math

import numpy as np
import pytest

from luna_pipeline.core.export import speed
from luna_pipeline.core.export.equality import Equality, compare, example_inputs
from luna_pipeline.core.export.speed import measure
from luna_pipeline.core.models.base import Signature, TensorSpec

SIGNATURE = Signature(
    inputs=(TensorSpec("chunks_hu", "float32", (-1, 1, 2, 2, 4)),),
    outputs=(TensorSpec("probability", "float32", (-1,)),),
)


def of_sum(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values.reshape(len(values), -1).sum(axis=1) / 1e5))


def test_inputs_are_random_and_extreme_with_different_counts():
    inputs = example_inputs(SIGNATURE)
    assert {kind: len(values) for kind, values in inputs.items()} == {
        "random": 5,
        "soft tissue": 3,
        "air": 1,
        "bone": 1,
        "alternating": 1,
        "one bright voxel": 1,
        "ends of int16": 2,
    }
    assert all(values.shape[1:] == (1, 2, 2, 4) and values.dtype == np.float32 for values in inputs.values())
    row, other = [-1000, 1000, -1000, 1000], [1000, -1000, 1000, -1000]
    assert inputs["alternating"].tolist() == [[[[row, other], [other, row]]]]
    assert inputs["one bright voxel"].sum() == -1000 * 15 + 1000
    assert [values.max() for values in inputs["ends of int16"]] == [-32768, 32767]
    assert -1000 <= inputs["random"].min() < -500 < 500 < inputs["random"].max() <= 1000


def test_the_largest_difference_decides():
    fine = compare(of_sum, lambda values: of_sum(values) + 9e-6, example_inputs(SIGNATURE))
    assert fine.is_equal
    assert fine.largest == pytest.approx(9e-6, abs=1e-7)
    # Wrong on one extreme alone.
    wrong = compare(of_sum, lambda values: of_sum(values.clip(-20000)), example_inputs(SIGNATURE))
    assert not wrong.is_equal
    assert [kind for kind, value in wrong.differences.items() if value > wrong.tolerance] == ["ends of int16"]


def test_a_result_that_is_no_number_is_not_equal():
    assert not Equality(differences={"random": 0.0, "air": math.nan}).is_equal
    nan_twice = compare(lambda values: of_sum(values) * math.nan, of_sum, example_inputs(SIGNATURE))
    assert not nan_twice.is_equal


def test_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"must return \(5,\), got \(5, 1\)"):
        compare(of_sum, lambda values: of_sum(values)[:, None], example_inputs(SIGNATURE))


def test_speeds_are_medians_of_paired_measurements_without_the_first(monkeypatch: pytest.MonkeyPatch):
    clock = [0.0]
    # Seconds of each call by turns; the first of each is not counted.
    seconds = {"torch": iter([9.0, 2.0, 4.0, 6.0]), "onnx": iter([9.0, 1.0, 4.0, 2.0])}

    def run_of(name: str):
        def run(_values: np.ndarray) -> None:
            clock[0] += next(seconds[name])

        return run

    monkeypatch.setattr(speed.time, "perf_counter", lambda: clock[0])
    found = measure({name: run_of(name) for name in seconds}, np.zeros((8, 1)), num_pairs=3)
    # Torch 2, 4, 6 s; ONNX 1, 4, 2 s; ratios 2, 1, 3.
    assert found.inputs_per_second == {"torch": 2.0, "onnx": 4.0}
    assert found.gains == {"onnx": 2.0}
