"""Records of the pipeline's tests: what counts as equal, and that no difference is passed over."""

import copy
import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from luna_pipeline_tests.compare_records import differences, main
from luna_pipeline_tests.core.cutout_examples import write_examples
from luna_pipeline_tests.installation import Luna
from luna_pipeline_tests.records import Record, made_by

MADE = {
    "test": "test_a",
    "tables": {"folds": {"rows": 6, "columns": ["fold"], "column fold": "ab"}},
    "cutouts": {"1.2": {"member ct_chunks": "cd", "header": {"format_version": 2}}},
    "checkpoints": {"nodule/0.0.1/best": {"tensor weight": "ef"}},
    "submissions": {},
    "runs in MLflow": {"nodule 0.0.1 (1)": {"status": "FINISHED", "metric loss": [[1, "0.5"], [2, "0.25"]]}},
}
CHANGES = [
    (("tables", "folds", "column fold"), "tables folds: column fold"),
    (("cutouts", "1.2", "header"), "cutouts 1.2: header"),
    (("checkpoints", "nodule/0.0.1/best", "tensor weight"), "checkpoints nodule/0.0.1/best: tensor weight"),
    (("runs in MLflow", "nodule 0.0.1 (1)", "metric loss"), "runs in MLflow nodule 0.0.1 (1): metric loss"),
    (("cutouts", "1.2"), "cutouts 1.2: only in the first"),
]


def written(path: Path, *lines: dict) -> str:
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return str(path)


def test_equal_records_are_counted(tmp_path, capsys):
    assert main([written(tmp_path / "a", MADE), written(tmp_path / "b", MADE)]) == 0
    said = capsys.readouterr().out
    assert "1 tests, 1 tables, 1 cutouts, 1 checkpoints" in said
    assert "1 metrics, 2 values of metrics" in said
    assert said.endswith("0 differences\n")


@pytest.mark.parametrize(("place", "line"), CHANGES, ids=[line for _, line in CHANGES])
def test_a_difference_is_named(tmp_path, capsys, place, line):
    other = copy.deepcopy(MADE)
    inner = other
    for name in place[:-1]:
        inner = inner[name]
    if len(place) == 3:
        inner[place[-1]] = "another"
    else:
        del inner[place[-1]]
    assert main([written(tmp_path / "a", MADE), written(tmp_path / "b", other)]) == 1
    said = capsys.readouterr().out
    assert f"test_a: {line}" in said
    assert said.endswith("1 differences\n")


def test_a_test_of_one_record_alone_is_named_and_nothing_is_not_equal(tmp_path, capsys):
    one, nothing = written(tmp_path / "a", MADE), written(tmp_path / "b")
    assert main([one, nothing]) == 1
    assert "test_a: only in the first" in capsys.readouterr().out
    assert main([nothing, nothing]) == 1


@pytest.fixture
def made_in(tmp_path, monkeypatch):
    """Return what a record holds of a home with a table and cutouts of its own, each in another folder."""

    def made(name: str, *, seconds: float = 1.0, cell: float = 0.5, voxel: int = 0) -> dict:
        root = tmp_path / name
        monkeypatch.setenv("LUNA_DATA_DIR", str(root / "data"))
        monkeypatch.setenv("LUNA_HOME", str(root / "home"))
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        _, store = write_examples(root / "home/cutouts")
        if voxel:
            uid = store.uids()[0]
            cutouts = store.read(uid)
            chunks = np.array(cutouts.ct_chunks)
            chunks[0, 0, 0, 0] += voxel
            store.write(uid, dataclasses.replace(cutouts, ct_chunks=chunks))
        card = f"| training | {seconds:,.0f} s |"
        table = pd.DataFrame({"auc": [cell], "training_seconds": seconds, "card": card, "path": f"{root}/home/x"})
        (root / "home/tables").mkdir()
        table.to_parquet(root / "home/tables/nodule_report.parquet")
        luna = Luna(root, None, None)
        Record.begun(tmp_path / "record").prepare(luna)
        return made_by(luna)

    return made


def test_times_and_places_are_not_compared_and_values_are(made_in):
    one = made_in("one")
    assert list(differences(one, made_in("other", seconds=2000.0))) == []
    (line,) = differences(one, made_in("cell", cell=0.5 + 2**-53))
    assert line.startswith("tables nodule_report: column auc: ")
    lines = list(differences(one, made_in("voxel", voxel=1)))
    assert [line.split(":")[1].strip() for line in lines] == ["file", "member ct_chunks"]
