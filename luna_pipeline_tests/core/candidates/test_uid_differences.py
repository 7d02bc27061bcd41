"""What differs between uids of a table and of CTs is named with its cure; uids of other series differ in nothing."""

import pytest

from luna_pipeline.core.candidates.uid_differences import describe_difference

A = "1.3.6.1.4.1.14519.5.2.1.6279.6001.179049373636438705059720603192"
B = "1.3.6.1.4.1.14519.5.2.1.6279.6001.170706757615202213033480003264"


@pytest.mark.parametrize(
    ("uid", "words"),
    [
        (f"{A}.mhd", "they end in '.mhd'"),
        (f"{A}.nii.gz", "they end in '.nii.gz'"),
        (f"{A}_0000", "they end in '_0000'"),
        (f"{A}'", 'they end in "\'"'),
        (f"{A};0", "they end in ';0'"),
        (f"'{A}", 'they begin with "\'"'),
        (f"={A}", "they begin with '='"),
        (f"subset0/{A}.mhd", "they begin with 'subset0/' and end in '.mhd'"),
        (f"\u200b{A}", r"they begin with '\u200b'"),
        (A[:-8], "their end is missing"),
        (A.rsplit(".", 1)[1], "their beginning is missing"),
        (A.replace(".", "-"), "they are written in another way"),
        (A.replace(".", "_"), "they are written in another way"),
        ("1.79E+29", "a spreadsheet has made numbers of them"),
        ("1,79E+29", "a spreadsheet has made numbers of them"),
        ("179049373636438000000000000000", "a spreadsheet has made numbers of them"),
    ],
)
def test_a_difference_is_named_with_an_example_of_each(uid, words):
    found = describe_difference(["9.9", uid], [B, A])
    assert words in found
    assert "in the table, '1.3.6.1" in found
    assert found.endswith(".")


@pytest.mark.parametrize("known", [f"{A}_ct", f"patient 1 {A}", f"{A}.lung"])
def test_a_ct_that_is_not_named_by_its_uid_is_renamed(known):
    assert "the name of a CT's file must be its uid. Rename" in describe_difference([A], [known])


@pytest.mark.parametrize(
    "uids", [[], [B], ["1.2.3"], [f"{A}0"], [f"{A}.1"], ["scan01", "scan1"], [""], [f"1{A}"], [A[:8]]]
)
def test_other_series_differ_in_nothing(uids):
    assert describe_difference(uids, [A, "scan0", "1.2"]) is None


def test_capital_letters_are_another_way_of_writing():
    assert "they are written in another way" in describe_difference(["Scan0"], ["scan0"])


def test_numbers_are_uids_where_those_of_the_cts_are_numbers():
    assert describe_difference(["17", "18"], ["16", "019"]) is None


def test_long_uids_are_shortened_and_there_is_one_line():
    found = describe_difference([f"{A}\n{'x' * 1000}"], [A])
    assert len(found) < 400
    assert "\n" not in found
