"""Tables of sources in LUNA16's form."""

import pandas as pd

from luna_pipeline.core.sources.luna16_form import luna16_form, read_luna16_form, write_luna16_form
from luna_pipeline.core.sources.source import SourceTables

POINT = {"series_instance_uid": ["1.2", "1.3"], "x_mm": [0.1 + 0.2, -1e-7], "y_mm": [1.0, 2.0], "z_mm": [3.0, 4.0]}
TABLES = SourceTables(
    annotations=pd.DataFrame(POINT | {"diameter_mm": [1 / 3, 7.0]}),
    candidates=pd.DataFrame(POINT | {"class": [1, 0], "is_malignant": pd.array([True, None], dtype="boolean")}),
    ratings=pd.DataFrame(POINT | {"diameter_mm": [4.0, 5.0], "is_malignant": [None, True], "ratings": [[4, 5], []]}),
    scans=["1.2", "1.3"],
)


def test_numbers_are_read_back_as_they_were(tmp_path):
    write_luna16_form(tmp_path, luna16_form(TABLES, {"1.2": 3}))
    read = read_luna16_form(tmp_path)
    for name in ("x_mm", "y_mm", "z_mm", "diameter_mm"):
        assert [float(text) for text in read.annotations[name]] == list(TABLES.annotations[name])
    assert list(read.candidates["is_malignant"]) == ["True", ""]
    assert list(read.ratings["ratings"]) == ["4 5", ""]
    assert read.scans == TABLES.scans
    assert read.excluded is None
    assert (tmp_path / "luna16_subsets.csv").read_text() == "seriesuid,subset\n1.2,3\n"


def test_a_table_that_is_gone_is_removed_and_an_equal_one_keeps_its_time(tmp_path):
    write_luna16_form(tmp_path, luna16_form(TABLES, {}))
    before = (tmp_path / "annotations.csv").stat().st_mtime_ns
    write_luna16_form(tmp_path, luna16_form(SourceTables(annotations=TABLES.annotations), {}))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["annotations.csv"]
    assert (tmp_path / "annotations.csv").stat().st_mtime_ns == before
