"""A user's own scans: the two tables, scans without a row, frames, patients and folds."""

import numpy as np
import pytest

from luna_pipeline.core.candidates.tables import build_candidates
from luna_pipeline.core.ct.reading import read_ct
from luna_pipeline.core.phantom.dataset import make_phantom
from luna_pipeline.core.phantom.series import PhantomConfig, make_series
from luna_pipeline.core.sources.csv_and_folder import CsvAndFolder
from luna_pipeline.core.sources.located import locate_sources
from luna_pipeline.core.sources.luna16_form import luna16_form, write_luna16_form
from luna_pipeline_tests.phantoms import random_hounsfield, write_ct

KEY = b"0" * 32
SIZE = (32, 40, 40)
SCANS = "series,patient,fold\na,p1,0\nb,p2,1\n"
NODULES = (
    "series,x_mm,y_mm,z_mm,frame,diameter_mm,kind,malignant,ratings\n"
    "a,-48,-38,-295,LPS,5.5,nodule,1,4 5\n"
    "a,49,38,-294,RAS,6,,,\n"
    "b,-47,-37,-293,lps,,EXCLUDED,,\n"
    "b,-46,-36,-292,LPS,4,nodule,,3\n"
)


def written(root, scans=SCANS, nodules=NODULES, uids=("a", "b")):
    for number, uid in enumerate(uids):
        write_ct(root / "scans", uid, random_hounsfield(seed=number))
    (root / "scans.csv").write_text(scans)
    (root / "nodules.csv").write_text(nodules)
    return root


def catalogue_of(root, kept=None):
    return CsvAndFolder().catalogue(root, data_root=root, patient_key=KEY, kept=kept)


def tables_of(root):
    return CsvAndFolder().tables(root, catalogue_of(root))


def test_both_tables_are_read_in_lps(tmp_path):
    tables = tables_of(written(tmp_path))
    assert tables.annotations.to_numpy().tolist() == [
        ["a", -48.0, -38.0, -295.0, 5.5],
        ["a", -49.0, -38.0, -294.0, 6.0],
        ["b", -46.0, -36.0, -292.0, 4.0],
    ]
    assert tables.excluded.to_numpy().tolist() == [["b", -47.0, -37.0, -293.0, -1.0]]
    assert tables.candidates is None
    assert tables.scans == ["a", "b"]
    assert tables.ratings["ratings"].tolist() == [[4, 5], [3]]
    assert tables.ratings["is_malignant"].isna().tolist() == [False, True]
    assert tables.ratings["is_malignant"].iloc[0]
    assert tables.notes == ("1 of 4 rows of nodules.csv are RAS, read as LPS.",)
    assert CsvAndFolder().patients(tmp_path) == {"a": "p1", "b": "p2"}
    assert CsvAndFolder().folds(tmp_path, catalogue_of(tmp_path)) == {"a": 0, "b": 1}


def test_findings_that_are_no_nodules_are_candidates_with_the_nodules(tmp_path):
    text = NODULES + "b,-45,-35,-291,LPS,,not_nodule,,\n"
    candidates = tables_of(written(tmp_path, nodules=text)).candidates
    assert candidates["class"].tolist() == [1, 1, 1, 0]
    assert candidates.iloc[3, :4].tolist() == ["b", -45.0, -35.0, -291.0]


def test_a_scan_without_a_row_is_left_out_with_its_reason_until_the_table_has_it(tmp_path):
    root = written(tmp_path, scans="series,patient\na,p1\n", nodules=NODULES.replace("\nb,", "\na,"))
    catalogue = catalogue_of(root)
    assert catalogue["is_readable"].tolist() == [True, False]
    assert catalogue["reason"].iloc[1] == "A CT must have a row in scans.csv, got none (series b). Add a row to use it."
    assert CsvAndFolder().folds(root, catalogue) == {}
    (root / "scans.csv").write_text(SCANS)
    again = catalogue_of(root, kept=catalogue)
    assert again["is_readable"].all()
    assert again["reason"].isna().all()


@pytest.mark.parametrize(
    ("scans", "nodules", "words"),
    [
        ("series\na\nb\n", NODULES, "Column patient must be in the table, got series (scans.csv line 1)"),
        (
            SCANS + "a,p3,1\n",
            NODULES,
            "Each row must have its own series, got the same in 2 rows (scans.csv line 2, 4)",
        ),
        ("series,patient\na,\nb,p\n", NODULES, "patient must have a value in each row, got '' (scans.csv line 2)"),
        (SCANS.replace("p2", "p1"), NODULES, "A patient must be in one fold, got [0, 1] (scans.csv line 2, 3)"),
        (SCANS, NODULES.replace("frame", "system"), "Column frame must be in the table"),
        (SCANS, NODULES.replace("RAS", ""), "frame must have a value in each row, got '' (nodules.csv line 3)"),
        (SCANS, NODULES.replace("5.5", ""), "A nodule must have a diameter_mm, got '' (nodules.csv line 2)"),
        (
            SCANS,
            NODULES.replace("5.5", "0.55"),
            "diameter_mm must be from 1 to 150 mm, got '0.55' (nodules.csv line 2)",
        ),
        (SCANS, NODULES.replace("b,-46", "c,-46"), "must have a row in scans.csv, got 'c' (nodules.csv line 5)"),
        (
            SCANS,
            NODULES.replace("b,-46,-36,-292", "b,-47.0,-37,-293"),
            "got the same in 2 rows (nodules.csv line 4, 5)",
        ),
    ],
)
def test_malformed_tables_are_refused_with_the_line_and_without_patients(tmp_path, scans, nodules, words):
    with pytest.raises(ValueError, match="got") as caught:
        tables_of(written(tmp_path, scans, nodules))
    assert words in str(caught.value)
    assert not any(patient in str(caught.value) for patient in ("p1", "p2", "p3"))


def test_a_missing_table_is_named_with_the_way_to_its_form(tmp_path):
    (written(tmp_path) / "nodules.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"must hold nodules.csv, got none .*--template"):
        tables_of(tmp_path)


@pytest.fixture(scope="module")
def twin(tmp_path_factory):
    root = tmp_path_factory.mktemp("twin") / "data"
    make_phantom(root, num_series=4, num_subsets=2, seed=3, size_irc=SIZE, source="csv_and_folder")
    return root


def test_the_twin_is_recognised_and_its_four_formats_are_the_scans(twin):
    (located,) = locate_sources(twin)
    assert located.name == "csv_and_folder"
    catalogue = catalogue_of(twin)
    assert catalogue["is_readable"].all()
    assert sorted(catalogue["format"]) == ["dicom", "metaimage", "nifti", "nrrd"]
    for number in range(4):
        series = make_series(PhantomConfig(3, number, SIZE))
        row = catalogue.set_index("series_instance_uid").loc[series.config.series_instance_uid]
        read = read_ct(twin / row["path"], series_instance_uid=series.config.series_instance_uid)
        np.testing.assert_array_equal(read.hounsfield, series.hounsfield)
        np.testing.assert_allclose(read.grid.origin_xyz, series.grid.origin_xyz, atol=1e-3)


def test_the_twins_nodules_lie_where_they_were_painted(twin, tmp_path):
    catalogue = catalogue_of(twin)
    tables = CsvAndFolder().tables(twin, catalogue)
    for number in range(4):
        series = make_series(PhantomConfig(3, number, SIZE))
        rows = tables.annotations[tables.annotations["series_instance_uid"] == series.config.series_instance_uid]
        centers = np.array([nodule.center_xyz for nodule in series.findings.nodules]).reshape(-1, 3)
        np.testing.assert_allclose(rows[["x_mm", "y_mm", "z_mm"]].to_numpy(), centers, atol=1e-6)
    write_luna16_form(tmp_path, luna16_form(tables, CsvAndFolder().folds(twin, catalogue)))
    built = build_candidates(tmp_path, catalogue)
    assert built.counts["rejected"] == 0
    assert built.counts["kept_annotations"] == built.counts["annotations_rated"] == len(tables.annotations) > 0


def test_the_twins_patients_are_in_one_fold_each(twin):
    source = CsvAndFolder()
    patients, folds = source.patients(twin), source.folds(twin, catalogue_of(twin))
    assert len(set(patients.values())) == 3
    assert set(folds.values()) == {0, 1}
    assert len({(patients[uid], fold) for uid, fold in folds.items()}) == 3
