"""Tables are read as they were written or not at all."""

import os
import random

import numpy as np
import pandas as pd
import pytest

from luna_pipeline.core.storage.table_files import read_table_file
from luna_pipeline.core.storage.tables import write_table

TABLE = pd.DataFrame(
    {
        "number": np.arange(2000),
        "value": np.random.default_rng(0).normal(size=2000),
        "uid": pd.Categorical(["a", "b"] * 1000),
    }
)


def read(path, **options):
    return read_table_file(path, advice="Materialize it again.", **options)


@pytest.fixture
def path(tmp_path):
    write_table(tmp_path / "some.parquet", TABLE)
    return tmp_path / "some.parquet"


def test_what_was_written_is_read(path):
    pd.testing.assert_frame_equal(read(path), TABLE)
    assert list(read(path, columns=["uid"])) == ["uid"]


def test_tables_without_checksums_are_read(path):
    TABLE.to_parquet(path, index=False)
    pd.testing.assert_frame_equal(read(path), TABLE)


def test_a_flipped_bit_is_an_error_of_one_line(path):
    content, randomness, lines = path.read_bytes(), random.Random(17), []
    for _ in range(200):
        at = randomness.randrange(len(content))
        path.write_bytes(content[:at] + bytes([content[at] ^ 1 << randomness.randrange(8)]) + content[at + 1 :])
        try:
            found = read(path)
        except ValueError as error:
            found, text = TABLE, str(error)
            lines.append(text)
        # A bit of the description, which changes no value.
        pd.testing.assert_frame_equal(found, TABLE)
    assert len(lines) > 150
    assert not [text for text in lines if "\n" in text or str(path) not in text]


@pytest.mark.parametrize("content", [b"", b"PAR1", b"x" * 100, b"PAR1" + bytes(100) + b"PAR1"])
def test_other_files_are_refused_by_name(path, content):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"must be a parquet file .*some\.parquet\)\. Materialize it again"):
        read(path)


def test_a_missing_column_and_what_is_no_file_are_named(path, tmp_path):
    with pytest.raises(ValueError, match="other"):
        read(path, columns=["other"])
    os.mkfifo(tmp_path / "fifo.parquet")
    with pytest.raises(OSError, match="got a FIFO"):
        read(tmp_path / "fifo.parquet")
