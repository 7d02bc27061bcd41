"""LUNA25's table, CTs and blocks: candidates with labels, patients over time, and tables that are refused."""

import os
import shutil

import numpy as np
import pandas as pd
import pytest

from luna_pipeline.core.candidates.folds import assign_folds
from luna_pipeline.core.ct.catalogue import grid_of_row
from luna_pipeline.core.ct.formats.luna25_block import BLOCKS, block_uid
from luna_pipeline.core.phantom.dataset import make_phantom
from luna_pipeline.core.phantom.luna25 import CSV_COLUMNS
from luna_pipeline.core.sources.combined import left_out_rows
from luna_pipeline.core.sources.luna25 import CT_FOLDER, TABLE, Luna25
from luna_pipeline.core.sources.luna25_table import find_annotations, read_annotations
from luna_pipeline.core.sources.registry import DATA_SOURCES
from luna_pipeline_tests.core.sources.luna25_tables import annotation, write_table
from luna_pipeline_tests.phantoms import random_hounsfield, write_ct

KEY = b"k" * 32
SEED = 0
SOURCE = Luna25()


@pytest.fixture(scope="module")
def twin(tmp_path_factory):
    root = tmp_path_factory.mktemp("luna25") / "data"
    make_phantom(root, num_series=4, num_subsets=2, seed=SEED, size_irc=(32, 48, 48), source="luna25")
    return root


def read(root, rows, **options):
    return read_annotations(write_table(root / TABLE, rows, **options))


def test_it_is_registered_and_recognised_by_names(twin, tmp_path):
    assert DATA_SOURCES.get("luna25") is Luna25
    assert SOURCE.is_at(twin)
    assert not SOURCE.is_at(tmp_path)
    (tmp_path / TABLE).touch()
    assert SOURCE.is_at(tmp_path)
    assert "CC BY-NC 4.0" in SOURCE.card.licence


def test_nodules_are_candidates_of_class_1_with_their_own_labels(twin):
    catalogue = SOURCE.catalogue(twin, data_root=twin, patient_key=KEY)
    tables = SOURCE.tables(twin, catalogue)
    table = pd.read_csv(twin / TABLE)
    # Blocks beside the CTs are not read as CTs of their own.
    assert set(catalogue["format"]) == {"metaimage"}
    assert len(catalogue) == 4
    assert list(tables.candidates["series_instance_uid"]) == list(table["SeriesInstanceUID"])
    assert list(tables.candidates["is_malignant"]) == list(table["label"] == 1)
    np.testing.assert_array_equal(tables.candidates[["x_mm", "y_mm", "z_mm"]], table[["CoordX", "CoordY", "CoordZ"]])
    assert (tables.candidates["class"] == 1).all()
    assert tables.annotations is tables.ratings is tables.excluded is tables.scans is None
    assert len(tables.rejected) == 0
    assert set(SOURCE.patients(twin)) >= set(table["SeriesInstanceUID"])


def test_a_patient_seen_again_is_one_group_of_the_folds(twin, tmp_path):
    rows = [annotation(patient, 1, date=f"200{year}0101") for patient in range(6) for year in range(3)]
    (root := tmp_path / "data").mkdir()
    write_table(root / TABLE, rows)
    for row in rows:
        write_ct(root / CT_FOLDER, row["SeriesInstanceUID"], random_hounsfield((4, 4, 4)), suffix=".mha")
    catalogue = SOURCE.catalogue(root, data_root=root, patient_key=KEY)
    patients = SOURCE.patients(root)
    # As the pipeline does it with keyed hashes.
    catalogue["patient_hash"] = catalogue["series_instance_uid"].map(patients)
    folds = assign_folds(catalogue, data_root=root, num_folds=3)
    assert folds.groupby("patient_hash")["fold"].nunique().eq(1).all()
    assert folds.groupby("fold")["patient_hash"].nunique().tolist() == [2, 2, 2]
    notes = SOURCE.tables(root, catalogue).notes
    assert notes[0] == "18 annotations (0 malignant) of 6 nodules of 6 patients: 6 seen 3 times."


def test_blocks_alone_are_small_cts_with_their_nodule_in_the_middle(twin, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(twin / BLOCKS, root / BLOCKS)
    shutil.copy(twin / TABLE, root / "any_name.csv")
    catalogue = SOURCE.catalogue(root, data_root=root, patient_key=KEY)
    tables = SOURCE.tables(root, catalogue)
    assert set(catalogue["format"]) == {"luna25_block"}
    assert catalogue["is_readable"].all()
    grids = {row["series_instance_uid"]: grid_of_row(row) for row in catalogue.to_dict("records")}
    assert len(tables.candidates) == len(grids) > 3
    for row in tables.candidates.to_dict("records"):
        voxel = grids[row["series_instance_uid"]].world_to_voxel([row["x_mm"], row["y_mm"], row["z_mm"]])
        assert np.abs(voxel - (32, 64, 64)).max() <= 0.5 + 1e-3
    patients = SOURCE.patients(root)
    of_block = pd.read_csv(root / "any_name.csv").set_index("AnnotationID")["PatientID"]
    for name, patient in of_block.items():
        assert patients[block_uid(name)] == patient
    shown = catalogue.drop(columns="path").astype(str)
    assert not shown.apply(lambda column: column.str.contains("PHANTOM")).any().any()


def test_the_twin_has_one_label_a_patient_and_nodules_seen_again(twin):
    table = pd.read_csv(twin / TABLE)
    assert tuple(table.columns) == CSV_COLUMNS
    assert set(table["label"]) == {0, 1}
    assert table.groupby("PatientID")["label"].nunique().eq(1).all()
    assert table.groupby("NoduleID")["StudyDate"].nunique().max() == 2
    assert table["AnnotationID"].is_unique


@pytest.mark.parametrize("odd", ["dangling", "fifo", "zip"])
def test_a_block_that_is_left_out_is_named_by_its_series(tmp_path, odd):
    image, metadata = (tmp_path / BLOCKS / folder / "100012_1_19990102.npy" for folder in ("image", "metadata"))
    image.parent.mkdir(parents=True)
    metadata.parent.mkdir()
    if odd == "dangling":
        image.symlink_to(tmp_path / "gone")
    elif odd == "fifo":
        os.mkfifo(image)
    else:
        image.write_bytes(b"PK\x03\x04")
    rows, _ = left_out_rows(SOURCE.catalogue(tmp_path, data_root=tmp_path, patient_key=b"k"))
    assert rows["path"].tolist() == [block_uid("100012_1_19990102")]
    assert "100012" not in rows["reason"].iloc[0]


def test_whole_numbers_written_as_decimals_are_read(tmp_path):
    right = annotation(7, 2, label=1)
    rows = read(tmp_path, [right | {"PatientID": "7.0", "LesionID": "2.0", "StudyDate": "20010203.0", "label": "1.0"}])
    assert (rows.loc[0, "nodule"], rows.loc[0, "patient"], bool(rows.loc[0, "is_malignant"])) == ("7_2", "7", True)
    assert rows.loc[0, "study_date"].isoformat() == "2001-02-03"
    # Not all of it is a fraction of zeros: another patient than 12.
    assert read(tmp_path, [annotation("1.02", 2)]).loc[0, "patient"] == "1.02"


def test_columns_may_stand_in_another_order_and_age_and_gender_are_not_needed(tmp_path):
    columns = [name for name in reversed(CSV_COLUMNS) if name not in {"Age_at_StudyDate", "Gender"}]
    assert len(read(tmp_path, [annotation(1, 1), annotation(1, 2)], columns=columns)) == 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"AnnotationID": "2_1_20010203"}, "AnnotationID must be PatientID_LesionID_StudyDate"),
        ({"NoduleID": "2_2"}, "NoduleID must be PatientID_LesionID"),
        ({"StudyDate": "2001-02-03"}, "StudyDate must be a date YYYYMMDD"),
        ({"StudyDate": "20010230"}, "StudyDate must be a date YYYYMMDD"),
        ({"StudyDate": ""}, "StudyDate must have a value"),
        ({"label": "2"}, "label must be 0 or 1"),
        ({"label": "malignant"}, "label must be 0 or 1"),
        ({"label": ""}, "label must have a value"),
        ({"CoordX": "abc"}, "CoordX must be a finite number"),
        ({"CoordY": "nan"}, "CoordY must be a finite number"),
        ({"CoordZ": "1e9"}, "CoordZ must be from"),
        ({"CoordZ": '"-3,5"'}, "decimal point"),
        ({"SeriesInstanceUID": "1.2 3"}, "SeriesInstanceUID must be"),
        ({"SeriesInstanceUID": "1.2.1.20010203"}, "A series must be of one patient"),
        ({"PatientID": "2_0", "NoduleID": "2_0_1", "AnnotationID": "2_0_1_20010203"}, "letters and digits"),
    ],
)
def test_a_wrong_row_is_refused_with_its_line_and_without_the_patient(tmp_path, changes, said):
    with pytest.raises(ValueError, match=said) as refusal:
        read(tmp_path, [annotation(1, 1), annotation(424242, 1) | changes])
    assert f"{TABLE} line 3" in str(refusal.value)
    assert "424242" not in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_doubled_annotations_and_a_series_of_two_dates_are_refused(tmp_path):
    with pytest.raises(ValueError, match="line"):
        read(tmp_path, [annotation(1, 1), annotation(1, 1)])
    later = annotation(1, 2, date="20020203") | {"SeriesInstanceUID": annotation(1, 1)["SeriesInstanceUID"]}
    with pytest.raises(ValueError, match=f"one StudyDate.*{TABLE} line 3"):
        read(tmp_path, [annotation(1, 1), later])


def test_mixed_labels_of_a_patient_are_a_warning(tmp_path):
    write_table(tmp_path / TABLE, [annotation(1, 1, label=0), annotation(1, 2, label=1), annotation(2, 1)])
    write_ct(tmp_path / CT_FOLDER, "1.2.1.20010203", random_hounsfield((4, 4, 4)), suffix=".mha")
    notes = SOURCE.tables(tmp_path, SOURCE.catalogue(tmp_path, data_root=tmp_path, patient_key=KEY)).notes
    assert notes[0].startswith(f"Warning: {TABLE}: 1 patients have malignant and benign rows (line 2, 3).")


@pytest.mark.parametrize(("signs", "axes"), [((-1, -1, 1), "x and y"), ((1, -1, -1), "y and z"), ((1, 1, -1), "z")])
def test_coordinates_of_other_signs_are_refused(tmp_path, signs, axes):
    point = np.array((-48.0, -38.0, -297.0))
    rows = [
        annotation(1, lesion) | dict(zip(("CoordX", "CoordY", "CoordZ"), point * place, strict=True))
        for lesion, place in ((1, 1), (2, 1), (3, 1))
    ]
    # Voxels of 0.7, 0.8 and 2.5 mm from (-50, -40, -300) on.
    write_ct(tmp_path / CT_FOLDER, "1.2.1.20010203", random_hounsfield((8, 8, 8)), suffix=".mha")
    catalogue = SOURCE.catalogue(tmp_path, data_root=tmp_path, patient_key=KEY)
    write_table(tmp_path / TABLE, rows)
    assert len(SOURCE.tables(tmp_path, catalogue).candidates) == 3
    wrong = [
        row | {name: row[name] * sign for name, sign in zip(("CoordX", "CoordY", "CoordZ"), signs, strict=True)}
        for row in rows
    ]
    write_table(tmp_path / TABLE, wrong)
    with pytest.raises(ValueError, match=f"inside with {axes} negated.*line 2, 3 of 3 rows"):
        SOURCE.tables(tmp_path, catalogue)


def test_the_table_is_the_one_with_the_columns(tmp_path):
    with pytest.raises(FileNotFoundError, match="0 CSV files"):
        find_annotations(tmp_path)
    (tmp_path / "notes.csv").write_text("a,b\n1,2\n")
    assert find_annotations(tmp_path).name == "notes.csv"
    with pytest.raises(ValueError, match="PatientID"):
        read_annotations(find_annotations(tmp_path))
    write_table(tmp_path / "x.csv", [annotation(1, 1)])
    assert find_annotations(tmp_path).name == "x.csv"
    write_table(tmp_path / "y.csv", [annotation(1, 1)])
    with pytest.raises(ValueError, match=r"one table of annotations, got 2: x\.csv, y\.csv"):
        find_annotations(tmp_path)
