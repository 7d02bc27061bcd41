"""Agreement of readers, against Krippendorff's published example and numbers counted by hand."""

import math

import numpy as np
import pandas as pd
import pytest

from luna_pipeline.core.quality.agreement import krippendorff_alpha, nodules_by_readers, rating_agreement
from luna_pipeline.core.sources.source import RATINGS

# Krippendorff 2011, example C: four observers, twelve units, "." for missing.
UNITS = [
    *([1, 1, 1], [2, 2, 3, 2], [3, 3, 3, 3], [3, 3, 3, 3], [2, 2, 2, 2], [1, 2, 3, 4], [4, 4, 4, 4], [1, 1, 2, 1]),
    *([2, 2, 2, 2], [5, 5, 5], [1, 1], [3]),
]


@pytest.mark.parametrize(("is_nominal", "published"), [(True, 0.743), (False, 0.849)])
def test_alpha_is_that_of_the_published_example(is_nominal, published):
    units = [np.array(unit, dtype=np.float64) for unit in UNITS]
    assert krippendorff_alpha(units, is_nominal=is_nominal) == pytest.approx(published, abs=5e-4)


def test_alpha_is_undefined_without_pairs_or_differences():
    assert math.isnan(krippendorff_alpha([np.array([1.0]), np.array([2.0])], is_nominal=False))
    assert math.isnan(krippendorff_alpha([np.array([2.0, 2.0])], is_nominal=False))


def marks() -> pd.DataFrame:
    """Nodules of two series: by 1, 3, 4 and 3 readers; malignancy is not rated in one mark."""
    malignancy = [[3], [2, 2, 3], [5, 5, 5, 1], [4, 4, None]]
    rows = []
    for (uid, nodule), values in zip([("1.1", 0), ("1.1", 1), ("1.2", 0), ("1.2", 1)], malignancy, strict=True):
        place = {"series_instance_uid": uid, "nodule": nodule}
        rows += [place | {"reader": reader, "malignancy": value} for reader, value in enumerate(values)]
    return pd.DataFrame(rows, columns=["series_instance_uid", "nodule", "reader", *RATINGS]).astype(
        {"malignancy": "Int8"}
    )


def test_a_second_mark_of_one_reader_does_not_count_and_unknown_readers_are_different():
    doubled = pd.concat([marks(), marks().iloc[[1]].assign(malignancy=1)])
    pd.testing.assert_frame_equal(nodules_by_readers(doubled), nodules_by_readers(marks()))
    pd.testing.assert_frame_equal(rating_agreement(doubled), rating_agreement(marks()))
    unknown = marks().assign(reader=-1)
    assert nodules_by_readers(unknown)["num_nodules"].tolist() == [1, 0, 2, 1]


def test_nodules_are_counted_by_exactly_and_by_at_least_so_many_readers():
    table = nodules_by_readers(marks())
    assert table["num_readers"].tolist() == [1, 2, 3, 4]
    assert table["num_nodules"].tolist() == [1, 0, 2, 1]
    assert table["share"].tolist() == [0.25, 0.0, 0.5, 0.25]
    assert table["num_at_least"].tolist() == [4, 3, 3, 1]


def test_pairs_of_ratings_are_of_one_nodule_and_unrated_ones_are_left_out():
    (row,) = rating_agreement(marks()).to_dict("records")
    assert row["rating"] == "malignancy"
    assert (row["num_nodules"], row["num_ratings"], row["num_pairs"]) == (4, 10, 3 + 6 + 1)
    # Equal: 2-2, three of 5-5, 4-4; within one: these, and 2-3 twice.
    assert row["equal_share"] == pytest.approx(5 / 10)
    assert row["within_one_share"] == pytest.approx(7 / 10)
    assert row["mean"] == pytest.approx((3 + 7 + 16 + 8) / 10)
