"""The assets of the tables report rows that vanish, in their log and metadata, and their checks fail without rows."""

import os

import dagster as dg
import pandas as pd
import pytest

from luna_pipeline.assets.stage_2_candidates import CandidatesConfig, FoldsConfig, candidates, folds, source_tables
from luna_pipeline.checks import folds_hold_series_and_patients_apart, rejected_rows_are_few
from luna_pipeline.core.ct.catalogue import catalogue_series, grid_of_row
from luna_pipeline.resources import LunaPaths
from luna_pipeline_tests.phantoms import random_hounsfield, write_ct, write_tables

A, B = "1.2.840.1", "1.2.840.2"


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("LUNA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LUNA_DATA_DIR", str(tmp_path / "data"))
    for uid in (A, B):
        write_ct(tmp_path / "data", uid, random_hounsfield((8, 8, 8)))
    return tmp_path / "data"


def candidates_of(root, **config):
    catalogue = catalogue_series(root, patient_key=b"key")
    return list(
        candidates(dg.build_asset_context(), CandidatesConfig(**config), paths=LunaPaths(), ct_series=catalogue)
    )


def test_uids_that_do_not_match_are_in_the_log_and_the_metadata(root, capsys):
    write_tables(root, candidates=[(f"{A}.mhd", 0, 0, 0, 1), (f"{B}.mhd", 0, 0, 0, 1)])
    table, rejected, _ = candidates_of(root)
    for text in (table.metadata["notes"].value, capsys.readouterr().err):
        assert "candidates_V2.csv: 0 of 2 rows belong to 0 of 2 readable CTs" in text
        assert "they end in '.mhd'" in text
    check = rejected_rows_are_few(table.value, rejected.value)
    assert not check.passed
    assert "No row of the tables belongs to a readable CT" in check.description


def test_rejected_rows_are_in_the_log_by_reason(root, capsys):
    write_tables(root, candidates=[(A, "abc", 0, 0, 1)] * 30)
    table, rejected, _ = candidates_of(root)
    assert "Rejected 30 rows of candidates_V2.csv: coordinate is not a number, got 'abc'" in capsys.readouterr().err
    assert rejected.metadata["reasons"].value == {"coordinate is not a number": 30}
    assert len(table.value) == 0


def test_one_patient_id_for_all_is_reported_where_folds_are_made(root, capsys):
    catalogue = catalogue_series(root, patient_key=b"key").assign(patient_hash="same")
    output = folds(dg.build_asset_context(), FoldsConfig(), paths=LunaPaths(), ct_series=catalogue)
    for text in (output.metadata["notes"].value, capsys.readouterr().err):
        assert "All 2 series have the same patient id" in text


@pytest.mark.usefixtures("root")
def test_one_patient_id_in_two_folds_is_explained_by_the_check():
    table = pd.DataFrame({"series_instance_uid": ["1", "2", "3"], "fold": [0, 1, 2], "patient_hash": "f" * 64})
    check = folds_hold_series_and_patients_apart(table, paths=LunaPaths())
    assert not check.passed
    assert "All 3 series have the same patient id" in check.description
    assert not folds_hold_series_and_patients_apart(table.iloc[:0], paths=LunaPaths()).passed


def test_a_fifo_with_the_name_of_a_table_is_not_observed(root):
    os.mkfifo(root / "annotations.csv")
    write_tables(root, candidates=[(A, 0, 0, 0, 1)])
    observed = {result.asset_key.path[0]: result.metadata["file"] for result in source_tables(paths=LunaPaths())}
    assert observed == {
        "annotations": "absent",
        "candidates_v2": "candidates_V2.csv",
        "malignancy_ratings": "absent",
        "luna16_subsets": "absent",
        "annotations_excluded": "absent",
        "seriesuids": "absent",
    }


def test_the_policy_of_malignancy_is_chosen_and_stored_with_the_table(root):
    row = catalogue_series(root, patient_key=b"key").set_index("series_instance_uid", drop=False).loc[A]
    point = [float(mm) for mm in grid_of_row(row).voxel_to_world((4, 4, 4))]
    write_tables(root, annotations=[(A, *point, 6)], malignancy=[(A, *point, 6, "", "[4, 4, 1, 1]")])
    book, *_ = candidates_of(root)
    mean, *_ = candidates_of(root, malignancy_policy="mean")
    assert list(book.value["is_malignant"]) == [True]
    assert list(mean.value["is_malignant"]) == [False]
    assert (book.value.attrs["malignancy_policy"], mean.value.attrs["malignancy_policy"]) == ("book", "mean")
    assert "policy book: 1 malignant, 0 benign, 0 dropped" in book.metadata["malignancy_policies"].value
    with pytest.raises(dg.DagsterInvalidConfigError, match="one of book, mean, median got mode"):
        candidates_of(root, malignancy_policy="mode")
