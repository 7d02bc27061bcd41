import os

import pytest

from luna_pipeline.core.cutouts.up_to_date import UpToDateMarker


@pytest.fixture
def marker(tmp_path) -> UpToDateMarker:
    for folder in ("data", "cutouts", "tables"):
        (tmp_path / folder).mkdir()
    (tmp_path / "data" / "annotations.csv").write_text("seriesuid\n")
    (tmp_path / "data" / "1.mhd").write_text("NDims = 3\n")
    (tmp_path / "tables" / "candidates.parquet").write_text("table")
    (tmp_path / "cutouts" / "1.npz").write_text("cutouts")
    made = UpToDateMarker(
        data_root=tmp_path / "data",
        cutouts=tmp_path / "cutouts",
        tables=[tmp_path / "tables" / "candidates.parquet", tmp_path / "tables" / "never_made.parquet"],
        request={"edge_rule": "pad", "shape": (1, 2)},
    )
    made.write(made.stat_digest(), made.files())
    return made


def test_it_holds_while_nothing_changes(marker):
    assert marker.holds()
    assert marker.holds()


@pytest.mark.parametrize(
    "change",
    [
        lambda root: os.utime(root / "data" / "annotations.csv", (0, 0)),
        lambda root: (root / "data" / "2.mhd").write_text("new"),
        lambda root: (root / "data" / "1.mhd").unlink(),
        lambda root: (root / "cutouts" / "1.npz").unlink(),
        lambda root: (root / "cutouts" / "1.npz").write_text("damaged"),
        lambda root: (root / "cutouts" / "2.npz").write_text("one more"),
        lambda root: (root / "tables" / "candidates.parquet").unlink(),
        lambda root: (root / "tables" / "never_made.parquet").write_text("made"),
        lambda root: (root / "cutouts" / ".receipt.json").write_text("{torn"),
        lambda root: (root / "cutouts" / ".receipt.json").unlink(),
    ],
)
def test_whatever_changes_it_does_not_hold(marker, tmp_path, change):
    change(tmp_path)
    assert not marker.holds()


def test_another_request_is_another_matter(marker):
    other = UpToDateMarker(marker.data_root, marker.cutouts, marker.tables, {"edge_rule": "shift", "shape": (1, 2)})
    assert not other.holds()


def test_an_edit_while_cutting_is_seen_afterwards(marker, tmp_path):
    before = marker.stat_digest()
    (tmp_path / "data" / "annotations.csv").write_text("seriesuid,coordX\n")
    marker.write(before, marker.files())
    assert not marker.holds()
    marker.write(marker.stat_digest(), marker.files())
    assert marker.holds()


def test_a_discarded_one_does_not_hold(marker):
    marker.discard()
    marker.discard()
    assert not marker.holds()
