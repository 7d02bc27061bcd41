"""Duplicate cutouts are found if and only if they lie in two folds."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xxhash

from luna_pipeline.core.ct.file_maps import advise_random_access
from luna_pipeline.core.cutouts.store import CutoutStore
from luna_pipeline.core.evaluation.duplicates import (
    DUPLICATE_COLUMNS,
    describe_duplicates,
    same_content_in_two_folds,
)
from luna_pipeline_tests.core.cutouts.examples import make_cutouts

FOLDS = {"1.1": 0, "1.2": 0, "1.3": 1, "1.4": 2}


def stored(root, **chunks_of: dict[int, np.ndarray]) -> tuple[pd.DataFrame, CutoutStore]:
    """Return three cutouts of noise in each of four series; arguments replace some rows: ``s3={0: chunk}``."""
    store, tables = CutoutStore(root), []
    for number, (uid, fold) in enumerate(FOLDS.items(), start=1):
        cutouts = make_cutouts(3, uid=uid, seed=number)
        cutouts = replace(cutouts, candidate_id=number * 10 + np.arange(3, dtype=np.int64))
        for row, chunk in chunks_of.get(f"s{number}", {}).items():
            cutouts.ct_chunks[row] = chunk
        store.write(uid, cutouts)
        tables.append(pd.DataFrame({"candidate_id": cutouts.candidate_id, "row": range(3), "fold": fold, "uid": uid}))
    index = pd.concat(tables).rename(columns={"uid": "series_instance_uid"})
    # Order and index differ from those of the files.
    return index.sample(frac=1, random_state=0).astype({"series_instance_uid": "category"}), store


def found_ids(table: pd.DataFrame) -> list[list[int]]:
    return [rows["candidate_id"].tolist() for _, rows in table.groupby("group")]


@pytest.fixture
def chunk() -> np.ndarray:
    return make_cutouts(1, seed=99).ct_chunks[0]


def test_equal_cutouts_in_two_folds_are_found_with_all_their_equals(tmp_path, chunk):
    index, store = stored(tmp_path, s1={2: chunk}, s2={0: chunk}, s3={1: chunk})
    table = same_content_in_two_folds(index, store)

    assert tuple(table.columns) == DUPLICATE_COLUMNS
    assert table["candidate_id"].tolist() == [12, 20, 31]
    assert table["series_instance_uid"].tolist() == ["1.1", "1.2", "1.3"]
    assert table["fold"].tolist() == [0, 0, 1]
    assert table["group"].tolist() == [1, 1, 1]
    assert table.index.tolist() == [0, 1, 2]
    assert set(table["content"]) == {xxhash.xxh3_128_hexdigest(chunk.tobytes())}


def test_what_is_found_is_said_in_a_line_and_nothing_is_said_of_nothing(tmp_path, chunk):
    index, store = stored(tmp_path, s1={0: chunk, 1: chunk, 2: chunk}, s3={1: chunk}, s4={2: chunk})
    found = same_content_in_two_folds(index, store)
    assert describe_duplicates(found) == (
        "A cutout must be in one fold, got 5 that are in two: 10 (series 1.1, fold 0); 11 (series 1.1, fold 0); "
        "12 (series 1.1, fold 0); 31 (series 1.3, fold 1). Remove one of the CTs, or put them into one fold."
    )
    assert describe_duplicates(found.iloc[:0]) == ""


def test_each_content_is_a_group_of_its_own(tmp_path, chunk):
    other = chunk[::-1]
    index, store = stored(tmp_path, s1={0: chunk, 1: other}, s3={0: chunk}, s4={2: other})
    assert sorted(found_ids(same_content_in_two_folds(index, store))) == [[10, 30], [11, 42]]


def test_equal_cutouts_of_one_fold_are_no_matter(tmp_path, chunk):
    index, store = stored(tmp_path, s1={0: chunk, 1: chunk}, s2={2: chunk})
    table = same_content_in_two_folds(index, store)
    assert (len(table), tuple(table.columns)) == (0, DUPLICATE_COLUMNS)


def test_cutouts_with_the_same_middle_alone_are_not_the_same(tmp_path, chunk):
    other = chunk.copy()
    other[0, 0, 0] += 1
    index, store = stored(tmp_path, s1={0: chunk}, s3={0: other})
    assert same_content_in_two_folds(index, store).empty


def test_cutouts_of_one_value_say_nothing_and_those_with_a_flat_middle_do(tmp_path, chunk):
    air = np.full_like(chunk, -1000)
    flat = chunk.copy()
    flat[1:3] = -1000
    index, store = stored(tmp_path, s1={0: air, 1: flat}, s3={0: air, 1: flat}, s4={0: air})
    assert found_ids(same_content_in_two_folds(index, store)) == [[11, 31]]


def test_files_without_a_suspect_are_read_once(tmp_path, chunk):
    index, store = stored(tmp_path, s1={0: chunk}, s3={0: chunk})
    read = []

    class Source:
        def read(self, uid):
            read.append(uid)
            return store.read(uid)

    assert len(same_content_in_two_folds(index, Source())) == 2
    assert read == ["1.1", "1.2", "1.3", "1.4", "1.1", "1.3"]


def test_a_table_without_rows_has_no_duplicates(tmp_path):
    index, store = stored(tmp_path)
    assert same_content_in_two_folds(index.iloc[:0], store).empty


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="this system does not tell how files are mapped")
def test_the_system_is_told_not_to_read_on(tmp_path):
    _, store = stored(tmp_path)
    chunks = store.read("1.1").ct_chunks
    advise_random_access(chunks)

    mapping = Path("/proc/self/smaps").read_text().split(f"{tmp_path}/1.1.npz")[1]
    flags = mapping.partition("VmFlags:")[2].splitlines()[0].split()
    # "rr": random read advice.
    assert "rr" in flags
