"""Facts of all scans of a catalogue."""

import os

import numpy as np
import pandas as pd
import pytest

from luna_pipeline.core.ct.catalogue import catalogue_series
from luna_pipeline.core.ct.formats import dicom_acquisition, dicom_series
from luna_pipeline.core.ct.formats.dicom_headers import read_slices
from luna_pipeline.core.quality.kept_facts import KeptFacts
from luna_pipeline.core.quality.scans import SCAN_COLUMNS, describe_scans
from luna_pipeline_tests.core.quality.examples import chest
from luna_pipeline_tests.phantoms import write_ct, write_dicom_series

KEY = b"k" * 32


@pytest.fixture
def root(tmp_path):
    write_ct(tmp_path / "data", "1.1", chest(noise_hu=20.0))
    write_dicom_series(tmp_path / "data/dicom", "1.2", chest(seed=1), tags={"ConvolutionKernel": "SOFT", "KVP": "120"})
    gone = write_dicom_series(tmp_path / "data/gap", "1.3", chest((12, 16, 16), seed=2))
    sorted(gone.iterdir())[5].unlink()
    return tmp_path / "data"


def described(root, kept=None, **options):
    return describe_scans(catalogue_series(root, patient_key=KEY), data_root=root, kept=kept, **options)


def test_a_row_a_series_with_what_its_headers_say(root):
    scans = described(root).set_index("series_instance_uid")
    assert list(scans.columns) == list(SCAN_COLUMNS[1:])
    assert scans["is_readable"].to_dict() == {"1.1": True, "1.2": True, "1.3": False}
    assert scans["format"].to_dict() == {"1.1": "metaimage", "1.2": "dicom", "1.3": "dicom"}
    assert scans["kernel"].to_dict() == {"1.1": None, "1.2": "SOFT", "1.3": None}
    assert scans["missing_slices"].isna().to_dict() == {"1.1": True, "1.2": False, "1.3": False}
    assert (scans.loc["1.2", "missing_slices"], scans.loc["1.3", "missing_slices"]) == (0, 1)
    # The thickness in the tests' files is twice the spacing.
    assert scans.loc["1.2", "gap_mm"] == pytest.approx(-2.5)
    assert scans["is_hounsfield"].isna().all()


def test_the_headers_of_a_flat_folder_are_read_once(tmp_path, monkeypatch):
    for number in range(1, 5):
        write_dicom_series(tmp_path, f"1.{number}", chest((6, 8, 8)), prefix=f"{number}-")
        (tmp_path / f"{number}-0003.dcm").unlink()
    catalogue = catalogue_series(tmp_path, patient_key=KEY)
    read = []
    for module in (dicom_acquisition, dicom_series):
        monkeypatch.setattr(module, "read_slices", lambda path: read.append(path.name) or read_slices(path))
    assert describe_scans(catalogue, data_root=tmp_path, kept=None)["missing_slices"].to_list() == [1] * 4
    # For the technique up to the first slice of the last series, and all for the gaps.
    assert len(read) == 16 + 20


def test_nodules_candidates_and_folds_are_those_of_the_tables(root):
    candidates = pd.DataFrame(
        {
            "series_instance_uid": pd.Categorical(["1.1", "1.1", "1.1", "1.2"]),
            "source": ["annotation", "annotation", "candidate", "candidate"],
            "diameter_mm": [4.0, 9.0, 4.0, np.nan],
        }
    )
    folds = pd.DataFrame({"series_instance_uid": ["1.1", "1.2"], "fold": [0, 3]})
    scans = described(root, candidates=candidates, folds=folds).set_index("series_instance_uid")
    assert scans["num_nodules"].to_list() == [2, 0, pd.NA]
    assert scans["num_candidates"].to_list() == [1, 1, pd.NA]
    assert (scans.loc["1.1", "smallest_nodule_mm"], scans.loc["1.1", "largest_nodule_mm"]) == (4.0, 9.0)
    assert scans["fold"].to_list() == [0, 3, pd.NA]


def test_the_data_source_is_that_of_the_catalogue(root):
    catalogue = catalogue_series(root, patient_key=KEY)
    assert described(root)["data_source"].isna().all()
    scans = describe_scans(catalogue.assign(data_source=["a", "b", "a"]), data_root=root, kept=None)
    assert scans["data_source"].to_list() == ["a", "b", "a"]


def test_voxels_of_unchanged_scans_are_read_once(root, tmp_path):
    read = []

    def on_scan(uid, number, total):
        read.append((uid, number, total))

    kept = tmp_path / "cache/kept.json"
    first = described(root, KeptFacts(kept), on_scan=on_scan)
    assert sorted(uid for uid, *_ in read) == ["1.1", "1.2"]
    assert [counted[1:] for counted in read] == [(1, 2), (2, 2)]
    read.clear()
    pd.testing.assert_frame_equal(described(root, KeptFacts(kept), on_scan=on_scan), first)
    assert read == []
    write_ct(root, "1.1", chest(noise_hu=40.0))
    again = described(root, KeptFacts(kept), on_scan=on_scan).set_index("series_instance_uid")
    assert read == [("1.1", 1, 1)]
    assert again.loc["1.1", "noise_hu"] == pytest.approx(40, abs=6)


def test_files_of_equal_names_sizes_and_times_are_of_two_scans(tmp_path):
    for uid, noise_hu in (("1.2", 20.0), ("1.3", 40.0)):
        for path in write_dicom_series(tmp_path / "data" / uid, uid, chest(noise_hu=noise_hu)).iterdir():
            os.utime(path, ns=(10**18, 10**18))
    for _ in range(2):
        scans = described(tmp_path / "data", KeptFacts(tmp_path / "kept.json"))
        assert scans["fingerprint"].nunique() == 1
        assert scans["noise_hu"].to_list() == pytest.approx([20, 40], abs=6)


@pytest.mark.parametrize("content", ["", "[]", '{"rules": 0, "facts": {}}', '{"rules": 2, "facts": {"a": {"b": 1}}}'])
def test_damaged_kept_facts_only_cost_time(tmp_path, content):
    (tmp_path / "kept.json").write_text(content)
    assert KeptFacts(tmp_path / "kept.json").get("a") is None


def test_a_scan_whose_voxels_cannot_be_read_has_its_reason(root, tmp_path):
    catalogue = catalogue_series(root, patient_key=KEY)
    (root / "1.1.raw").write_bytes(b"")
    scans = describe_scans(catalogue, data_root=root, kept=KeptFacts(tmp_path / "kept.json"))
    row = scans.set_index("series_instance_uid").loc["1.1"]
    assert not row["is_readable"]
    assert "got" in row["reason"]
    assert row["histogram"] == []
