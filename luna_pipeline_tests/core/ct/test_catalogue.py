import math
import os

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from luna_pipeline.core.ct.catalogue import CATALOGUE_COLUMNS, catalogue_series, describe_notes, grid_of_row
from luna_pipeline.core.ct.reading import UnreadableCtError, read_ct
from luna_pipeline_tests.phantoms import random_direction, random_hounsfield, write_ct, write_dicom_series

KEY = b"secret"


def catalogue_of(root, *, key=KEY):
    return catalogue_series(root, patient_key=key)


def row_of(root, uid):
    catalogue = catalogue_of(root)
    return catalogue[catalogue.series_instance_uid == uid].iloc[0]


def fingerprint_of(root, uid="1.2.3"):
    return row_of(root, uid).fingerprint


def test_series_of_all_formats_are_found_at_any_depth(tmp_path):
    for number, suffix in enumerate((".mhd", ".mha", ".nrrd", ".nii", ".nii.gz")):
        write_ct(tmp_path / "a" / f"b{number}", f"1.2.{number}", random_hounsfield(), suffix=suffix)
    write_dicom_series(tmp_path / "patient" / "study" / "series", "1.2.9", random_hounsfield())
    catalogue = catalogue_of(tmp_path)
    assert tuple(catalogue.columns) == CATALOGUE_COLUMNS
    assert catalogue.series_instance_uid.tolist() == ["1.2.0", "1.2.1", "1.2.2", "1.2.3", "1.2.4", "1.2.9"]
    assert catalogue.format.tolist() == ["metaimage", "metaimage", "nrrd", "nifti", "nifti", "dicom"]
    assert catalogue.is_readable.all()
    assert catalogue.reason.isna().all()


def test_the_grid_of_a_row_is_that_of_the_ct(tmp_path):
    direction = random_direction(4)
    write_ct(tmp_path, "1.2.3", random_hounsfield(), direction=direction)
    write_dicom_series(tmp_path / "dicom", "1.2.4", random_hounsfield(), direction=direction)
    for _, row in catalogue_of(tmp_path).iterrows():
        ct = read_ct(tmp_path / row.path, series_instance_uid=row.series_instance_uid)
        assert grid_of_row(row) == ct.grid
        assert row.size_irc == [6, 8, 10]


@pytest.mark.seed_defect(18)
def test_paths_are_relative_and_the_whole_catalogue_moves_with_its_folder(tmp_path):
    root = tmp_path / "here"
    write_ct(root / "subset0", "1.2.3", random_hounsfield())
    write_dicom_series(root / "dicom", "1.2.4", random_hounsfield())
    before = catalogue_of(root)
    moved = root.rename(tmp_path / "there")
    assert before.path.tolist() == ["subset0/1.2.3.mhd", "dicom"]
    assert str(tmp_path) not in before.to_json()
    assert catalogue_of(moved).to_json() == before.to_json()


@pytest.mark.parametrize(
    ("folder", "subset"), [("subset7", 7), ("a/subset3/b", 3), ("subset", None), ("my_subset1", None), (".", None)]
)
def test_the_subset_is_that_of_the_folder_above(tmp_path, folder, subset):
    write_ct(tmp_path / folder, "1.2.3", random_hounsfield())
    catalogue = catalogue_of(tmp_path)
    assert catalogue.subset.dtype == "Int64"
    assert (None if catalogue.subset.isna()[0] else catalogue.subset[0]) == subset


def test_patients_are_hashed_under_the_key_and_never_named(tmp_path):
    write_dicom_series(tmp_path / "a", "1.2.1", random_hounsfield(), patient_id="Doe-John")
    write_dicom_series(tmp_path / "b", "1.2.2", random_hounsfield(), patient_id="Doe-John")
    write_dicom_series(tmp_path / "c", "1.2.3", random_hounsfield(), patient_id="Roe-Jane")
    write_dicom_series(tmp_path / "d", "1.2.4", random_hounsfield(), patient_id="")
    write_ct(tmp_path, "1.2.5", random_hounsfield())
    catalogue = catalogue_of(tmp_path)
    john, also_john, jane, *unknown = catalogue.patient_hash
    assert john == also_john != jane
    assert unknown == [None, None]
    # HMAC-SHA256 of RFC 2104, by another program: printf Doe-John | openssl dgst -sha256 -hmac secret
    assert john == "633fefcc03618b0422c1c59cccfeab5b42426b97b2c98fb8ac24eddaa8254391"
    assert catalogue_of(tmp_path, key=b"other").patient_hash[0] != john
    assert "Doe" not in catalogue.to_json()


def test_the_scanners_maker_and_the_thickness_of_slices_are_known_of_dicom_that_says_so(tmp_path):
    tags = {"Manufacturer": "Maker ", "SliceThickness": 1.25}
    write_dicom_series(tmp_path / "a", "1.2.1", random_hounsfield(), tags=tags)
    write_dicom_series(tmp_path / "b", "1.2.2", random_hounsfield())
    write_ct(tmp_path, "1.2.3", random_hounsfield())
    catalogue = catalogue_of(tmp_path)
    assert list(catalogue["manufacturer"]) == ["Maker", None, None]
    assert catalogue["slice_thickness_mm"].tolist() == pytest.approx([1.25, 5.0, math.nan], nan_ok=True)


@pytest.mark.seed_defect(34)
def test_each_unreadable_series_is_a_row_with_its_reason_and_costs_no_other(tmp_path):
    for uid in ("1.2.1", "1.2.2", "1.2.3", "1.2.9"):
        write_ct(tmp_path, uid, random_hounsfield())
    (tmp_path / "1.2.1.raw").unlink()
    (tmp_path / "1.2.2.raw").write_bytes(b"short")
    header = tmp_path / "1.2.3.mhd"
    header.write_text(header.read_text().replace("DimSize = 10 8 6", "DimSize = 10 8 9"))
    folder = write_dicom_series(tmp_path / "gap", "1.2.4", random_hounsfield())
    (folder / "slice0003.dcm").unlink()
    (tmp_path / "empty").mkdir()
    (tmp_path / "1.2.5.mhd").symlink_to(tmp_path / "nowhere.mhd")
    catalogue = catalogue_of(tmp_path).set_index("series_instance_uid")
    assert catalogue.is_readable.to_dict() == {
        "1.2.1": False,
        "1.2.2": False,
        "1.2.3": False,
        "1.2.4": False,
        "1.2.5": False,
        "1.2.9": True,
    }
    reasons = catalogue.reason[~catalogue.is_readable]
    said = [
        "960 bytes, got no such file",
        "960 bytes, got 5",
        "1440 bytes, got 960",
        "evenly spaced",
        "a dangling link",
    ]
    for (uid, reason), words in zip(reasons.items(), said, strict=True):
        assert words in reason
        assert uid in reason
        assert "\n" not in reason
        assert catalogue.loc[uid, ["size_irc", "spacing_mm", "origin_xyz", "direction"]].isna().all()


def test_the_grid_of_an_unreadable_row_is_refused_with_its_reason(tmp_path):
    write_ct(tmp_path, "1.2.3", random_hounsfield())
    (tmp_path / "1.2.3.raw").unlink()
    with pytest.raises(UnreadableCtError, match="no such file"):
        grid_of_row(row_of(tmp_path, "1.2.3"))


@pytest.mark.seed_defect(31)
def test_of_equal_copies_of_a_series_one_counts_and_the_others_are_said(tmp_path):
    for folder in ("c", "a", "b"):
        write_ct(tmp_path / folder, "1.2.3", random_hounsfield())
    catalogue = catalogue_of(tmp_path)
    assert catalogue.path.tolist() == ["a/1.2.3.mhd", "b/1.2.3.mhd", "c/1.2.3.mhd"]
    assert catalogue.is_readable.tolist() == [True, False, False]
    assert catalogue.reason[1].startswith(
        "Duplicate series: a series must lie in one place, got b/1.2.3.mhd besides a/"
    )


@pytest.mark.seed_defect(31)
def test_a_broken_copy_does_not_hide_the_whole_one(tmp_path):
    write_ct(tmp_path / "a", "1.2.3", random_hounsfield())
    write_dicom_series(tmp_path / "b", "1.2.3", random_hounsfield())
    (tmp_path / "a" / "1.2.3.raw").unlink()
    catalogue = catalogue_of(tmp_path)
    assert catalogue.set_index("path").is_readable.to_dict() == {"a/1.2.3.mhd": False, "b": True}


def test_lung_masks_and_hidden_folders_are_passed_over(tmp_path):
    write_ct(tmp_path / "subset0", "1.2.3", random_hounsfield())
    write_ct(tmp_path / "seg-lungs-LUNA16", "1.2.3", random_hounsfield(seed=1))
    write_ct(tmp_path / ".luna" / "home", "1.2.4", random_hounsfield())
    assert catalogue_of(tmp_path).path.tolist() == ["subset0/1.2.3.mhd"]


def test_a_mask_under_the_name_of_the_ct_does_not_take_its_place(tmp_path):
    (tmp_path / "masks").mkdir()
    sitk.WriteImage(sitk.Image([4, 5, 6], sitk.sitkUInt8), str(tmp_path / "masks" / "1.2.3.mhd"))
    write_ct(tmp_path / "scans", "1.2.3", random_hounsfield())
    assert catalogue_of(tmp_path).set_index("path").is_readable.to_dict() == {
        "masks/1.2.3.mhd": False,
        "scans/1.2.3.mhd": True,
    }


def test_links_are_followed_and_circles_end(tmp_path):
    write_ct(tmp_path / "elsewhere", "1.2.3", random_hounsfield())
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "subset4").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "circle").symlink_to(tmp_path / "root")
    catalogue = catalogue_of(tmp_path / "root")
    assert catalogue.path.tolist() == ["subset4/1.2.3.mhd"]
    assert catalogue.subset.tolist() == [4]


def test_two_dicom_series_in_one_folder_are_two_rows(tmp_path):
    write_dicom_series(tmp_path, "1.2.3", random_hounsfield())
    write_dicom_series(tmp_path, "1.2.4", random_hounsfield((4, 8, 10)), prefix="other")
    catalogue = catalogue_of(tmp_path)
    assert catalogue.path.tolist() == [".", "."]
    assert catalogue.size_irc.tolist() == [[6, 8, 10], [4, 8, 10]]
    assert catalogue.fingerprint.nunique() == 2


@pytest.mark.parametrize("changed", ["1.2.3.mhd", "1.2.3.raw"])
def test_the_fingerprint_follows_header_and_voxel_file(tmp_path, changed):
    write_ct(tmp_path, "1.2.3", random_hounsfield())
    before = fingerprint_of(tmp_path)
    assert fingerprint_of(tmp_path) == before
    if changed.endswith("mhd"):
        (tmp_path / changed).write_text("Comment = changed\n" + (tmp_path / changed).read_text())
    else:
        os.utime(tmp_path / changed, ns=(1, 1))
    assert fingerprint_of(tmp_path) != before


def test_the_fingerprint_of_a_dicom_series_follows_its_slices_alone(tmp_path):
    write_dicom_series(tmp_path, "1.2.3", random_hounsfield())
    before = fingerprint_of(tmp_path)
    (tmp_path / "note.txt").write_text("new")
    write_dicom_series(tmp_path, "1.2.4", random_hounsfield(), prefix="other")
    assert fingerprint_of(tmp_path) == before
    os.utime(tmp_path / "slice0003.dcm", ns=(1, 1))
    assert fingerprint_of(tmp_path) != before


def test_the_catalogue_reads_no_voxels(tmp_path):
    write_ct(tmp_path, "1.2.3", random_hounsfield())
    (tmp_path / "1.2.3.raw").unlink()
    # A sparse file of the right length: reading its 6 GB would be noticed.
    header = (tmp_path / "1.2.3.mhd").read_text().replace("DimSize = 10 8 6", "DimSize = 2000 2000 800")
    (tmp_path / "1.2.3.mhd").write_text(header)
    with (tmp_path / "1.2.3.raw").open("wb") as file:
        file.truncate(2000 * 2000 * 800 * 2)
    row = row_of(tmp_path, "1.2.3")
    assert row.is_readable
    assert row.num_bytes == 6_400_000_000


def test_bytes_are_those_of_the_data_files(tmp_path):
    write_ct(tmp_path / "a", "1.2.3", random_hounsfield())
    folder = write_dicom_series(tmp_path / "b", "1.2.4", random_hounsfield())
    slices = sum(path.stat().st_size for path in folder.iterdir())
    assert catalogue_of(tmp_path).num_bytes.tolist() == [960, slices]


@pytest.mark.parametrize("folder", ["nowhere", "empty"])
def test_without_any_ct_it_says_where_to_put_some(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "annotations.csv").write_text("seriesuid\n")
    with pytest.raises(FileNotFoundError, match=folder):
        catalogue_of(tmp_path / folder)


def test_a_catalogue_survives_parquet(tmp_path):
    write_ct(tmp_path, "1.2.3", random_hounsfield(), direction=random_direction(2))
    catalogue = catalogue_of(tmp_path)
    catalogue.to_parquet(tmp_path / "catalogue.parquet")
    stored = pd.read_parquet(tmp_path / "catalogue.parquet")
    assert grid_of_row(stored.iloc[0]) == grid_of_row(catalogue.iloc[0])
    assert np.array_equal(stored.fingerprint, catalogue.fingerprint)


def test_a_ct_whose_name_could_not_name_a_file_is_left_out_and_costs_the_others_nothing(tmp_path):
    for name in ("1.2.1", "scan 1"):
        write_ct(tmp_path, name, random_hounsfield((4, 5, 6)))
    catalogue = catalogue_series(tmp_path, patient_key=b"key").set_index("series_instance_uid")
    assert catalogue["is_readable"].to_dict() == {"1.2.1": True, "scan 1": False}
    assert "must be named by 1 to 64 letters" in catalogue.loc["scan 1", "reason"]


def test_what_was_ignored_in_a_readable_series_is_noted(tmp_path):
    folder = write_dicom_series(tmp_path / "scan", "1.2.3", random_hounsfield())
    first = min(folder.glob("*.dcm"))
    (folder / f"{first.stem} (1).dcm").write_bytes(first.read_bytes())
    row = row_of(tmp_path, "1.2.3")
    assert row.is_readable
    assert row.notes.startswith("1 files are equal copies of slices and ignored: ")


def test_a_note_on_all_series_of_a_file_is_one_line():
    catalogue = pd.DataFrame(
        [["a.npz", "Gray."], ["b", "Padded."], ["a.npz", "Gray."], ["c", None]], columns=["path", "notes"]
    )
    assert describe_notes(catalogue) == ["Note on a.npz (2 series): Gray.", "Note on b: Padded."]
