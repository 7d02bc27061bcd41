import itertools

import pandas as pd
import pytest

from luna_pipeline.core.candidates.folds import (
    FOLD_COLUMNS,
    assign_folds,
    check_folds,
    describe_folds,
    describe_subset_table,
)
from luna_pipeline_tests.phantoms import write_tables


def catalogue_of(rows):
    """Build a catalogue from (uid, subset, patient) for each readable series."""
    table = pd.DataFrame(rows, columns=["series_instance_uid", "subset", "patient_hash"])
    return table.assign(is_readable=True).astype({"subset": "Int64"})


def folds_of(rows, root, **options):
    folds = assign_folds(catalogue_of(rows), data_root=root, **options)
    return folds.set_index("series_instance_uid", drop=False).rename_axis(None)


def test_a_row_a_readable_series_sorted(tmp_path):
    catalogue = catalogue_of([("1.3", 1, None), ("1.2", 0, None), ("1.4", 2, None), ("1.2", 5, None)])
    catalogue["is_readable"] = [True, True, False, False]
    folds = assign_folds(catalogue, data_root=tmp_path)
    assert tuple(folds.columns) == FOLD_COLUMNS
    assert folds.series_instance_uid.tolist() == ["1.2", "1.3"]
    assert folds.fold.tolist() == [0, 1]
    assert folds.fold.dtype == "int64"


@pytest.mark.seed_defect(1)
def test_the_folder_decides_then_the_table(tmp_path):
    write_tables(tmp_path, subsets=[("1.1", 9), ("1.2", 4), ("8.8", 7)])
    folds = folds_of([("1.1", 3, None), ("1.2", None, None)], tmp_path)
    assert folds.fold.to_dict() == {"1.1": 3, "1.2": 4}
    assert folds.rule.to_dict() == {"1.1": "subset folder", "1.2": "subset table"}


@pytest.mark.seed_defect(1, 2, "b")
@pytest.mark.parametrize("seed", range(5))
def test_no_patient_is_in_two_folds(tmp_path, seed):
    rows = [(f"1.{number}", None, f"patient{number % 17}" if number % 3 else None) for number in range(100)]
    folds = folds_of(rows, tmp_path, num_folds=4, seed=seed)
    assert check_folds(folds) == []
    assert folds.rule.value_counts().to_dict() == {"patient group": 66, "series": 34}
    sizes = folds.fold.value_counts()
    assert sorted(sizes.index) == [0, 1, 2, 3]
    assert sizes.max() - sizes.min() <= 6


def test_a_series_follows_its_patient_into_a_fold_that_is_known(tmp_path):
    rows = [("1.1", 2, "smith"), ("1.2", 0, None), ("1.3", 1, None), ("1.4", None, "smith")]
    for seed in range(5):
        folds = folds_of(rows, tmp_path, seed=seed)
        assert folds.loc["1.4", ["fold", "rule"]].tolist() == [2, "patient group"]


def test_series_without_a_subset_are_dealt_to_the_folds_in_use(tmp_path):
    rows = [("1.1", 1, None), ("1.2", 9, None), *((f"2.{number}", None, None) for number in range(10))]
    assert folds_of(rows, tmp_path).fold.value_counts().to_dict() == {1: 6, 9: 6}


def test_a_single_known_fold_is_not_the_home_of_all(tmp_path):
    rows = [("1.1", 3, None), *((f"2.{number}", None, None) for number in range(9))]
    folds = folds_of(rows, tmp_path, num_folds=5)
    assert folds.fold["1.1"] == 3
    assert folds.fold.value_counts().to_dict() == {0: 2, 1: 2, 2: 2, 3: 2, 4: 2}


def test_there_are_no_more_folds_than_groups(tmp_path):
    rows = [("1.1", None, "smith"), ("1.2", None, "smith"), ("1.3", None, "jones"), ("1.4", None, None)]
    assert sorted(folds_of(rows, tmp_path, num_folds=10).fold.unique()) == [0, 1, 2]
    assert folds_of(rows[:1], tmp_path).fold.tolist() == [0]


@pytest.mark.seed_defect(14)
def test_the_seed_alone_decides_not_the_key_or_the_order_of_rows(tmp_path):
    rows = [(f"1.{number}", None, f"patient{number // 2}") for number in range(30)]
    # With another key the order of the patients' hashes is another.
    rekeyed = [(uid, subset, patient[::-1]) for uid, subset, patient in rows]
    first = folds_of(rows, tmp_path, num_folds=5, seed=3).fold
    assert folds_of(rows, tmp_path, num_folds=5, seed=3).fold.equals(first)
    assert folds_of(rekeyed, tmp_path, num_folds=5, seed=3).fold.equals(first)
    assert folds_of(rows[::-1], tmp_path, num_folds=5, seed=3).fold.equals(first)
    assert not folds_of(rows, tmp_path, num_folds=5, seed=4).fold.equals(first)


@pytest.mark.seed_defect(1, 2)
def test_violations_are_named(tmp_path):
    patient = "0123456789abcdef" * 4
    folds = pd.DataFrame(
        {
            "series_instance_uid": ["1.1", "1.1", "1.2", "1.3"],
            "fold": [0, 2, 1, 3],
            "patient_hash": [None, None, patient, patient],
        }
    )
    assert check_folds(folds) == [
        "Series 1.1 must be in one fold, got [0, 2].",
        "Patient 0123456789ab must be in one fold, got [1, 3].",
    ]


@pytest.mark.seed_defect(19)
def test_unknown_patients_are_no_patient(tmp_path):
    assert check_folds(folds_of([(f"1.{number}", number, None) for number in range(3)], tmp_path)) == []
    assert check_folds(folds_of([], tmp_path)) == []


@pytest.mark.parametrize("wrong", ["one", "1.5", "-1", "", "nan", "inf", "1e30", "1000000"])
def test_a_subset_that_is_no_number_is_refused_by_its_line(tmp_path, wrong):
    write_tables(tmp_path, subsets=[("1.1", 0), ("1.2", wrong)])
    with pytest.raises(ValueError, match=r"whole number from 0, got '.*' \(luna16_subsets.csv line 3\)"):
        folds_of([("1.1", None, None)], tmp_path)


def test_a_series_in_two_subsets_of_the_table_is_refused(tmp_path):
    write_tables(tmp_path, subsets=[("1.1", 4), ("1.2", 0), ("1.1", 2), ("1.2", 0)])
    with pytest.raises(ValueError, match=r"one subset, got \[2, 4\] \(series 1.1"):
        folds_of([("1.2", None, None)], tmp_path)


def test_at_least_one_fold(tmp_path):
    with pytest.raises(ValueError, match="one fold or more, got 0"):
        folds_of([("1.1", None, None)], tmp_path, num_folds=0)


def test_groups_are_dealt_evenly_whatever_their_number(tmp_path):
    for num_series, num_folds in itertools.product((7, 10, 23), (2, 3, 10)):
        sizes = folds_of([(f"1.{n}", None, None) for n in range(num_series)], tmp_path, num_folds=num_folds).fold
        counts = sizes.value_counts()
        assert len(counts) == min(num_series, num_folds)
        assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize(
    ("patients", "words"),
    [
        (
            ["anonymous"] * 6,
            "All 6 series have the same patient id, so they count as one patient; the number of folds is 1.",
        ),
        (["anonymous"] * 2, "All 2 series have the same patient id"),
        (["anonymous"] * 4 + ["smith", None], "4 of 6 series have the same patient id"),
    ],
)
def test_one_patient_id_for_most_series_is_reported(tmp_path, patients, words):
    folds = folds_of([(f"1.{number}", None, patient) for number, patient in enumerate(patients)], tmp_path)
    (line,) = describe_folds(folds)
    assert words in line
    assert "own PatientID" in line
    assert "anonymous" not in line


@pytest.mark.parametrize("patients", [[], [None] * 5, ["a"], ["a", "a", "b", "b"], ["a", "a", "b"], ["a", "b", None]])
def test_patients_of_some_series_each_are_not_reported(tmp_path, patients):
    assert describe_folds(folds_of([(f"1.{n}", None, name) for n, name in enumerate(patients)], tmp_path)) == []


@pytest.mark.parametrize(
    ("uids", "words"),
    [
        (["1.1.mhd", "1.2.mhd"], "0 of 2 CTs are in luna16_subsets.csv; series uids differ: '1.1.mhd' in the table"),
        (["1.1", "1.2.mhd"], "1 of 2 CTs are in luna16_subsets.csv; series uids differ: '1.2.mhd' in the table"),
        (["8.1", "8.2"], "'8.1' in the table, '1.1' of the CTs."),
    ],
)
def test_subsets_of_series_that_do_not_match_are_reported(tmp_path, uids, words):
    write_tables(tmp_path, subsets=[(uid, number) for number, uid in enumerate(uids)])
    (line,) = describe_subset_table(folds_of([("1.1", None, None), ("1.2", None, None)], tmp_path), tmp_path)
    assert line.startswith("Warning: ")
    assert words in line


@pytest.mark.parametrize("uids", [["1.1"], ["1.1", "8.2", "8.3"], [], None])
def test_subsets_of_some_cts_and_of_others_are_usual(tmp_path, uids):
    if uids is not None:
        write_tables(tmp_path, subsets=[(uid, 0) for uid in uids])
    assert describe_subset_table(folds_of([("1.1", None, None), ("1.2", None, None)], tmp_path), tmp_path) == []
