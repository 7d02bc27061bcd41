"""A catalogue built from an earlier one has the same rows; unchanged files are not opened."""

import os
import shutil

import numpy as np
import pandas as pd
import pytest

from luna_pipeline.core.ct.catalogue import catalogue_series
from luna_pipeline.core.ct.catalogue_cache import num_rows_kept, read_kept_catalogue
from luna_pipeline_tests.phantoms import random_hounsfield, write_ct, write_dicom_series

KEY = b"secret"


@pytest.fixture
def root(tmp_path):
    """Two MetaImages in one folder, one broken in another, a DICOM series, and a second copy of the first CT."""
    root = tmp_path / "data"
    write_ct(root / "subset0", "1.2.1", random_hounsfield())
    write_ct(root / "subset0", "1.2.2", random_hounsfield())
    write_ct(root / "subset1", "1.2.3", random_hounsfield())
    (root / "subset1" / "1.2.3.raw").unlink()
    write_dicom_series(root / "dicom", "1.2.4", random_hounsfield())
    write_ct(root / "copies", "1.2.1", random_hounsfield())
    return root


def catalogue_of(root, kept=None, *, key=KEY):
    return catalogue_series(root, patient_key=key, kept=kept)


def assert_equal(first, second):
    assert first.to_json() == second.to_json()
    assert first.dtypes.tolist() == second.dtypes.tolist()


def kept_of(root):
    """A catalogue as read from its table."""
    path = root.parent / "catalogue.parquet"
    catalogue_of(root).to_parquet(path, index=False)
    return pd.read_parquet(path)


def num_kept(root, kept):
    """Return the number of adopted rows; the result must equal a catalogue built from scratch."""
    catalogue = catalogue_of(root, kept)
    assert_equal(catalogue, catalogue_of(root))
    return num_rows_kept(catalogue, kept)


def overwrite_unseen(path):
    """Change a file's bytes but neither its length nor its time: only opening it shows the change."""
    status = path.stat()
    path.write_bytes(b"x" * status.st_size)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_everything_is_taken_over_where_nothing_changed(root):
    kept = kept_of(root)
    assert num_kept(root, kept) == len(kept) == 5


def test_no_file_of_an_unchanged_folder_is_opened(root):
    # Copies are compared each time.
    shutil.rmtree(root / "copies")
    kept = kept_of(root)
    before = catalogue_of(root)
    for path in (*root.rglob("*.mhd"), *root.rglob("*.dcm")):
        overwrite_unseen(path)
    assert_equal(catalogue_of(root, kept), before)
    assert catalogue_of(root).is_readable.sum() == 0


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda root: os.utime(root / "subset0" / "1.2.2.raw", ns=(1, 1)), 3),
        (lambda root: (root / "subset0" / "1.2.2.raw").unlink(), 3),
        (lambda root: (root / "dicom" / "slice0003.dcm").unlink(), 4),
        (lambda root: shutil.copy(root / "dicom" / "slice0003.dcm", root / "dicom" / "copy.dcm"), 4),
        (lambda root: write_ct(root / "subset1", "1.2.9", random_hounsfield()), 4),
        (lambda root: np.zeros((6, 8, 10), dtype="<i2").tofile(root / "subset1" / "1.2.3.raw"), 4),
        (lambda root: write_ct(root / "new", "1.2.9", random_hounsfield()), 5),
        (lambda root: (root / "subset1").rename(root / "subset2"), 4),
        (lambda root: shutil.rmtree(root / "dicom"), 4),
        (lambda root: (root / "subset0" / "notes.txt").write_text("idle"), 5),
        (lambda root: (root / "dicom" / "slice0003.dcm").chmod(0o400), 4),
    ],
)
def test_only_folders_with_a_change_are_looked_at_again(root, change, expected):
    kept = kept_of(root)
    change(root)
    assert num_kept(root, kept) == expected


def test_a_mended_series_becomes_readable(root):
    kept = kept_of(root)
    np.zeros((6, 8, 10), dtype="<i2").tofile(root / "subset1" / "1.2.3.raw")
    row = catalogue_of(root, kept).set_index("series_instance_uid").loc["1.2.3"]
    assert row.is_readable
    assert row.reason is None


def test_the_copy_takes_the_place_of_a_series_that_is_removed(root):
    kept = kept_of(root)
    assert kept.set_index("path").is_readable["copies/1.2.1.mhd"] == np.False_
    (root / "subset0" / "1.2.1.mhd").unlink()
    catalogue = catalogue_of(root, kept).set_index("path")
    assert catalogue.is_readable["copies/1.2.1.mhd"] == np.True_
    assert catalogue.reason["copies/1.2.1.mhd"] is None
    assert num_kept(root, kept) == 3


def test_a_copy_that_comes_before_does_not_take_the_place_of_the_one_in_a_subset(root):
    kept = kept_of(root)
    write_ct(root / "a", "1.2.1", random_hounsfield())
    catalogue = catalogue_of(root, kept)
    paths = catalogue[catalogue.series_instance_uid == "1.2.1"].set_index("path").is_readable
    assert paths.to_dict() == {"a/1.2.1.mhd": False, "subset0/1.2.1.mhd": True, "copies/1.2.1.mhd": False}
    assert num_kept(root, kept) == 5


def test_voxels_outside_the_folder_are_looked_at_each_time(tmp_path):
    root = tmp_path / "data"
    path = write_ct(root, "1.2.3", random_hounsfield())
    (root / "voxels").mkdir()
    (root / "1.2.3.raw").rename(root / "voxels" / "1.2.3.raw")
    path.write_text(path.read_text().replace("= 1.2.3.raw", "= voxels/1.2.3.raw"))
    kept = kept_of(root)
    assert kept.is_readable.all()
    (root / "voxels" / "1.2.3.raw").write_bytes(b"short")
    assert not catalogue_of(root, kept).is_readable.any()
    assert num_kept(root, kept) == 0


def test_hashes_under_another_key_are_not_taken_over(root):
    catalogue = catalogue_of(root, kept_of(root), key=b"other")
    assert_equal(catalogue, catalogue_of(root, key=b"other"))


def test_the_data_may_be_moved_as_a_whole(root):
    kept = kept_of(root)
    assert num_kept(root.rename(root.parent / "elsewhere"), kept) == 5


@pytest.mark.parametrize(
    "foreign",
    [
        None,
        pd.DataFrame(),
        pd.DataFrame({"series_instance_uid": ["1.2.1"], "path": ["subset0/1.2.1.mhd"]}),
        pd.DataFrame({"stat_digest": [1, None]}),
    ],
)
def test_a_table_of_another_form_is_passed_over(root, foreign):
    assert num_kept(root, foreign) == 0


def test_rows_with_a_foreign_glance_are_passed_over(root):
    kept = kept_of(root)
    kept["stat_digest"] = [1, None, "", "x", float("nan")]
    assert num_kept(root, kept) == 0


@pytest.mark.parametrize("content", [None, b"", b"no parquet", b"PAR1 cut off"])
def test_a_table_that_is_not_there_or_damaged_is_none(tmp_path, content):
    path = tmp_path / "ct_series.parquet"
    if content is not None:
        path.write_bytes(content)
    assert read_kept_catalogue(path) is None


def test_the_table_of_an_earlier_run_is_taken_over(root):
    catalogue_of(root).to_parquet(root.parent / "ct_series.parquet", index=False)
    assert num_kept(root, read_kept_catalogue(root.parent / "ct_series.parquet")) == 5
