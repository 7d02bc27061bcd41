"""LUNA16's own tables on two whole LIDC-IDRI scans, and the malignancy labels on all of them."""

import numpy as np
import pandas as pd
import pytest

from luna_pipeline.core.candidates.csv_tables import parse_numbers, read_table
from luna_pipeline.core.candidates.folds import assign_folds, check_folds
from luna_pipeline.core.candidates.malignancy import parse_ratings
from luna_pipeline.core.candidates.malignancy_policies import is_malignant_by_readers
from luna_pipeline.core.candidates.tables import build_candidates
from luna_pipeline.core.ct.catalogue import catalogue_series
from luna_pipeline.core.storage.tables import write_table

pytestmark = pytest.mark.real

WORLD = ("series_instance_uid", "x", "y", "z", "diameter_mm")


@pytest.fixture(scope="module")
def catalogue(lidc_root):
    return catalogue_series(lidc_root, patient_key=b"key")


@pytest.fixture(scope="module")
def tables(lidc_root, catalogue):
    return build_candidates(lidc_root, catalogue)


def test_all_detections_and_the_four_nodules_are_kept(tables):
    assert tables.candidates.source.value_counts().to_dict() == {"candidate": 171, "annotation": 4}
    assert len(tables.rejected) == 0
    detected = tables.candidates[tables.candidates.source == "candidate"]
    assert sorted(detected.groupby("series_instance_uid", observed=True).size()) == [48, 123]


def test_class_1_is_what_lies_inside_an_annotation(tables):
    detected = tables.candidates[tables.candidates.source == "candidate"]
    assert (detected["class"] == 1).sum() == 5
    assert ((detected["class"] == 1) == detected.diameter_mm.notna()).all()
    assert tables.counts["class_1_outside_annotations"] == 0
    assert tables.counts["class_0_inside_annotations"] == 0


def test_rows_of_the_599_other_series_are_counted(tables, lidc_root):
    assert tables.counts["rows_annotations"] == 1186
    assert tables.counts["rows_without_ct"] == 1182
    uids = read_table(lidc_root / "annotations.csv", WORLD[:1]).series_instance_uid
    assert uids.nunique() - tables.candidates.series_instance_uid.nunique() == 599


def test_the_nodules_have_their_diameters_and_ratings(tables):
    nodules = tables.candidates[tables.candidates.source == "annotation"].sort_values("diameter_mm")
    np.testing.assert_allclose(nodules.diameter_mm, [8.79, 12.82, 21.45, 23.35], atol=0.006)
    np.testing.assert_allclose(nodules.malignancy, [3.25, 3.5, 4.25, 4.75])
    assert nodules.is_malignant.all()


def test_the_scans_are_in_subsets_1_and_9(lidc_root, catalogue):
    folds = assign_folds(catalogue, data_root=lidc_root)
    endings = folds.series_instance_uid.str[-6:]
    assert dict(zip(endings, folds.fold, strict=True)) == {"003264": 9, "603192": 1}
    assert set(folds.rule) == {"subset table"}
    assert check_folds(folds) == []


@pytest.fixture(scope="module")
def all_series(real_data):
    """A catalogue of all 888 scans, each large enough to contain any nodule."""
    uids = (real_data / "luna16" / "seriesuids.csv").read_text().split()
    grid = {"size_irc": [4000] * 3, "spacing_mm": [1.0] * 3, "origin_xyz": [-2000.0] * 3}
    rows = [{"series_instance_uid": uid, **grid, "direction": list(np.eye(3).ravel())} for uid in uids]
    return pd.DataFrame(rows).assign(is_readable=True, reason=None)


@pytest.mark.seed_defect("o")
def test_every_malignancy_row_finds_its_annotation(real_data, all_series):
    tables = build_candidates(real_data / "luna16", all_series)
    assert tables.counts["rows_malignancy"] == 1182
    assert tables.counts["kept_annotations"] == 1186
    # Four annotations have no row in the book's table.
    assert tables.counts["annotations_rated"] == 1182
    assert tables.candidates.is_malignant.value_counts().to_dict() == {False: 804, True: 378}
    assert len(tables.rejected) == 0


def test_the_policy_gives_the_labels_of_the_file(real_data):
    path = real_data / "luna16" / "annotations_with_malignancy.csv"
    table = read_table(path, WORLD, optional=("is_malignant", "ratings"))
    labels = [str(is_malignant_by_readers(parse_ratings(text))) for text in table.ratings]
    assert labels == table.is_malignant.tolist()
    assert parse_numbers(table.diameter_mm)[1].all()


def test_readers_ratings_give_the_files_labels_by_the_default_policy(real_data):
    rated = pd.read_csv(real_data / "luna16" / "annotations_x_reader_ratings.csv").dropna(subset=["malignancies"])
    labels = pd.read_csv(real_data / "luna16" / "annotations_with_malignancy.csv")
    pairs = rated.merge(labels, on="seriesuid")
    axes = (["coordX", "coordY", "coordZ"], ["coord_x", "coord_y", "coord_z"])
    theirs, ours = (pairs[names].to_numpy() for names in axes)
    away_mm = np.abs(theirs - ours)
    pairs = pairs[away_mm.max(axis=1) < 0.01]
    # The other 14 rows of the file had no readers in that join; `luna rebuild_luna16_key` finds them for all 1,182.
    assert (len(rated), len(pairs)) == (1171, 1168)
    made = [is_malignant_by_readers(parse_ratings(text)) for text in pairs.malignancies]
    assert made == pairs.is_malignant.tolist()


def test_the_policy_is_kept_with_the_table(real_data, all_series, tmp_path):
    tables = build_candidates(real_data / "luna16", all_series, malignancy_policy="mean")
    write_table(tmp_path / "candidates.parquet", tables.candidates)
    kept = pd.read_parquet(tmp_path / "candidates.parquet")
    assert kept.attrs["malignancy_policy"] == "mean"
    # The four annotations without a row in the book's table have no label either.
    assert tables.candidates.is_malignant.value_counts().to_dict() == {False: 559, True: 448}


def test_all_888_series_have_their_subset(real_data, all_series):
    catalogue = all_series.assign(subset=pd.array([None] * 888, dtype="Int64"), patient_hash=None)
    folds = assign_folds(catalogue, data_root=real_data / "luna16")
    assert folds.fold.value_counts().sort_index().tolist() == [89, 89, 89, 89, 89, 89, 89, 89, 88, 88]
