"""What is kept between searches is read back as it was written."""

from pathlib import Path

import numpy as np
import pandas as pd

from luna_pipeline.core.same_scans.pairs import Finding
from luna_pipeline.core.same_scans.scan_files import ScanFile
from luna_pipeline.core.same_scans.signatures import (
    signature_of,
    signature_row,
    signatures_of_table,
    table_of_rows,
)
from luna_pipeline.core.same_scans.tables import (
    comparison_row,
    comparisons_of_table,
    comparisons_table,
    same_scans_table,
)
from luna_pipeline.core.storage.tables import write_table
from luna_pipeline_tests.core.same_scans.examples import noisy_tissue

ONE, OTHER = (
    ScanFile(name=name, path=Path(name), series_instance_uid=name, fingerprint=f"f{name}", data_source=source)
    for name, source in (("1", "luna16"), ("2", None))
)


def test_signatures_are_read_back_from_their_table(tmp_path: Path):
    wanted = signature_of(noisy_tissue(0))
    write_table(tmp_path / "scan_signatures.parquet", table_of_rows([signature_row("f", wanted)]))
    (found,) = signatures_of_table(pd.read_parquet(tmp_path / "scan_signatures.parquet")).values()
    assert (found.size_irc, found.num_in_window) == (wanted.size_irc, wanted.num_in_window)
    np.testing.assert_array_equal(found.anchors.hashes, wanted.anchors.hashes)
    np.testing.assert_array_equal(found.anchors.places_irc, wanted.anchors.places_irc)
    np.testing.assert_array_equal(found.thumbnail, wanted.thumbnail)


def test_signatures_of_other_rules_and_other_tables_are_not_used():
    table = table_of_rows([signature_row("f", signature_of(noisy_tissue(0)))])
    assert signatures_of_table(table.assign(rules=0)) == {}
    assert signatures_of_table(table.drop(columns="thumbnail")) == {}
    assert signatures_of_table(None) == {}
    assert len(table_of_rows([])) == 0


def test_comparisons_are_read_back_and_different_pairs_are_no_row_of_the_table(tmp_path: Path):
    same = comparison_row(ONE, OTHER, Finding(kind="block of", is_swapped=True, share_equal=1.0, offset_irc=(1, -2, 3)))
    different = comparison_row(ONE, ONE, Finding(kind="different"))
    path = tmp_path / "scan_comparisons.parquet"
    write_table(path, comparisons_table([same, different]))
    known = comparisons_of_table(pd.read_parquet(path))
    row = known[frozenset(("f1", "f2"))]
    assert (row["fingerprint_a"], row["offset_irc"], row["kind"]) == ("f2", [1, -2, 3], "block of")
    assert known[frozenset(("f1",))]["offset_irc"] is None
    assert comparisons_of_table(comparisons_table([same]).assign(rules=0)) == {}
    table = same_scans_table([(ONE, OTHER, row), (ONE, ONE, known[frozenset(("f1",))])])
    assert table[["series_a", "series_b", "source_a", "source_b"]].values.tolist() == [["2", "1", None, "luna16"]]
    write_table(tmp_path / "same_scans.parquet", table)
    write_table(tmp_path / "same_scans.parquet", same_scans_table([]))
