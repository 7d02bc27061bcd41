import numpy as np
import pandas as pd
import pytest

from luna_pipeline.core.cutouts.selection import CandidateSelection


def table(counts: dict[str, tuple[int, int]]) -> pd.DataFrame:
    """Candidates by series: so many of class 0 and of class 1, in an order that means nothing."""
    rng = np.random.default_rng(0)
    rows = []
    for uid, numbers in counts.items():
        identity = np.random.default_rng([int(part) for part in uid.split(".")])
        rows += [
            {"series_instance_uid": uid, "class": kind, "candidate_id": int(identity.integers(-(2**63), 2**63 - 1))}
            for kind, number in enumerate(numbers)
            for _ in range(number)
        ]
    frame = pd.DataFrame(rows)
    return frame.iloc[rng.permutation(len(frame))].reset_index(drop=True)


COUNTS = {"1.1": (90, 10), "1.2": (400, 1), "1.3": (0, 5), "1.4": (7, 0), "1.5": (3, 2)}


def counted(selected: pd.DataFrame) -> dict[str, tuple[int, int]]:
    return {
        uid: (int((rows["class"] == 0).sum()), int((rows["class"] == 1).sum()))
        for uid, rows in selected.groupby("series_instance_uid")
    }


def test_without_limits_the_table_is_handed_through():
    rows = table(COUNTS)
    assert CandidateSelection().of(rows) is rows


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (20, {"1.1": (18, 2), "1.2": (19, 1), "1.3": (0, 5), "1.4": (7, 0), "1.5": (3, 2)}),
        (4, {"1.1": (3, 1), "1.2": (3, 1), "1.3": (0, 4), "1.4": (4, 0), "1.5": (2, 2)}),
        (1, {"1.1": (0, 1), "1.2": (0, 1), "1.3": (0, 1), "1.4": (1, 0), "1.5": (0, 1)}),
    ],
)
def test_the_classes_of_each_series_keep_their_proportion(length, expected):
    assert counted(CandidateSelection(training_length=length).of(table(COUNTS))) == expected


def test_nodules_stay_when_only_negatives_are_limited():
    selected = counted(CandidateSelection(max_negatives_per_series=6).of(table(COUNTS)))
    assert selected == {"1.1": (6, 10), "1.2": (6, 1), "1.3": (0, 5), "1.4": (6, 0), "1.5": (3, 2)}


def test_both_limits_hold_together():
    selected = CandidateSelection(training_length=20, max_negatives_per_series=6).of(table(COUNTS))
    assert counted(selected)["1.1"] == (6, 2)


def test_a_series_that_is_added_changes_no_other():
    selection = CandidateSelection(training_length=20, max_negatives_per_series=15, seed=3)
    before = selection.of(table(COUNTS))
    after = selection.of(table({**COUNTS, "1.0": (50, 50), "1.9": (500, 3)}))
    kept = after[after["series_instance_uid"].isin(COUNTS)]
    assert set(kept["candidate_id"]) == set(before["candidate_id"])


def test_the_seed_decides_and_the_order_of_the_table_does_not():
    rows = table(COUNTS)
    first = CandidateSelection(training_length=20, seed=1).of(rows)
    assert first.index.is_monotonic_increasing
    again = CandidateSelection(training_length=20, seed=1).of(rows.iloc[::-1])
    other = CandidateSelection(training_length=20, seed=2).of(rows)
    assert set(first["candidate_id"]) == set(again["candidate_id"]) != set(other["candidate_id"])


def test_every_candidate_has_the_same_chance():
    rows = table({"1.1": (40, 0)})
    times = pd.Series(0, index=rows["candidate_id"])
    for seed in range(400):
        times[CandidateSelection(training_length=10, seed=seed).of(rows)["candidate_id"]] += 1
    # 400 draws with probability 1/4: mean 100, standard deviation 8.7.
    assert times.between(60, 140).all()


@pytest.mark.parametrize("wrong", [{"training_length": 0}, {"max_negatives_per_series": -1}, {"seed": -1}])
def test_wrong_numbers_are_refused(wrong):
    with pytest.raises(ValueError, match="must be a whole number from"):
        CandidateSelection(**wrong)
