import hashlib
import struct

import numpy as np
import pandas as pd
import pytest

from luna_pipeline.core.cutouts import fingerprint as module
from luna_pipeline.core.cutouts.cutting import CuttingParameters
from luna_pipeline.core.cutouts.fingerprint import Fingerprint, fingerprints_of

PARAMETERS = CuttingParameters()


@pytest.fixture
def catalogue() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "series_instance_uid": ["1.1", "1.2", "1.3", "1.4"],
            "fingerprint": ["a", "b", "c", "d"],
            "is_readable": [True, True, True, False],
        }
    )


@pytest.fixture
def candidates() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "candidate_id": np.array([5, -3, 7, 1, 9], dtype=np.int64),
            "series_instance_uid": ["1.1", "1.1", "1.2", "1.2", "9.9"],
            "x_mm": [1.0, 2.0, 3.0, 4.0, 5.0],
            "y_mm": [0.0, -1.5, 2.25, 1e-3, 5.0],
            "z_mm": [-300.5, 1.0, 2.0, 3.0, 5.0],
            "class": np.array([0, 1, 0, 0, 0], dtype=np.int8),
            "diameter_mm": [np.nan, 5.0, np.nan, np.nan, np.nan],
            "malignancy": [np.nan, 3.5, np.nan, np.nan, np.nan],
        }
    )


def changed_series(catalogue, before, after, parameters=PARAMETERS) -> list[str]:
    old, new = (fingerprints_of(catalogue, rows, parameters) for rows in (before, after))
    return [uid for uid in old if old[uid].digest != new[uid].digest]


def test_every_readable_series_has_a_fingerprint_also_without_rows(catalogue, candidates):
    assert list(fingerprints_of(catalogue, candidates, PARAMETERS)) == ["1.1", "1.2", "1.3"]
    assert list(fingerprints_of(catalogue, candidates.head(0), PARAMETERS)) == ["1.1", "1.2", "1.3"]


def test_all_series_at_once_agree_with_one_by_one(catalogue, candidates):
    shuffled = candidates.sample(frac=1, random_state=0)
    at_once = fingerprints_of(catalogue, shuffled, PARAMETERS)
    for row in catalogue[catalogue["is_readable"]].itertuples():
        uid = row.series_instance_uid
        rows = candidates[candidates["series_instance_uid"] == uid].sort_values("candidate_id")
        packed = b"".join(struct.pack("<qddd", r.candidate_id, r.x_mm, r.y_mm, r.z_mm) for r in rows.itertuples())
        parameters = '{"chunk_shape_irc": [32, 48, 48], "edge_rule": "pad", "hu_window": [-1000, 1000]}'
        digests = (hashlib.sha256(content).hexdigest() for content in (packed, parameters.encode()))
        assert at_once[uid] == Fingerprint(row.fingerprint, *digests, "1")


def test_the_rows_digest_is_that_of_ids_and_places_by_id(catalogue, candidates):
    packed = struct.pack("<qddd", -3, 2.0, -1.5, 1.0) + struct.pack("<qddd", 5, 1.0, 0.0, -300.5)
    assert fingerprints_of(catalogue, candidates, PARAMETERS)["1.1"].rows == hashlib.sha256(packed).hexdigest()


def test_categorical_uids_give_the_same(catalogue, candidates):
    as_category = candidates.astype({"series_instance_uid": "category"})
    assert changed_series(catalogue, candidates, as_category) == []


@pytest.mark.parametrize("label", ["class", "diameter_mm", "malignancy"])
def test_a_changed_label_changes_nothing(catalogue, candidates, label):
    assert changed_series(catalogue, candidates, candidates.assign(**{label: 1})) == []


def test_reordered_rows_change_nothing(catalogue, candidates):
    assert changed_series(catalogue, candidates, candidates.iloc[::-1]) == []


@pytest.mark.parametrize("column", ["candidate_id", "x_mm", "y_mm", "z_mm"])
def test_an_edited_row_changes_its_series_alone(catalogue, candidates, column):
    edited = candidates.copy()
    edited.loc[2, column] += 1
    assert changed_series(catalogue, candidates, edited) == ["1.2"]


@pytest.mark.parametrize("column", ["x_mm", "y_mm", "z_mm"])
def test_the_smallest_move_is_a_change(catalogue, candidates, column):
    rows = candidates.head(2)
    moved = rows.assign(**{column: np.nextafter(rows[column], np.inf)})
    assert changed_series(catalogue, rows, moved) == ["1.1"]


def test_coordinates_that_change_places_are_a_change(catalogue, candidates):
    rows = candidates.head(2)
    swapped = rows.rename(columns={"x_mm": "y_mm", "y_mm": "x_mm"})
    assert changed_series(catalogue, rows, swapped) == ["1.1"]


def test_added_and_removed_rows_change_their_series_alone(catalogue, candidates):
    added = pd.concat([candidates, candidates.head(1).assign(series_instance_uid="1.3")])
    assert changed_series(catalogue, candidates, added) == ["1.3"]
    assert changed_series(catalogue, candidates, candidates.drop(index=0)) == ["1.1"]


def test_a_changed_ct_changes_its_series_alone(catalogue, candidates):
    other = catalogue.assign(fingerprint=["a", "B", "c", "d"])
    old, new = (fingerprints_of(frame, candidates, PARAMETERS) for frame in (catalogue, other))
    assert [uid for uid in old if old[uid] != new[uid]] == ["1.2"]


@pytest.mark.parametrize(
    "parameters",
    [
        CuttingParameters(chunk_shape_irc=(32, 48, 32)),
        CuttingParameters(hu_window=(-1000, 999)),
        CuttingParameters(edge_rule="shift"),
    ],
)
def test_each_parameter_changes_every_series(catalogue, candidates, parameters):
    old = fingerprints_of(catalogue, candidates, PARAMETERS)
    new = fingerprints_of(catalogue, candidates, parameters)
    assert all(old[uid].digest != new[uid].digest for uid in old)


def test_another_code_version_changes_every_series(catalogue, candidates, monkeypatch):
    old = fingerprints_of(catalogue, candidates, PARAMETERS)
    monkeypatch.setattr(module, "CUTTING_CODE_VERSION", "2")
    new = fingerprints_of(catalogue, candidates, PARAMETERS)
    assert all(old[uid].digest != new[uid].digest and new[uid].code == "2" for uid in old)


def test_parts_cannot_be_mixed_up():
    assert Fingerprint("ab", "c", "d", "1").digest != Fingerprint("a", "bc", "d", "1").digest
    assert Fingerprint("a", "b", "c", "1").as_dict()["digest"] == Fingerprint("a", "b", "c", "1").digest
    assert len(Fingerprint("a", "b", "c", "1").digest) == 64


def test_a_known_content_counts_instead_of_the_look_of_the_files():
    def digest(ct: str, ct_content: str) -> str:
        return Fingerprint(ct=ct, rows="rows", parameters="parameters", code="1", ct_content=ct_content).digest

    assert digest("one", "content") == digest("touched", "content") != digest("one", "other content")
    assert digest("one", "") != digest("touched", "")
