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
    corners = [nodule((i, 32, c), (0, 0, 0)) for i in (0, 39) for c in (0, 63)]
    bare = np.asarray(coronal_overview(diagnosis(), HOUNSFIELD, []))
    for found in corners:
        marked = np.asarray(coronal_overview(diagnosis(found), HOUNSFIELD, [found]))
        # A third of the circle has about 50 pixels, the number with its edge the others.
        assert (marked != bare).any(axis=-1).sum() > 100


def test_a_ct_of_one_value_is_drawn():
    montage_png(diagnosis(nodule()), np.full((40, 64, 64), -800, dtype=np.int16))
