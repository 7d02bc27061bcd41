"""The data version of a table depends on its content only."""

import numpy as np
import pandas as pd
import pytest

from luna_pipeline.assets.data_versions import table_digest


def _table() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "candidate_id": np.array([1, 2, 3], dtype=np.int64),
            "series_instance_uid": ["1.2", "1.2", "1.3"],
            "diameter_mm": [4.0, np.nan, 6.0],
            "is_malignant": pd.array([True, None, False], dtype="boolean"),
            "size_irc": [[1, 2, 3], [4, 5, 6], None],
        }
    )


def test_table_that_was_written_and_read_keeps_its_version(tmp_path):
    _table().to_parquet(tmp_path / "table.parquet", index=False)
    assert table_digest(pd.read_parquet(tmp_path / "table.parquet")) == table_digest(_table())


def test_labels_of_the_rows_do_not_count():
    assert table_digest(_table().set_index(pd.Index([7, 8, 9]))) == table_digest(_table())


@pytest.mark.parametrize(
    ("column", "value"),
    [("candidate_id", 4), ("series_instance_uid", "1.4"), ("diameter_mm", 4.5), ("is_malignant", None)],
)
def test_any_changed_cell_changes_the_version(column: str, value):
    changed = _table()
    changed.loc[0, column] = value
    assert table_digest(changed) != table_digest(_table())


def test_order_type_and_name_count():
    table = _table()
    others = [table.iloc[::-1], table.astype({"candidate_id": "int32"}), table.rename(columns={"size_irc": "size"})]
    assert len({table_digest(each) for each in [table, *others]}) == 4
