import numpy as np
import pandas as pd
import pytest

from luna_pipeline.core.cutouts.index import (
    INDEX_DTYPES,
    build_cutout_index,
    centers_xyz,
    describe_sample,
    index_of_files,
    lost_series,
)
from luna_pipeline.core.cutouts.store import CutoutStore, DamagedCutoutsError
from luna_pipeline_tests.core.cutouts.data_root import UIDS, make_service, write_data_root

FOLDS = pd.DataFrame({"series_instance_uid": [*UIDS, "9.9"], "fold": pd.array([2, 0, 1, 3], dtype="Int64")})


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Candidates and the store in which they were cut."""
    root = tmp_path_factory.mktemp("data")
    catalogue, candidates = write_data_root(root)
    candidates["diameter_mm"] = np.arange(len(candidates), dtype=float)
    store = CutoutStore(root / "cutouts")
    make_service(root, catalogue, candidates, store=store).cut_many()
    return candidates, store


def test_each_row_leads_to_its_own_cutout(made):
    candidates, store = made
    index = build_cutout_index(candidates.sample(frac=1, random_state=1), FOLDS, store)
    points = candidates.set_index("candidate_id")[["x_mm", "y_mm", "z_mm"]]
    assert len(index) == 12
    for row in index.itertuples():
        cutouts = store.read(row.series_instance_uid)
        assert cutouts.candidate_id[row.row] == row.candidate_id
        np.testing.assert_array_equal(cutouts.center_xyz[row.row], points.loc[row.candidate_id])


def test_labels_folds_and_fingerprints_are_joined(made):
    candidates, store = made
    index = build_cutout_index(candidates, FOLDS, store)
    assert {name: str(dtype) for name, dtype in index.dtypes.items()} == INDEX_DTYPES
    labels = ["class", "diameter_mm", "source"]
    expected = candidates.set_index("candidate_id").loc[index["candidate_id"], labels]
    pd.testing.assert_frame_equal(index.set_index("candidate_id")[labels], expected.astype({"source": "category"}))
    fold_of = dict(zip(index["series_instance_uid"], index["fold"], strict=True))
    assert fold_of == {UIDS[0]: 2, UIDS[1]: 0, UIDS[2]: 1}
    assert index["fingerprint"].tolist() == [store.digest(uid) for uid in index["series_instance_uid"]]


def test_candidates_that_are_not_in_the_index_make_it_a_sample_of_the_series_that_are_there(made):
    candidates, store = made
    candidates = candidates.assign(source="candidate")
    index = build_cutout_index(candidates, FOLDS, store)
    assert describe_sample(index, candidates) == ""
    # A series without a row could not be cut, and annotated centres are not scored.
    assert describe_sample(index[index["series_instance_uid"] != UIDS[0]], candidates) == ""
    first = index["candidate_id"].iloc[0]
    is_first = candidates["candidate_id"] == first
    annotated = candidates.assign(source=candidates["source"].mask(is_first, "annotation"))
    assert describe_sample(index.iloc[1:], annotated) == ""
    assert describe_sample(index.iloc[1:], candidates) == (
        "Sampled candidates, not comparable: 11 of 12 candidates of these scans. False-positive rates are too low, CPM "
        "is too high."
    )


def test_the_index_is_sorted_whatever_the_tables_order(made):
    candidates, store = made
    index = build_cutout_index(candidates.iloc[::-1], FOLDS, store)
    pd.testing.assert_frame_equal(index, build_cutout_index(candidates, FOLDS, store))
    assert index["series_instance_uid"].is_monotonic_increasing
    for row in index.itertuples():
        assert store.read(row.series_instance_uid).candidate_id[row.row] == row.candidate_id


def test_uids_may_be_text_or_categories_in_any_order(made):
    candidates, store = made
    # Tables of before hold text; others may have categories that do not occur, unsorted.
    uids = pd.Categorical(candidates["series_instance_uid"], categories=["9.9", *UIDS[::-1], "0.0"])
    sources = pd.Categorical(candidates["source"], categories=["other", "candidate"])
    index = build_cutout_index(candidates.assign(series_instance_uid=uids, source=sources), FOLDS, store)
    expected = build_cutout_index(candidates, FOLDS, store)
    pd.testing.assert_frame_equal(index, expected, check_categorical=False)
    assert list(index["series_instance_uid"].cat.categories) == sorted(UIDS)


@pytest.mark.seed_defect(18)
def test_no_path_stands_in_the_index(made):
    index = build_cutout_index(*made[:1], FOLDS, made[1])
    assert not any("/" in str(value) for value in index.to_numpy().ravel())


def test_no_candidates_give_an_empty_index_of_the_same_types(made):
    candidates, store = made
    index = build_cutout_index(candidates.head(0), FOLDS, store)
    assert len(index) == 0
    assert {name: str(dtype) for name, dtype in index.dtypes.items()} == INDEX_DTYPES


@pytest.mark.seed_defect(17)
def test_a_series_that_was_not_cut_is_refused(made):
    candidates, store = made
    strays = candidates.head(1).assign(series_instance_uid="9.9")
    with pytest.raises(FileNotFoundError, match=r"got no file \(series 9\.9"):
        build_cutout_index(strays, FOLDS, store)


def test_other_candidates_than_the_files_are_refused(made):
    candidates, store = made
    fewer = candidates.drop(index=0)
    with pytest.raises(ValueError, match=r"table's 3 candidates, got 4, 3 of them shared \(series 1\.2\.1\)"):
        build_cutout_index(fewer, FOLDS, store)
    other = candidates.copy()
    other.loc[5, "candidate_id"] += 1
    with pytest.raises(ValueError, match=r"4 candidates, got 4, 3 of them shared \(series 1\.2\.2\)"):
        build_cutout_index(other, FOLDS, store)


def test_a_damaged_file_is_refused(made, tmp_path):
    candidates, store = made
    damaged = CutoutStore(tmp_path)
    for uid in UIDS:
        damaged.path(uid).write_bytes(store.path(uid).read_bytes()[:-1])
    with pytest.raises(DamagedCutoutsError, match="truncated"):
        build_cutout_index(candidates, FOLDS, damaged)


def test_a_series_without_a_fold_is_refused(made):
    candidates, store = made
    with pytest.raises(ValueError, match=r"got none for 1 \(first: series 1\.2\.3\)"):
        build_cutout_index(candidates, FOLDS[FOLDS["series_instance_uid"] != UIDS[2]], store)


def test_a_series_without_a_fitting_file_is_left_out_by_name(made, tmp_path):
    candidates, store = made
    few = CutoutStore(tmp_path)
    for uid in UIDS[:2]:
        few.write(uid, store.read(uid))
    whole = build_cutout_index(candidates, FOLDS, store)
    one_more = pd.concat([candidates, candidates.iloc[[0]].assign(candidate_id=1)], ignore_index=True)
    left_out: dict[str, str] = {}
    index = build_cutout_index(one_more, FOLDS, few, left_out=left_out)
    assert sorted(left_out) == [UIDS[0], UIDS[2]]
    assert "must hold the table's" in left_out[UIDS[0]]
    assert "must be cut before" in left_out[UIDS[2]]
    expected = whole[whole["series_instance_uid"] == UIDS[1]].reset_index(drop=True)
    pd.testing.assert_frame_equal(
        index.astype({"series_instance_uid": str, "fingerprint": str}),
        expected.astype({"series_instance_uid": str, "fingerprint": str}),
    )


@pytest.mark.parametrize(
    ("rows", "known", "reasons"),
    [
        ([("1", True)], ["1"], {}),
        ([("1", True), ("2", False)], ["1"], {"2": "no slices"}),
        ([("1", True), ("2", False)], ["1", "2"], {"2": "no slices"}),
        ([("1", True), ("2", True)], ["1", "2"], {"2": "must have rows"}),
        ([("1", True)], ["1", "2"], {"2": "must have its CT"}),
        ([("1", True), ("1", False)], ["1"], {}),
        ([("1", False)], ["1"], {}),
        ([("2", False), ("2", True), ("3", False)], [], {"2": "must have rows", "3": "no slices"}),
    ],
)
def test_a_series_that_the_table_lacks_is_lost_with_its_reason(rows, known, reasons):
    catalogue = pd.DataFrame(rows, columns=["series_instance_uid", "is_readable"]).assign(reason="no slices")
    of_one = pd.DataFrame({"series_instance_uid": ["1", "1"]})
    lost = lost_series(of_one, candidates=of_one, catalogue=catalogue, known=known)
    assert list(lost) == list(reasons)
    assert all(said in lost[uid] for uid, said in reasons.items())


def test_a_series_of_which_the_sample_has_no_row_is_not_lost():
    catalogue = pd.DataFrame({"series_instance_uid": ["1", "2"], "is_readable": True, "reason": None})
    candidates = pd.DataFrame({"series_instance_uid": ["1", "2"]})
    assert lost_series(candidates.iloc[:1], candidates=candidates, catalogue=catalogue, known=["1", "2"]) == {}


def test_an_index_of_files_alone_has_everything_that_is_in_them(made):
    candidates, store = made
    index = index_of_files(store, store.uids())
    expected = build_cutout_index(candidates, FOLDS, store)
    assert sorted(index["candidate_id"]) == sorted(expected["candidate_id"])
    assert set(index["class"]) == {0}
    for row in index.itertuples():
        assert store.read(row.series_instance_uid).candidate_id[row.row] == row.candidate_id
        assert row.fingerprint == store.digest(row.series_instance_uid)


def test_an_index_of_no_file_is_empty(made):
    assert index_of_files(made[1], []).empty


def test_centers_are_the_candidates_own_in_the_order_of_the_index(made):
    candidates, store = made
    index = build_cutout_index(candidates, FOLDS, store).sample(frac=1, random_state=2)
    points = candidates.set_index("candidate_id").loc[index["candidate_id"], ["x_mm", "y_mm", "z_mm"]]
    np.testing.assert_array_equal(centers_xyz(index, store), points.to_numpy())
