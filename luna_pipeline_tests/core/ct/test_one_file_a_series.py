"""Several files under one series uid: their content decides which is the CT, never the order of their names."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from luna_pipeline.core.ct.catalogue import catalogue_series
from luna_pipeline_tests.phantoms import random_hounsfield, write_ct, write_dicom_series

UID = "1.2.3.4"


def rows_of(root: Path) -> pd.DataFrame:
    return catalogue_series(root, patient_key=b"key").set_index("path")


def write_mask(folder: Path, *, suffix: str = ".nii.gz", name: str = UID) -> None:
    """A lung mask as int16, which is no type of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    mask = sitk.GetImageFromArray((random_hounsfield() < -500).astype(np.int16))
    sitk.WriteImage(mask, str(folder / f"{name}{suffix}"))


@pytest.mark.parametrize("folder", ["a", "zzz", "scans", "."])
@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_a_mask_is_no_duplicate_wherever_it_lies(tmp_path: Path, folder: str, suffix: str) -> None:
    write_ct(tmp_path / "scans", UID, random_hounsfield())
    write_mask(tmp_path / folder, suffix=suffix)

    rows = rows_of(tmp_path)

    assert rows["is_readable"].sum() == 1
    assert rows.loc[f"scans/{UID}.mhd", "is_readable"]
    assert "must be HU" in rows.loc[~rows["is_readable"], "reason"].item()


@pytest.mark.parametrize("names", [("a", "b"), ("b", "a")])
def test_different_cts_under_one_uid_are_all_refused(tmp_path: Path, names: tuple[str, str]) -> None:
    for seed, name in enumerate(names):
        write_ct(tmp_path / name, UID, random_hounsfield(seed=seed))

    rows = rows_of(tmp_path)

    assert not rows["is_readable"].any()
    for reason in rows["reason"]:
        assert "Different CTs must have different series uids, got 2 files" in reason
        assert f"a/{UID}.mhd, b/{UID}.mhd" in reason


def test_equal_voxels_elsewhere_in_the_patient_are_different_cts(tmp_path: Path) -> None:
    write_ct(tmp_path / "a", UID, random_hounsfield())
    write_ct(tmp_path / "b", UID, random_hounsfield(), origin_xyz=(5.0, 0.0, 0.0))

    assert not rows_of(tmp_path)["is_readable"].any()


@pytest.mark.parametrize("copies", ["a", "zzz"])
def test_of_copies_the_one_in_a_subset_stays(tmp_path: Path, copies: str) -> None:
    for folder in (copies, "subset3"):
        write_ct(tmp_path / folder, UID, random_hounsfield())

    rows = rows_of(tmp_path)

    assert rows.loc[rows["is_readable"], "subset"].tolist() == [3]
    assert (
        f"got {copies}/{UID}.mhd besides subset3/{UID}.mhd with equal voxels"
        in rows.loc[f"{copies}/{UID}.mhd", "reason"]
    )


def test_a_converted_copy_is_a_copy(tmp_path: Path) -> None:
    write_dicom_series(tmp_path / "subset2" / "dicom", UID, random_hounsfield())
    write_ct(tmp_path / "nifti", UID, random_hounsfield(), suffix=".nii.gz")

    rows = rows_of(tmp_path)

    assert rows["is_readable"].to_dict() == {f"nifti/{UID}.nii.gz": False, "subset2/dicom": True}
    assert "with equal voxels" in rows.loc[f"nifti/{UID}.nii.gz", "reason"]


def test_copies_in_two_subsets_are_refused(tmp_path: Path) -> None:
    for folder in ("subset1", "subset4"):
        write_ct(tmp_path / folder, UID, random_hounsfield())

    rows = rows_of(tmp_path)

    assert not rows["is_readable"].any()
    assert rows["reason"].str.contains(r"must lie in one subset, got \[1, 4\]").all()


@pytest.mark.parametrize("num_first", [1, 3, 5])
def test_a_dicom_series_in_two_folders_is_refused_whole(tmp_path: Path, num_first: int) -> None:
    folder = write_dicom_series(tmp_path / "part1", UID, random_hounsfield())
    (tmp_path / "part2").mkdir()
    for path in sorted(folder.glob("*.dcm"))[num_first:]:
        path.rename(tmp_path / "part2" / path.name)

    rows = rows_of(tmp_path)

    assert not rows["is_readable"].any()
    assert rows["reason"].str.contains("must lie in one folder, got 2: part1, part2").all()


def test_headers_that_share_a_voxel_file_are_refused_and_cost_the_others_nothing(tmp_path: Path) -> None:
    first = write_ct(tmp_path, "1.2.3.5", random_hounsfield())
    write_ct(tmp_path, "1.2.3.6", random_hounsfield(seed=1))
    # A header scheme that was copied: its ElementDataFile stayed.
    shutil.copy(first, tmp_path / "copied scheme.mhd")

    rows = rows_of(tmp_path)

    assert rows["is_readable"].to_dict() == {"1.2.3.5.mhd": False, "1.2.3.6.mhd": True, "copied scheme.mhd": False}
    assert "A voxel file must belong to one header, got 2" in rows.loc["1.2.3.5.mhd", "reason"]


@pytest.mark.parametrize("has_own", [True, False])
def test_a_header_that_names_the_voxels_of_another_series_is_refused(tmp_path: Path, has_own: bool) -> None:
    other = write_ct(tmp_path / "a", "1.2.3.5", random_hounsfield())
    header = write_ct(tmp_path / "b", "1.2.3.6", random_hounsfield(seed=1))
    shutil.copy(other.with_suffix(".raw"), tmp_path / "b")
    header.write_text(header.read_text().replace("1.2.3.6.raw", "1.2.3.5.raw"))
    if not has_own:
        header.with_suffix(".raw").unlink()

    rows = rows_of(tmp_path)

    assert rows["is_readable"].to_dict() == {"a/1.2.3.5.mhd": True, "b/1.2.3.6.mhd": False}
    assert "A header must name its own voxel file, got 1.2.3.5.raw" in rows.loc["b/1.2.3.6.mhd", "reason"]


def test_files_of_one_name_in_many_folders_are_told_that_the_name_is_the_uid(tmp_path: Path) -> None:
    for seed in range(2):
        write_ct(tmp_path / f"case_{seed}", "imaging", random_hounsfield(seed=seed), suffix=".nii.gz")

    assert rows_of(tmp_path)["reason"].str.contains("a file's name is its series uid: rename").all()


def test_a_header_that_names_other_voxels_than_those_next_to_it_is_refused(tmp_path: Path) -> None:
    header = write_ct(tmp_path, "case01", random_hounsfield())
    shutil.copy(header.with_suffix(".raw"), tmp_path / "template.raw")
    header.write_text(header.read_text().replace("case01.raw", "template.raw"))

    reason = rows_of(tmp_path)["reason"].item()

    assert reason.startswith("A header must name its own voxel file, got template.raw (case01.mhd, series case01).")
