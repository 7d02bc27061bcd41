"""Markdown for Dagster's page."""

import base64

from luna_pipeline.assets import markdown


def test_picture_carries_its_bytes():
    png = b"\x89PNG"
    text = markdown.picture(png, "a sheet")
    assert text == f"![a sheet](data:image/png;base64,{base64.b64encode(png).decode()})"
