"""Groups of same scans: across chains of pairs, for folds and for leaks."""

import pandas as pd
import pytest

from luna_pipeline.core.same_scans.groups import (
    groups_of,
    not_compared,
    same_scans_across,
    same_scans_in_two_folds,
)
from luna_pipeline.core.same_scans.tables import with_not_compared

PAIRS = pd.DataFrame(
    [("1.5", "1.4", "block of"), ("1.3", "1.5", "overlap"), ("1.9", "1.8", "similar (resampled)")],
    columns=["series_a", "series_b", "kind"],
)


@pytest.mark.parametrize("table", [PAIRS, PAIRS[:0]])
def test_series_that_were_not_compared_are_no_pairs(table):
    more = with_not_compared(table.assign(num_compared=1, num_anchors=1), ["1.4", "1.6"])
    assert groups_of(more) == groups_of(table)
    assert same_scans_across(more, ["1.4", "1.6"], ["1.5"]) == same_scans_across(table, ["1.4"], ["1.5"])
    assert not_compared(more, ["1.6", "1.5"]) == {"1.6"}
    assert not_compared(None, ["1.6"]) == not_compared(table, ["1.6"]) == set()


def test_a_chain_of_pairs_is_one_group_by_its_smallest_uid():
    assert groups_of(PAIRS) == {"1.3": "1.3", "1.4": "1.3", "1.5": "1.3", "1.8": "1.8", "1.9": "1.8"}


@pytest.mark.parametrize("table", [None, PAIRS[:0]])
def test_without_a_table_or_pairs_nothing_is_the_same(table):
    assert groups_of(table) == {}
    assert same_scans_across(table, ["1.3"], ["1.4"]) == []
    folds = pd.DataFrame({"series_instance_uid": ["1.3", "1.4"], "fold": [0, 1]})
    assert same_scans_in_two_folds(table, folds) == []


def test_a_tested_block_of_a_seen_scan_is_found_with_what_it_is():
    assert same_scans_across(PAIRS, ["1.4"], ["1.5", "1.7"]) == [("1.5", "1.4", "a block of")]
    assert same_scans_across(PAIRS, ["1.5"], ["1.4"]) == [("1.4", "1.5", "the scan of the block")]
    assert same_scans_across(PAIRS, ["1.8"], ["1.9"]) == [("1.9", "1.8", "a resampled copy of")]


def test_what_is_the_same_through_a_third_series_is_found_too():
    assert same_scans_across(PAIRS, ["1.4"], ["1.3"]) == [("1.3", "1.4", "of the same scan as")]


def test_the_direct_pair_is_named_where_several_were_seen():
    assert same_scans_across(PAIRS, ["1.4", "1.5"], ["1.3"]) == [("1.3", "1.5", "partly the same as")]


def test_a_series_that_was_seen_itself_is_no_copy():
    assert same_scans_across(PAIRS, ["1.4", "1.5"], ["1.5", "2.1"]) == []


def test_a_group_in_two_folds_is_named():
    folds = pd.DataFrame({"series_instance_uid": ["1.3", "1.4", "1.5", "1.8", "1.9", "2"], "fold": [2, 0, 2, 1, 1, 0]})
    assert same_scans_in_two_folds(PAIRS, folds) == [
        "The same scan must be in one fold, got [0, 2] (1.3, 1.4 and 1 more)."
    ]
    assert same_scans_in_two_folds(PAIRS, folds.assign(fold=3)) == []
