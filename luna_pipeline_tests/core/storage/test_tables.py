"""Tables keep their form, or are not written."""

from pathlib import Path

import pandas as pd
import pytest

from luna_pipeline.core.storage.tables import check_table, write_table


def folds(**changes) -> pd.DataFrame:
    columns = {"series_instance_uid": ["1.2", "1.3"], "fold": [0, 1], "rule": ["series", "series"]}
    return pd.DataFrame(columns | changes)


def predictions(**changes) -> pd.DataFrame:
    columns = {
        "candidate_id": [1, 2],
        "series_instance_uid": ["1.2", "1.2"],
        "x_mm": [0.0, 1.0],
        "y_mm": [0.0, 1.0],
        "z_mm": [0.0, 1.0],
        "class": pd.array([0, 1], dtype="int8").to_numpy(),
        "fold": [0, 0],
        "model": ["a", "a"],
        "probability": [0.1, 0.9],
        "threshold": [0.5, 0.5],
        "threshold_f1": [0.5, 0.5],
        "threshold_sensitivity": [0.5, 0.5],
        "calibrated": [0.2, float("nan")],
    }
    return pd.DataFrame(columns | changes)


def test_a_right_table_is_written_and_comes_back(tmp_path: Path):
    path = tmp_path / "tables" / "folds.parquet"
    write_table(path, folds())
    pd.testing.assert_frame_equal(pd.read_parquet(path), folds())


def test_a_wrong_table_leaves_the_one_before(tmp_path: Path):
    path = tmp_path / "folds.parquet"
    write_table(path, folds())
    with pytest.raises(ValueError, match=r"Table must keep its form, got .*fold.*table folds"):
        write_table(path, folds(fold=[0, -1]))
    assert list(pd.read_parquet(path)["fold"]) == [0, 1]
    assert [file.name for file in tmp_path.iterdir()] == ["folds.parquet"]


@pytest.mark.parametrize(
    "changes",
    [
        {"probability": [0.1, 1.1]},
        {"probability": [0.1, float("nan")]},
        {"class": pd.array([0, 2], dtype="int8").to_numpy()},
        {"candidate_id": [1, 1]},
        {"calibrated": [0.2, 1.1]},
        {"threshold_f1": [0.5, float("nan")]},
        {"x_mm": [0.0, float("inf")]},
        {"fold": ["0", "1"]},
    ],
)
def test_each_rule_of_the_predictions_is_held(changes):
    check_table("nodule_predictions", predictions())
    with pytest.raises(ValueError, match="nodule_predictions"):
        check_table("nodule_predictions", predictions(**changes))


def models(**changes) -> pd.DataFrame:
    columns = {
        "model": ["a", "b"],
        "version": ["0.0.1-fold0", None],
        "fold": [0, 0],
        "num_parameters": pd.array([10, None], dtype="Int64"),
        "training_seconds": [1.0, float("nan")],
        "scoring_seconds": [2.0, 0.0],
        "candidates_per_second": [1.0, float("nan")],
        "num_candidates": [2, 2],
        "is_origin_known": [True, False],
        "fold_digest": ["0" * 64] * 2,
        "mlflow_run_id": ["run", None],
        "recipe_digest": ["digest", None],
    }
    return pd.DataFrame(columns | changes)


@pytest.mark.parametrize("changes", [{"model": ["a", "a"]}, {"num_candidates": [0, 2]}, {"fold": [-1, 0]}])
def test_each_rule_of_the_models_is_held_and_baselines_need_no_version(changes):
    check_table("nodule_models", models())
    check_table("nodule_models", models(version=[None, None], mlflow_run_id=[None, None]))
    with pytest.raises(ValueError, match="table nodule_models"):
        check_table("nodule_models", models(**changes))


def test_a_table_is_checked_by_its_assets_name_where_the_file_is_called_otherwise(tmp_path: Path):
    write_table(tmp_path / "nodule_models/0.parquet", models(), name="nodule_models")
    with pytest.raises(ValueError, match="table nodule_models"):
        write_table(tmp_path / "nodule_models/1.parquet", models(fold=[-1, 0]), name="nodule_models")
    assert [path.name for path in (tmp_path / "nodule_models").iterdir()] == ["0.parquet"]


def candidates(**changes) -> pd.DataFrame:
    columns = {
        "candidate_id": [1, 2],
        "series_instance_uid": pd.Categorical(["1.2", "1.3"]),
        "x_mm": [0.0, 1.0],
        "y_mm": [0.0, 1.0],
        "z_mm": [0.0, 1.0],
        "class": pd.array([0, 1], dtype="int8").to_numpy(),
        "diameter_mm": [float("nan"), 4.0],
        "malignancy": [float("nan"), 3.5],
        "source": pd.Categorical(["candidate", "annotation"]),
    }
    return pd.DataFrame(columns | changes)


def test_categories_are_kept_in_the_file(tmp_path: Path):
    path = tmp_path / "candidates.parquet"
    write_table(path, candidates())
    pd.testing.assert_frame_equal(pd.read_parquet(path), candidates())


@pytest.mark.parametrize(
    "changes",
    [
        {"candidate_id": [2, 2]},
        {"candidate_id": [1.0, 2.0]},
        {"series_instance_uid": pd.Categorical(["1.2", "1 3"])},
        {"series_instance_uid": pd.Categorical(["1.2", "1" * 65])},
        {"series_instance_uid": pd.Categorical(["1.2", None])},
        {"series_instance_uid": ["1.2", "1.3"]},
        {"source": pd.Categorical(["candidate", "detector"])},
        {"source": ["candidate", "annotation"]},
        {"diameter_mm": [0.0, 4.0]},
        {"malignancy": [float("nan"), 5.5]},
    ],
)
def test_each_rule_of_the_candidates_is_held(changes):
    check_table("candidates", candidates())
    check_table("candidates", candidates().iloc[:0])
    with pytest.raises(ValueError, match="table candidates"):
        check_table("candidates", candidates(**changes))


@pytest.mark.parametrize("uids", [["1.2", "1.2"], pd.Categorical(["1.2", "1.2"])])
def test_predictions_name_their_series_as_text_or_categories(uids):
    check_table("nodule_predictions", predictions(series_instance_uid=uids))
    with pytest.raises(ValueError, match="1 to 64 characters"):
        check_table("nodule_predictions", predictions(series_instance_uid=["1.2", "1. 2"]))
    with pytest.raises(ValueError, match="nodule_predictions"):
        check_table("nodule_predictions", predictions(series_instance_uid=["1.2", 12]))
    with pytest.raises(ValueError, match="nodule_predictions"):
        check_table("nodule_predictions", predictions(series_instance_uid=[12, 13]))


@pytest.mark.seed_defect(18)
def test_paths_in_the_catalogue_are_relative_and_readable_series_come_once():
    rows = {
        "series_instance_uid": ["1.2", "1.2"],
        "format": ["metaimage", "metaimage"],
        "path": ["a/1.2.mhd", "b/1.2.mhd"],
        "is_readable": [True, False],
        "fingerprint": ["x", "y"],
        "reason": [None, "Duplicate series"],
    }
    check_table("ct_series", pd.DataFrame(rows))
    with pytest.raises(ValueError, match="one readable row a series"):
        check_table("ct_series", pd.DataFrame(rows | {"is_readable": [True, True]}))
    with pytest.raises(ValueError, match="relative to the data root"):
        check_table("ct_series", pd.DataFrame(rows | {"path": ["/a/1.2.mhd", "b/1.2.mhd"]}))


def test_a_table_without_rules_passes():
    table = pd.DataFrame({"a": [1]})
    check_table("anything", table)
    assert list(table["a"]) == [1]
