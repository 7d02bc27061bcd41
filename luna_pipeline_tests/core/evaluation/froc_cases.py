"""Small tables for LUNA16's evaluation, written as rows."""

import json
import os
from pathlib import Path

import pandas as pd
import pytest

from luna_pipeline.core.evaluation.froc_files import FrocTables

POINT = ["x_mm", "y_mm", "z_mm"]


def rows(values, last: str) -> pd.DataFrame:
    table = pd.DataFrame(values, columns=["series_instance_uid", *POINT, last])
    return table.astype({name: "float64" for name in (*POINT, last)})


def froc_tables(marks, nodules=(), excluded=(), scans=("A",)) -> FrocTables:
    """Return tables from rows (uid, x, y, z, probability) and (uid, x, y, z, diameter_mm)."""
    return FrocTables(
        marks=rows(marks, "probability"),
        nodules=rows(nodules, "diameter_mm"),
        excluded=rows(excluded, "diameter_mm"),
        scans=list(scans),
    )


def golden_cases(kind: str) -> list:
    """Return the cases of `tables` or `vectors` in LUNA_TEST_GOLDEN; without it the tests are skipped with a reason."""
    folder = os.environ.get("LUNA_TEST_GOLDEN")
    if not folder:
        return [pytest.param(None, id="none", marks=pytest.mark.skip("LUNA_TEST_GOLDEN names no folder of cases"))]
    everything = {path.parent: json.loads(path.read_text())["inputs"] for path in Path(folder).glob("*/expected.json")}
    found = sorted(path for path, inputs in everything.items() if ("vectors" in inputs) == (kind == "vectors"))
    assert found, f"no case of {kind} below {folder}"
    return [pytest.param(path, id=path.name) for path in found]
