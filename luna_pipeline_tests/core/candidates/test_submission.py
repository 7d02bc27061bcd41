"""Exact text of submissions in LUNA16's format."""

import math

import pandas as pd
import pytest

from luna_pipeline.core.candidates.submission import submission_csv, write_submission


def rows(**changes) -> pd.DataFrame:
    columns = {
        "candidate_id": [1, 2],
        "series_instance_uid": ["1.2", "1.3"],
        "x_mm": [-128.7, 0.1 + 0.2],
        "y_mm": [-175.25, 1e-7],
        "z_mm": [0.0, 3.0],
        "probability": [1 / 3, 1.0],
        "model": ["a", "a"],
    }
    return pd.DataFrame(columns | changes)


def test_the_form_is_luna16s_with_every_digit():
    assert submission_csv(rows()).decode() == (
        "seriesuid,coordX,coordY,coordZ,probability\n"
        "1.2,-128.7,-175.25,0.0,0.3333333333333333\n"
        "1.3,0.30000000000000004,1e-07,3.0,1.0\n"
    )


def test_numbers_come_back_as_they_were(tmp_path):
    write_submission(tmp_path / "a/0.csv", rows())
    table = pd.read_csv(tmp_path / "a/0.csv", dtype={"seriesuid": str}, float_precision="round_trip")
    assert table["coordX"].tolist() == rows()["x_mm"].tolist()
    assert table["probability"].tolist() == rows()["probability"].tolist()


def test_a_wrong_number_is_refused_and_the_file_before_stays(tmp_path):
    write_submission(tmp_path / "0.csv", rows())
    before = (tmp_path / "0.csv").read_bytes()
    with pytest.raises(ValueError, match=r"got 1 rows with others \(the first of series 1\.3\)"):
        write_submission(tmp_path / "0.csv", rows(probability=[0.1, math.nan]))
    assert (tmp_path / "0.csv").read_bytes() == before
