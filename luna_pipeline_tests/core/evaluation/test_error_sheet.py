"""The error sheet shows the right candidates in the right order, with captions that identify them."""

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from luna_pipeline.core.evaluation import error_sheet as module
from luna_pipeline.core.evaluation.error_sheet import error_sheet
from luna_pipeline_tests.core.cutout_examples import write_examples

SHAPE_IRC = (8, 48, 48)


@pytest.fixture
def examples(tmp_path):
    """Return scored candidates, their index and cutouts: a third are nodules; scores increase with the id."""
    index, store = write_examples(tmp_path, shape_irc=SHAPE_IRC)
    index["diameter_mm"] = np.where(index["class"] == 1, 5.25, np.nan)
    predictions = index[["candidate_id", "series_instance_uid", "class"]].assign(
        x_mm=-11.4, y_mm=22.6, z_mm=-199.0, model="net", probability=np.arange(1, len(index) + 1) / 100
    )
    # The index has another order than the predictions.
    return predictions, index.iloc[::-1], store


@pytest.fixture
def sections(monkeypatch):
    """Return a list that collects the sections drawn."""
    drawn, original = [], module.sectioned_sheet
    monkeypatch.setattr(
        module, "sectioned_sheet", lambda parts, **options: (drawn.extend(parts), original(parts, **options))[1]
    )
    return drawn


def test_highest_others_above_lowest_nodules_each_with_its_own_cutout(examples, sections):
    predictions, index, store = examples
    picture = error_sheet(predictions, index, store, num_each=3)
    assert Image.open(io.BytesIO(picture)).format == "PNG"

    # Six per series; the first and the fourth are nodules.
    others, nodules = sections
    assert [caption.split("\n")[0] for caption in others.captions] == ["score 0.240", "score 0.230", "score 0.210"]
    assert [caption.split("\n")[0] for caption in nodules.captions] == ["score 0.010", "score 0.040", "score 0.070"]
    assert np.array_equal(others.chunks, store.read("1.13").ct_chunks[[5, 4, 2]])
    assert np.array_equal(nodules.chunks[:2], store.read("1.10").ct_chunks[[0, 3]])
    assert np.array_equal(nodules.chunks[2], store.read("1.11").ct_chunks[0])
    assert others.heading == "net: highest scores of the 16 that are no nodules (x, y, z in mm)"
    assert nodules.heading == "net: lowest scores of the 8 nodules (diameter)"


def test_captions_say_what_is_needed_to_find_the_place_again(examples, sections):
    predictions, index, store = examples
    # The diameter of the second-lowest nodule is unknown: its position is shown instead.
    index.loc[index["candidate_id"] == 3, "diameter_mm"] = np.nan
    long_uid = predictions.assign(series_instance_uid=predictions["series_instance_uid"].astype("category"))
    error_sheet(long_uid, index, store, num_each=2)

    others, nodules = sections
    assert others.captions[0] == "score 0.240\n…1.13\n-11, 23, -199"
    assert nodules.captions == ["score 0.010\n…1.10\n5.2 mm", "score 0.040\n…1.10\n-11, 23, -199"]


def test_a_long_uid_is_known_by_its_last_eight_digits():
    row = pd.Series({"x_mm": 0.0, "y_mm": 0.0, "z_mm": 0.0, "class": 1, "diameter_mm": 4.0, "probability": 0.5})
    caption = module._caption(pd.concat([row, pd.Series({"series_instance_uid": "1.3.6.1.4.123456789012"})]))
    assert caption == "score 0.500\n…56789012\n4.0 mm"


def test_equal_scores_are_shown_in_the_order_of_their_ids(examples, sections):
    predictions, index, store = examples
    equal = predictions.assign(probability=0.5)
    first, again = (error_sheet(rows, index, store) for rows in (equal, equal.iloc[::-1]))
    assert first == again
    assert np.array_equal(sections[0].chunks[:2], store.read("1.10").ct_chunks[[1, 2]])


@pytest.mark.parametrize(("label", "lengths"), [(0, [12, 0]), (1, [0, 8])])
def test_one_class_alone_can_be_drawn(examples, sections, label, lengths):
    predictions, index, store = examples
    assert len(error_sheet(predictions[predictions["class"] == label], index, store)) < 100_000
    assert [len(section.chunks) for section in sections] == lengths


def test_synthetic_data_gives_another_picture(examples):
    assert error_sheet(*examples) != error_sheet(*examples, is_synthetic=True)


@pytest.mark.parametrize(
    ("change", "num_each", "message"),
    [
        (lambda rows: rows.iloc[:0], 12, r"got 0 models and 12 each \(no row\)"),
        (lambda rows: pd.concat([rows, rows.assign(model="other")]), 12, r"got 2 models and 12 each \(net, other\)"),
        (lambda rows: rows, 0, r"got 1 models and 0 each \(net\)"),
        (lambda rows: rows.assign(candidate_id=rows["candidate_id"] + 10_000), 12, "in the cutout index, got 12"),
    ],
)
def test_what_cannot_be_drawn_is_refused(examples, change, num_each, message):
    predictions, index, store = examples
    with pytest.raises(ValueError, match=message):
        error_sheet(change(predictions), index, store, num_each=num_each)
