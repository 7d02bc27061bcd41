import hashlib

import numpy as np
import pytest

from luna_pipeline.core.candidates.candidate_ids import candidate_ids

A = ("1.2.3", "candidate", "1.0", "2.0", "3.0")
B = ("1.2.3", "candidate", "1.0", "2.0", "3.5")


@pytest.mark.seed_defect(30)
def test_an_id_is_the_hash_that_is_written_down():
    digest = hashlib.blake2b(b"1.2.3|candidate|1.0|2.0|3.0|0").digest()
    assert candidate_ids([A]).tolist() == [int.from_bytes(digest[:8], "little", signed=True)]
    assert candidate_ids([A]).dtype == np.int64


@pytest.mark.seed_defect(30)
def test_equal_rows_have_ids_of_their_own():
    assert len(set(candidate_ids([A, A, B, A]).tolist())) == 4


@pytest.mark.seed_defect(30)
def test_ids_outlive_other_rows():
    alone = candidate_ids([A])[0]
    assert candidate_ids([B, A, B])[1] == alone
    assert sorted(candidate_ids([B, A])) == sorted(candidate_ids([A, B]))


@pytest.mark.parametrize("place", range(5))
def test_each_part_of_a_row_counts(place):
    other = list(A)
    other[place] += "0"
    assert candidate_ids([tuple(other)])[0] != candidate_ids([A])[0]


def test_no_rows_no_ids():
    assert candidate_ids([]).shape == (0,)
