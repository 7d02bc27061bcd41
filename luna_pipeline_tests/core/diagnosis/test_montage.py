"""The montage: its number of nodules, the overview's marks, and what the file says of itself."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from luna_pipeline.core.diagnosis.montage import OVERVIEW_PX, coronal_overview, montage_png
from luna_pipeline.core.diagnosis.pictures import MARK_COLOUR
from luna_pipeline.core.diagnosis.tables import provenance
from luna_pipeline_tests.core.diagnosis.examples import FLIPPED, diagnosis, grid, nodule

HOUNSFIELD = np.random.default_rng(0).integers(-1000, 100, (40, 64, 64)).astype(np.int16)


def picture_of(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png))


def rgb(png: bytes) -> np.ndarray:
    return np.asarray(picture_of(png).convert("RGB"))


def test_the_file_holds_its_provenance_and_is_the_same_on_a_rerun():
    one = diagnosis(nodule())
    png = montage_png(one, HOUNSFIELD)
    assert json.loads(picture_of(png).text["provenance"]) == provenance(one)
    assert montage_png(diagnosis(nodule()), HOUNSFIELD) == png


@pytest.mark.parametrize(("num_nodules", "num_rows"), [(0, 0), (1, 1), (4, 1), (5, 2), (12, 3), (13, 3)])
def test_twelve_nodules_are_shown_in_rows_of_four(num_nodules, num_rows):
    sizes = [picture_of(montage_png(diagnosis(*[nodule()] * num), HOUNSFIELD)).height for num in (num_nodules, 0)]
    overview_px = round(80 / 80 * OVERVIEW_PX)
    assert sizes[0] - sizes[1] == max(0, num_rows * (180 + 36 + 8) - overview_px)


def test_synthetic_data_is_called_so_and_no_findings_are_said():
    bare = rgb(montage_png(diagnosis(), HOUNSFIELD))
    synthetic = rgb(montage_png(diagnosis(is_synthetic=True), HOUNSFIELD))
    assert len(synthetic) == len(bare) + 18


@pytest.mark.parametrize("of", [grid(), grid(direction=FLIPPED)], ids=["upright", "flipped"])
def test_a_circle_marks_each_nodule_where_it_is_in_the_patient(of):
    """80 mm from head to feet are 420 pixels, so a mm has 5.25."""
    found = nodule((30, 32, 48), of=of, diameter_mm=8.0)
    picture = np.asarray(coronal_overview(diagnosis(found, of=of), HOUNSFIELD, [found]))
    assert picture.shape == (420, 336, 3)
    marked = np.argwhere((picture == MARK_COLOUR).all(axis=-1))
    x = 48.5 * 5.25 if of.direction[0] > 0 else 336 - 48.5 * 5.25
    y = 420 - 61 * 5.25
    distances = np.hypot(marked[:, 0] - y, marked[:, 1] - x)
    on_circle = np.abs(distances - (4 * 5.25 + 2)) < 1.5
    assert on_circle.sum() > 100
    assert not (distances < 20).any()


def test_findings_near_every_border_keep_their_number_in_the_picture():
    bare = np.asarray(coronal_overview(diagnosis(), HOUNSFIELD, []))
    drawn = []
    for index, col in ((0, 0), (39, 0), (0, 63), (39, 63)):
        found = nodule((index, 32, col), (0, 0, 0), diameter_mm=1.0)
        changed = (np.asarray(coronal_overview(diagnosis(found), HOUNSFIELD, [found])) != bare).any(axis=-1)
        drawn.append(int(changed.sum()))
    # Equal parts of the circles are in the picture, and all of the numbers; these overlap them a little.
    assert min(drawn) > max(drawn) - 40


def test_the_head_is_above_and_the_patients_left_on_the_right():
    hounsfield = np.full((40, 64, 64), -1000, dtype=np.int16)
    hounsfield[30:, :, 48:] = 400
    picture = np.asarray(coronal_overview(diagnosis(), hounsfield, []))[..., 0]
    quarters = {
        "top right": picture[:60, 290:320],
        "bottom right": picture[340:, 290:310],
        "top left": picture[:60, 20:40],
    }
    assert {name for name, part in quarters.items() if part.mean() > 200} == {"top right"}


def test_a_ct_of_one_value_is_drawn():
    picture = rgb(montage_png(diagnosis(nodule()), np.full((40, 64, 64), -800, dtype=np.int16)))
    assert picture.max() > picture.min()
