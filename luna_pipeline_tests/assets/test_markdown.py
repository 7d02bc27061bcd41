"""Markdown for Dagster's page."""

import base64

import pandas as pd

from luna_pipeline.assets import markdown


def test_table_has_a_head_a_rule_and_a_line_a_row():
    rows = pd.DataFrame({"model": ["a", "b"], "auc": [0.123456, float("nan")], "n": [3, 4]})
    assert markdown.table(rows).splitlines() == [
        "| model | auc | n |",
        "| --- | --- | --- |",
        "| a | 0.1235 | 3 |",
        "| b | nan | 4 |",
    ]


def test_picture_carries_its_bytes():
    png = b"\x89PNG"
    text = markdown.picture(png, "a sheet")
    assert text == f"![a sheet](data:image/png;base64,{base64.b64encode(png).decode()})"
