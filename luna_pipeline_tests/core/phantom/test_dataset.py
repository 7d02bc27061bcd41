"""A written data set has LUNA16's form, its geometry survives ITK, and an interrupted one is replaced."""

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from luna_pipeline.core.candidates.malignancy_policies import is_malignant_by_readers
from luna_pipeline.core.phantom.dataset import ensure_phantom, make_phantom
from luna_pipeline.core.phantom.dicom import decimal_string
from luna_pipeline.core.phantom.luna16 import subset_of
from luna_pipeline.core.phantom.series import PhantomConfig, make_series

ARGUMENTS = {"num_series": 6, "num_subsets": 3, "seed": 5, "size_irc": (40, 64, 64)}
TABLES = (
    *("annotations.csv", "annotations_excluded.csv", "candidates_V2.csv"),
    *("annotations_with_malignancy.csv", "seriesuids.csv"),
)


@pytest.fixture(scope="module")
def metaimage_root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("phantom") / "data"
    make_phantom(root, **ARGUMENTS)
    return root


@pytest.fixture(scope="module")
def dicom_root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("phantom") / "data"
    make_phantom(root, **ARGUMENTS, file_format="dicom")
    return root


def files_below(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def read_dicom(folder):
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()


def images(root):
    return {path.stem: sitk.ReadImage(str(path)) for path in sorted(root.glob("subset*/*.mhd"))}


def test_same_arguments_write_the_same_bytes(metaimage_root, tmp_path):
    make_phantom(tmp_path / "again", **ARGUMENTS)
    assert files_below(tmp_path / "again") == files_below(metaimage_root)


def test_root_holds_subsets_tables_and_marker_only(metaimage_root):
    assert sorted(path.name for path in metaimage_root.iterdir()) == sorted(
        [*TABLES, "phantom.json", "subset0", "subset1", "subset2"]
    )
    assert [len(list((metaimage_root / f"subset{k}").iterdir())) for k in range(3)] == [4, 4, 4]


def test_header_has_the_keys_of_luna16(metaimage_root):
    for path in metaimage_root.glob("subset*/*.mhd"):
        header = dict(line.split(" = ") for line in path.read_text().splitlines())
        assert header["ObjectType"] == "Image"
        assert (header["NDims"], header["BinaryData"], header["CompressedData"]) == ("3", "True", "False")
        assert header["DimSize"] == "64 64 40"
        assert header["ElementType"] == "MET_SHORT"
        assert header["ElementDataFile"] == f"{path.stem}.raw"
        assert {"TransformMatrix", "Offset", "ElementSpacing", "AnatomicalOrientation"} <= set(header)
        assert path.with_suffix(".raw").stat().st_size == 40 * 64 * 64 * 2


NUMBER = r"-?\d+(\.\d+)?"
SERIES = r"2\.25\.\d+"
FORMATS = {
    "annotations.csv": ("seriesuid,coordX,coordY,coordZ,diameter_mm", rf"{SERIES}(,{NUMBER}){{4}}", "\r\n"),
    "annotations_excluded.csv": (
        "seriesuid,coordX,coordY,coordZ,diameter_mm",
        rf"{SERIES}(,{NUMBER}){{3}},(-1|{NUMBER})",
        "\r\n",
    ),
    "candidates_V2.csv": ("seriesuid,coordX,coordY,coordZ,class", rf"{SERIES}(,{NUMBER}){{3}},[01]", "\r\n"),
    "annotations_with_malignancy.csv": (
        "seriesuid,coord_x,coord_y,coord_z,diameter_mm,is_malignant,malignant_details,"
        "bboxLowX,bboxLowY,bboxLowZ,bboxHighX,bboxHighY,bboxHighZ,len_mal_details",
        rf'{SERIES}(,{NUMBER}){{4}},(True|False),"\[\d(, \d){{2,3}}\]"(,{NUMBER}){{6}},[34]',
        "\n",
    ),
}


@pytest.mark.parametrize("name", FORMATS)
def test_table_has_columns_numbers_and_line_ends_of_luna16(metaimage_root, name):
    columns, row_format, line_end = FORMATS[name]
    lines = (metaimage_root / name).read_bytes().decode().split(line_end)
    assert lines[0] == columns
    assert lines[-1] == ""
    assert len(lines) > 4
    assert all(re.fullmatch(row_format, line) for line in lines[1:-1])


@pytest.mark.real
@pytest.mark.parametrize("name", ["annotations.csv", "annotations_with_malignancy.csv"])
def test_real_table_has_the_format_that_the_phantom_is_tested_for(real_data, name):
    columns, row_format, line_end = FORMATS[name]
    lines = (real_data / "luna16" / name).read_bytes().decode().split(line_end)
    assert lines[0] == columns
    real_format = row_format.replace(SERIES, r"1\.3\.6[.\d]+").replace(r"{2,3}", r"{0,3}").replace("[34]", r"\d")
    real_format = real_format.replace(NUMBER, r"-?\d+(\.\d+)?(e-\d+)?")
    assert np.mean([bool(re.fullmatch(real_format, line)) for line in lines[1:-1]]) > 0.98


def test_seriesuids_lists_each_series_once_in_order(metaimage_root):
    lines = (metaimage_root / "seriesuids.csv").read_bytes().decode().split("\r\n")[:-1]
    assert lines == sorted(path.stem for path in metaimage_root.rglob("*.mhd"))


def test_malignancy_table_holds_readers_and_their_verdict(metaimage_root):
    table = pd.read_csv(metaimage_root / "annotations_with_malignancy.csv")
    annotations = pd.read_csv(metaimage_root / "annotations.csv")
    assert table["coord_x"].tolist() == annotations["coordX"].tolist()
    ratings = [json.loads(text) for text in table["malignant_details"]]
    assert table["len_mal_details"].tolist() == [len(row) for row in ratings]
    assert table["is_malignant"].tolist() == [is_malignant_by_readers(row) for row in ratings]
    assert (table["bboxLowX"] < table["coord_x"]).all()
    assert (table["coord_x"] < table["bboxHighX"]).all()


def test_annotation_hits_its_nodule_through_itk_also_when_flipped_or_oblique(metaimage_root):
    annotations = pd.read_csv(metaimage_root / "annotations.csv")
    kinds = Counter()
    for uid, image in images(metaimage_root).items():
        values = sitk.GetArrayViewFromImage(image)
        axes = np.asarray(image.GetDirection()).reshape(3, 3)
        for row in annotations[annotations["seriesuid"] == uid].itertuples():
            col, row_, index = image.TransformPhysicalPointToIndex((row.coordX, row.coordY, row.coordZ))
            middle = values[index - 1 : index + 2, row_ - 1 : row_ + 2, col - 1 : col + 2]
            assert middle.mean() > -720
            is_oblique = np.count_nonzero(np.abs(axes) > 1e-6) > 3
            kinds["oblique" if is_oblique else "flipped" if axes[0, 0] < 0 else "plain"] += 1
    assert min(kinds["oblique"], kinds["flipped"], kinds["plain"]) >= 1


def test_candidate_of_a_flipped_and_an_oblique_series_lies_in_its_ct(metaimage_root):
    candidates = pd.read_csv(metaimage_root / "candidates_V2.csv")
    found = images(metaimage_root)
    for row in candidates.itertuples():
        image = found[row.seriesuid]
        voxel = image.TransformPhysicalPointToIndex((row.coordX, row.coordY, row.coordZ))
        assert all(0 <= place < size for place, size in zip(voxel, image.GetSize(), strict=True))


def test_dicom_holds_the_same_hu_and_geometry_as_metaimage(metaimage_root, dicom_root):
    folders = {path.name: path for path in dicom_root.glob("PHANTOM-*/*")}
    expected = images(metaimage_root)
    assert folders.keys() == expected.keys()
    for uid, folder in folders.items():
        image = read_dicom(folder)
        assert np.array_equal(sitk.GetArrayViewFromImage(image), sitk.GetArrayViewFromImage(expected[uid]))
        for read in ("GetOrigin", "GetSpacing", "GetDirection"):
            assert getattr(image, read)() == pytest.approx(getattr(expected[uid], read)(), abs=1e-9)


def test_dicom_has_the_same_tables_and_no_subsets(metaimage_root, dicom_root):
    assert {name: (dicom_root / name).read_bytes() for name in TABLES} == {
        name: (metaimage_root / name).read_bytes() for name in TABLES
    }
    assert not list(dicom_root.glob("subset*"))
    assert not (dicom_root / "luna16_subsets.csv").exists()


def test_dicom_names_patient_series_modality_and_rescaling(dicom_root):
    counts = Counter()
    for folder in dicom_root.glob("PHANTOM-*/*"):
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(folder / "0001.dcm"))
        reader.ReadImageInformation()
        tags = {key: reader.GetMetaData(key).strip() for key in reader.GetMetaDataKeys()}
        assert tags["0020|000e"].rstrip("\0") == folder.name
        assert tags["0010|0020"] == folder.parent.name
        assert (tags["0008|0060"], tags["0028|1053"], tags["0028|1052"]) == ("CT", "1", "-1024")
        counts[folder.parent.name] += 1
    assert counts == {"PHANTOM-0000": 1, "PHANTOM-0001": 1, "PHANTOM-0002": 2, "PHANTOM-0003": 1, "PHANTOM-0004": 1}


@pytest.mark.parametrize("value", [-166.0, 1 / 3, -0.123456789012345678, 1e-17, 123456.789])
def test_decimal_string_fits_dicom_and_keeps_the_number(value):
    text = decimal_string(value)
    assert len(text) <= 16
    assert float(text) == pytest.approx(value, abs=1e-9)


def test_marker_says_synthetic_and_what_was_made(metaimage_root):
    marker = json.loads((metaimage_root / "phantom.json").read_text())
    assert marker["synthetic"] is True
    assert (marker["seed"], marker["num_series"], marker["num_subsets"]) == (5, 6, 3)
    candidates = pd.read_csv(metaimage_root / "candidates_V2.csv")
    assert marker["num_candidates"] == len(candidates)
    assert marker["num_nodule_candidates"] == candidates["class"].sum()


def test_interrupted_run_is_not_whole_and_the_next_run_replaces_it(tmp_path):
    arguments = {"num_series": 2, "num_subsets": 2, "seed": 1, "size_irc": (32, 48, 48)}

    def interrupt(uid, done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_phantom(tmp_path, **arguments, on_series=interrupt)
    assert (tmp_path / "phantom.unfinished").exists()
    assert not (tmp_path / "phantom.json").exists()
    lines = []
    ensure_phantom(tmp_path, **arguments, report=lines.append)
    assert [line.split(": 2.25.")[0] for line in lines] == [f"Synthetic series {done} of 2" for done in (1, 2)]
    assert json.loads((tmp_path / "phantom.json").read_text())["num_series"] == 2
    assert not (tmp_path / "phantom.unfinished").exists()
    before = files_below(tmp_path)
    ensure_phantom(tmp_path, **(arguments | {"seed": 2}), report=lines.append)
    assert lines[2:] == ["The synthetic phantom is there: 2 series, seed 1."]
    assert files_below(tmp_path) == before


def test_phantom_replaces_an_earlier_one_without_leftovers(tmp_path):
    make_phantom(tmp_path, num_series=3, num_subsets=3, seed=1, size_irc=(32, 48, 48))
    make_phantom(tmp_path, num_series=1, num_subsets=1, seed=2, size_irc=(32, 48, 48))
    uid = PhantomConfig(2, 0, (32, 48, 48)).series_instance_uid
    assert sorted(path.name for path in tmp_path.rglob("*.raw")) == [f"{uid}.raw"]
    assert not (tmp_path / "subset1").exists()


def test_folder_with_other_data_is_refused_and_left_alone(tmp_path):
    (tmp_path / "annotations.csv").write_text("real\n")
    with pytest.raises(FileExistsError, match=r"annotations\.csv"):
        make_phantom(tmp_path, **ARGUMENTS)
    assert files_below(tmp_path) == {"annotations.csv": b"real\n"}


@pytest.mark.parametrize("change", [{"num_series": 0}, {"num_subsets": 0}, {"file_format": "nifti"}])
def test_wrong_argument_is_refused_before_anything_is_written(tmp_path, change):
    with pytest.raises(ValueError, match="got"):
        make_phantom(tmp_path / "new", **(ARGUMENTS | change))
    assert not (tmp_path / "new").exists()


def test_progress_is_reported_after_each_series(tmp_path):
    calls = []
    make_phantom(
        tmp_path, num_series=2, num_subsets=1, seed=1, size_irc=(32, 48, 48), on_series=lambda *call: calls.append(call)
    )
    uids = [PhantomConfig(1, number, (32, 48, 48)).series_instance_uid for number in range(2)]
    assert calls == [(uids[0], 1, 2), (uids[1], 2, 2)]


def test_subsets_are_equally_full_and_no_property_falls_into_one_subset():
    for num_subsets in (2, 3, 4, 5, 6, 10):
        subsets = [subset_of(number, num_subsets) for number in range(60 * num_subsets)]
        assert set(Counter(subsets).values()) == {60}
        for every in (4, 5, 6, 9):
            assert len({subset for number, subset in enumerate(subsets) if number % every == 1}) > 1


def test_series_does_not_depend_on_the_number_of_series(metaimage_root):
    config = PhantomConfig(5, 3, (40, 64, 64))
    raw = next(metaimage_root.rglob(f"{config.series_instance_uid}.raw"))
    assert raw.read_bytes() == make_series(config).hounsfield.tobytes()
