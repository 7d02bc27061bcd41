"""Leaks of series, patients and candidates are detected separately."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from luna_pipeline.core.evaluation.leaks import LeakReport, SeenData, leaks_of
from luna_pipeline.core.same_scans.tables import same_scans_table, with_not_compared

ADA, BEN = "a" * 40, "b" * 40
FOLDS = pd.DataFrame(
    {
        "series_instance_uid": ["1.1", "1.2", "1.3", "1.4", "1.5"],
        "fold": [0, 0, 1, 1, 2],
        "patient_hash": [ADA, None, BEN, None, "c" * 40],
    }
)
TEST = pd.DataFrame(
    {"candidate_id": [10, 11, 20], "series_instance_uid": pd.Categorical(["1.1", "1.1", "1.2"]), "fold": 0}
)
ADVICE = "Leave it out, or train it with this test fold held out."


def leaks(*, folds=FOLDS, test=TEST, same_scans=None, **seen) -> LeakReport:
    data = SeenData(**{"model": "net 0.0.1", "training_series": ["1.3"], **seen})
    return leaks_of(data, test=test, folds=folds, same_scans=same_scans)


def same_patient(first: str, second: str) -> pd.DataFrame:
    return FOLDS.assign(patient_hash=FOLDS["patient_hash"].where(FOLDS["series_instance_uid"] != second, first))


def test_what_is_held_apart_has_no_leak():
    report = leaks(validation_series=["1.5"], training_candidate_ids=np.array([30, 31]))
    assert report == LeakReport(lines=(), num_unknown_patients=1, num_series=4)
    assert str(report) == "No leak found. Patients unknown of 1 of 4 series."
    report.refuse()


@pytest.mark.parametrize("part", ["training_series", "validation_series", "inherited_series"])
def test_a_series_that_was_seen_for_whatever_purpose_is_a_leak(part):
    # 1.2 has no patient hash: only the series reveals the leak.
    (line,) = leaks(**{part: ["1.2", "1.3"]}).lines
    assert line == (
        f"A model must not be tested on series that it has seen, got 1 (the first 1.2 of fold 0; net 0.0.1). {ADVICE}"
    )


@pytest.mark.parametrize("part", ["training_series", "validation_series", "inherited_series"])
def test_another_series_of_a_patient_is_a_leak_and_names_no_more_than_12_digits(part):
    (line,) = leaks(**{part: ["1.5"]}, folds=same_patient(ADA, "1.5")).lines
    assert line == (
        "A model must not be tested on patients that it has seen, got 1 (the first patient aaaaaaaaaaaa with series "
        f"1.1 of fold 0; net 0.0.1). {ADVICE}"
    )


def test_a_candidate_that_was_learned_from_is_a_leak_even_under_another_series():
    (line,) = leaks(training_candidate_ids=np.array([20, 11, 99])).lines
    assert line == (
        "A model must not be tested on candidates that it has learned from, got 2 (the first 11 of series 1.1, fold 0; "
        f"net 0.0.1). {ADVICE}"
    )


def test_each_kind_of_leak_has_its_line_and_numbers_count_each_thing_once():
    report = leaks(training_series=["1.1", "1.1", "1.2"], training_candidate_ids=np.array([10]))
    found = [line.partition(" (")[0].removeprefix("A model must not be tested on ") for line in report.lines]
    assert found == [
        "series that it has seen, got 2",
        "patients that it has seen, got 1",
        "candidates that it has learned from, got 1",
    ]
    with pytest.raises(ValueError, match=r"(?s)series that.*\n.*patients that.*\n.*candidates that"):
        report.refuse()


@pytest.mark.parametrize("part", ["training_series", "validation_series", "inherited_series"])
def test_a_block_of_a_seen_scan_is_a_leak(part):
    same_scans = pd.DataFrame({"series_a": ["1.2"], "series_b": ["1.5"], "kind": ["block of"]})
    (line,) = leaks(**{part: ["1.5"]}, same_scans=same_scans).lines
    assert line == (
        "A model must not be tested on the same scans under other names that it has seen, got 1 (the first 1.2 of fold "
        f"0 is a block of 1.5; net 0.0.1). {ADVICE}"
    )
    assert leaks(training_series=["1.4"], same_scans=same_scans).is_clean


@pytest.mark.parametrize(("series", "state"), [("1.3", "unknown"), ("1.1", "unknown"), ("1.5", "clean")])
def test_without_a_comparison_of_a_seen_or_tested_series_it_is_not_known_whether_there_is_a_leak(series, state):
    report = leaks(
        folds=FOLDS.assign(patient_hash=list("abcde")), same_scans=with_not_compared(same_scans_table([]), [series])
    )
    assert (report.state, report.lines, report.num_not_compared) == (state, (), int(state == "unknown"))
    assert ("Not compared with other scans: 1 of 3 series." in str(report)) == (state == "unknown")


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_unknown_patients_are_not_each_others_equal(missing):
    folds = FOLDS.assign(patient_hash=pd.Series([missing] * len(FOLDS), dtype=object))
    assert leaks(folds=folds) == LeakReport(lines=(), num_unknown_patients=3, num_series=3)


def test_a_seen_series_that_is_in_no_fold_any_more_is_an_unknown_patient():
    report = leaks(training_series=["1.3", "9.9"])
    assert report == LeakReport(lines=(), num_unknown_patients=2, num_series=4)


def test_a_seen_series_that_is_in_no_fold_any_more_still_leaks_as_a_series():
    gone = FOLDS[FOLDS["series_instance_uid"] != "1.1"]
    (line,) = leaks(training_series=["1.1"], folds=gone).lines
    assert "series that it has seen, got 1" in line


def test_where_weights_come_from_elsewhere_nobody_can_say_that_there_is_no_leak():
    test = FOLDS.assign(candidate_id=range(len(FOLDS)))
    seen = SeenData(model="book 1", training_series=[], is_origin_known=False)
    report = leaks_of(seen, test=test, folds=FOLDS)
    assert (report.lines, report.is_clean) == ((), False)
    assert "what they have seen is not known" in str(report)
    assert leaks_of(replace(seen, is_origin_known=True), test=test, folds=FOLDS).is_clean
