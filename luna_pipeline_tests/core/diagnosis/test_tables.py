"""nodules.csv and nodules.json: exact text, order, schema, provenance."""

import io
import json
import math
import tomllib
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from PIL import Image

from luna_pipeline.core.diagnosis.manifest import Manifest, manifest_json
from luna_pipeline.core.diagnosis.tables import nodules_csv, nodules_json, png_with_provenance, provenance, schema_of
from luna_pipeline_tests.core.diagnosis.examples import UID, diagnosis, model, nodule

SCHEMA = jsonschema.Draft202012Validator(schema_of("nodules.json"))
FIRST = nodule((20, 32, 33), center_xyz=(1 / 3, -0.1, 1e-7), probability=0.1 + 0.2, malignancy=None)
SECOND = nodule((1, 2, 3), probability=0.25)


def test_the_csv_has_luna16s_columns_and_every_digit():
    assert nodules_csv(diagnosis(FIRST, SECOND)).decode() == (
        "seriesuid,coordX,coordY,coordZ,probability\n"
        f"{UID},0.3333333333333333,-0.1,1e-07,0.30000000000000004\n"
        f"{UID},-27.0,-18.0,12.0,0.25\n"
    )


def test_without_nodules_the_csv_is_a_header_and_the_json_an_empty_list():
    assert nodules_csv(diagnosis()) == b"seriesuid,coordX,coordY,coordZ,probability\n"
    assert json.loads(nodules_json(diagnosis())) == []


def test_an_entry_holds_the_nodules_values_and_its_provenance():
    first, second = json.loads(nodules_json(diagnosis(FIRST, SECOND, is_synthetic=True)))
    origin = first.pop("provenance")
    assert first == {
        "probability": 0.1 + 0.2,
        "malignancy": None,
        "center_xyz": [1 / 3, -0.1, 1e-7],
        "center_irc": [20, 32, 33],
        "diameter_mm": 7.25,
        "long_axis_mm": 8.5,
        "volume_mm3": 199.5,
        "segmentation_score": 0.875,
        "series_instance_uid": UID,
    }
    assert (second["probability"], second["malignancy"], second["center_irc"]) == (0.25, 0.25, [1, 2, 3])
    assert second["provenance"] == origin
    assert origin["intended_use"] == "Research use only. Not a medical device."
    assert (origin["is_synthetic"], origin["recipe"], origin["run_ids"]) == (True, "default", {"dagster": "run-1"})
    assert origin["input_fingerprint"] == "12" * 32
    assert origin["models"]["malignancy"] == {
        "name": "malignancy_classifier",
        "version": "0.0.1",
        "address": "models:/nodule_malignancy@champion",
        "mlflow_run_id": "f00d" * 8,
        "weights_sha256": "ab" * 32,
        "has_unknown_origin": False,
        "has_seen_series": False,
    }


def test_numbers_of_numpy_are_written_as_those_of_python():
    of_numpy = replace(
        SECOND,
        center_xyz=tuple(np.array([1.5, 2.5, 3.5])),
        center_irc=tuple(np.array([1, 2, 3], dtype=np.int32)),
        probability=np.float32(0.5),
        malignancy=np.float64(0.0),
        volume_mm3=np.float32(8),
    )
    (entry,) = json.loads(nodules_json(diagnosis(of_numpy)))
    assert (entry["center_xyz"], entry["center_irc"]) == ([1.5, 2.5, 3.5], [1, 2, 3])
    assert (entry["probability"], entry["malignancy"], entry["volume_mm3"]) == (0.5, 0.0, 8)


@pytest.mark.parametrize("nodules", [(), (FIRST,), (FIRST, SECOND)])
@pytest.mark.parametrize("roles", [("segmenter", "classifier"), ("segmenter", "classifier", "malignancy")])
def test_the_json_is_of_its_schema(nodules, roles):
    models = tuple(model(role, mlflow_run_id=None) for role in roles)
    entries = json.loads(nodules_json(diagnosis(*nodules, models=models)))
    assert len(entries) == len(nodules)
    assert not list(SCHEMA.iter_errors(entries))


@pytest.mark.parametrize(
    "change",
    [
        {"probability": 1.5},
        {"center_xyz": [1.0, 2.0]},
        {"center_irc": [1, 2, 3.5]},
        {"volume_mm3": -1},
        {"malignancy": "high"},
        {"patient_id": "x"},
        {"provenance": {}},
    ],
)
def test_the_schema_refuses_other_values(change):
    (entry,) = json.loads(nodules_json(diagnosis(SECOND)))
    assert not SCHEMA.is_valid([entry | change])
    for name in entry:
        assert not SCHEMA.is_valid([{key: value for key, value in entry.items() if key != name}])


@pytest.mark.parametrize("name", ["nodules.json", "diagnosis.json"])
def test_the_schema_itself_is_valid(name):
    jsonschema.Draft202012Validator.check_schema(schema_of(name))


def test_a_picture_carries_its_provenance_and_keeps_its_pixels():
    buffer = io.BytesIO()
    Image.new("RGB", (7, 5), (1, 2, 3)).save(buffer, "PNG")
    one = diagnosis(SECOND, run_ids={"dagster": "\N{SNOWMAN}"})
    with Image.open(io.BytesIO(png_with_provenance(buffer.getvalue(), one))) as picture:
        picture.load()
        assert (picture.size, picture.getpixel((6, 4))) == ((7, 5), (1, 2, 3))
        assert json.loads(picture.text["provenance"]) == provenance(one)


@pytest.mark.parametrize("changes", [{"center_xyz": (math.nan, 0.0, 0.0)}, {"probability": math.inf}])
def test_a_number_that_is_not_finite_is_refused(changes):
    odd = diagnosis(nodule(**changes))
    with pytest.raises(ValueError, match="finite"):
        nodules_csv(odd)
    with pytest.raises(ValueError, match="not JSON compliant"):
        nodules_json(odd)


def test_another_order_than_that_of_probability_is_refused():
    with pytest.raises(ValueError, match=r"falling order of probability, got \[0.25, 0.3"):
        diagnosis(SECOND, FIRST)


def test_schemas_and_style_are_part_of_an_installed_package():
    root = Path(__file__).resolve().parents[3]
    patterns = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    others = [
        path.name for path in (root / "luna_pipeline/core/diagnosis").iterdir() if path.suffix in {".json", ".css"}
    ]
    assert sorted(others) == ["diagnosis.schema.json", "nodules.schema.json", "report.css"]
    known = patterns["luna_pipeline.core.diagnosis"]
    assert all(any(Path(name).match(pattern) for pattern in known) for name in others)


def test_a_written_diagnosis_is_of_its_schema():
    one = diagnosis(
        FIRST, SECOND, lung_volume_ml=None, models=(model("segmenter", mlflow_run_id=None), model("classifier"))
    )
    names = ("nodules.csv", "nodules.json", "montage.png", "report.html")
    written = Manifest(diagnosis=one, outputs=dict.fromkeys(names, "ab" * 32))
    values = json.loads(manifest_json(written))
    schema = jsonschema.Draft202012Validator(schema_of("diagnosis.json"))
    schema.validate(values)
    for name in values:
        assert not schema.is_valid({key: value for key, value in values.items() if key != name}), name
    assert not schema.is_valid(values | {"patient_id": "x"})
