"""The asset of same scans, and the check of folds that uses its table."""

import dagster as dg
import pandas as pd
import pytest

from luna_pipeline.assets.stage_1_same_scans import SameScansConfig, same_scans
from luna_pipeline.checks import folds_hold_series_and_patients_apart
from luna_pipeline.core.ct.catalogue import catalogue_series
from luna_pipeline.launchers.same_scans import read_same_scans, write_same_scans
from luna_pipeline.resources import LunaPaths
from luna_pipeline_tests.core.same_scans.examples import noisy_tissue
from luna_pipeline_tests.phantoms import write_ct

A, B, C = "1.2.840.1", "1.2.840.2", "1.2.840.3"


@pytest.fixture
def catalogue(tmp_path, monkeypatch) -> pd.DataFrame:
    """Series B is a block of A."""
    monkeypatch.setenv("LUNA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LUNA_DATA_DIR", str(tmp_path / "data"))
    for uid, hounsfield in ((A, noisy_tissue(0)), (B, noisy_tissue(0)[3:, ::-1]), (C, noisy_tissue(1))):
        write_ct(tmp_path / "data", uid, hounsfield)
    return catalogue_series(tmp_path / "data", patient_key=b"key")


def made(catalogue: pd.DataFrame, **config) -> dg.Output:
    return same_scans(
        dg.build_asset_context(), config=SameScansConfig(**config), paths=LunaPaths(), ct_series=catalogue
    )


def test_one_source_is_not_searched_unless_it_is_configured(catalogue):
    output = made(catalogue)
    assert (len(output.value), output.metadata["is_searched"].value) == (0, False)
    output = made(catalogue, search="always", workers=1)
    assert output.value[["series_a", "series_b", "kind"]].values.tolist() == [[B, A, "block of"]]
    assert (output.metadata["num_read"].value, output.metadata["kinds"].value) == (3, {"block of": 1})
    # Searched before: it stays up to date, and reads nothing again.
    output = made(catalogue)
    assert (len(output.value), output.metadata["num_read"].value) == (1, 0)
    assert len(made(catalogue, search="never").value) == 0


def test_two_sources_are_searched(catalogue):
    output = made(catalogue.assign(data_source=["luna16", "lidc_idri", "luna16"]))
    assert output.value[["source_a", "source_b"]].values.tolist() == [["lidc_idri", "luna16"]]


def test_what_cannot_be_read_is_a_warning(catalogue, tmp_path, capsys):
    (tmp_path / "data" / f"{C}.mhd").unlink()
    output = made(catalogue, search="always")
    assert [output.metadata[name].value for name in ("num_not_compared", "num_pairs")] == [1, 1]
    assert output.value[["series_a", "series_b", "kind"]].values.tolist() == [
        [B, A, "block of"],
        [C, "", "not compared"],
    ]
    write_same_scans(LunaPaths().settings, output.value)
    assert len(read_same_scans(LunaPaths().settings)) == 2
    assert f"Not compared: {C}: " in capsys.readouterr().err


def test_the_check_of_folds_fails_where_one_scan_is_in_two(catalogue):
    folds = pd.DataFrame({"series_instance_uid": [A, B, C], "fold": [0, 1, 1], "patient_hash": None})
    assert folds_hold_series_and_patients_apart(folds, LunaPaths()).passed
    write_same_scans(LunaPaths().settings, made(catalogue, search="always").value)
    check = folds_hold_series_and_patients_apart(folds, LunaPaths())
    assert not check.passed
    assert f"The same scan must be in one fold, got [0, 1] ({A}, {B})." in check.description
    assert folds_hold_series_and_patients_apart(folds.assign(fold=[1, 1, 0]), LunaPaths()).passed
