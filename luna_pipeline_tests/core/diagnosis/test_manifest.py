"""``diagnosis.json`` gives back the diagnosis that it was written from."""

import json
from dataclasses import fields

import numpy as np
import pytest

from luna_pipeline.core.diagnosis.manifest import Manifest, manifest_json, manifest_of
from luna_pipeline.core.diagnosis.recipes import book
from luna_pipeline.core.diagnosis.result import Nodule
from luna_pipeline_tests.core.diagnosis.examples import diagnosis, nodule

MASK = np.random.default_rng(0).random((3, 5, 7)) > 0.5
FOUND = diagnosis(
    nodule(mask=MASK, probability=1 / 3), nodule(malignancy=None, probability=0.1), recipe=book(), notes=("é",)
)
OUTPUTS = {"nodules.csv": "00" * 32}


def written() -> dict:
    return json.loads(manifest_json(Manifest(diagnosis=FOUND, outputs=OUTPUTS)))


def test_all_values_come_back():
    manifest = manifest_of(written())
    assert manifest.outputs == OUTPUTS
    back = manifest.diagnosis
    assert (back.grid, back.recipe, back.models) == (FOUND.grid, FOUND.recipe, FOUND.models)
    assert (back.notes, back.run_ids, back.seconds) == (FOUND.notes, FOUND.run_ids, FOUND.seconds)
    assert back.lung_volume_ml == FOUND.lung_volume_ml
    for one, other in zip(back.nodules, FOUND.nodules, strict=True):
        for name in (entry.name for entry in fields(Nodule)):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
        assert one.box == other.box


def test_it_names_the_searched_scan_and_the_intended_use():
    values = written()
    assert values["searched_scans"] == [FOUND.series_instance_uid]
    assert "Research use only" in values["intended_use"]


@pytest.mark.parametrize(
    "change",
    [
        {"format_version": 2},
        {"recipe": {}},
        {"nodules": [{}]},
        {"models": None},
        {"grid": {"size_irc": [0, 0, 0]}},
        {"seconds": 3},
    ],
)
def test_other_values_are_refused_in_one_line(change: dict):
    with pytest.raises(ValueError, match="must hold a diagnosis") as caught:
        manifest_of(written() | change)
    assert "\n" not in str(caught.value)


def test_a_mask_that_is_too_short_is_refused():
    values = written()
    values["nodules"][0]["mask_shape"] = [300, 500, 700]
    with pytest.raises(ValueError, match="must hold a diagnosis"):
        manifest_of(values)
