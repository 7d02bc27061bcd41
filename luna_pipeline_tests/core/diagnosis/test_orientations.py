"""A CT gives the same lungs and findings in all 24 orientations and with an oblique header."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from luna_pipeline.core.baselines.laplacian import laplacian_candidates
from luna_pipeline.core.lungs import coarse
from luna_pipeline.core.lungs.mask import find_lungs
from luna_pipeline.core.phantom.series import PhantomConfig, make_series
from luna_pipeline_tests.core.diagnosis.orientations import ORIENTATIONS, reoriented, rotation, turned_header

NAMES = [
    "".join(f"{'-' if flip else '+'}{'irc'[axis]}" for axis, flip in zip(*way, strict=True)) for way in ORIENTATIONS
]


@pytest.fixture(scope="module", autouse=True)
def blocks():
    """Blocks of several voxels, with a rest that no block holds: a view is the same from both ends."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coarse, "VOXELS_ACROSS", 24)
        yield


@pytest.fixture(scope="module")
def series():
    return make_series(PhantomConfig(3, 3, (48, 56, 65)))


@pytest.fixture(scope="module")
def upright(series):
    lungs = find_lungs(series.hounsfield, series.grid)
    return lungs, laplacian_candidates(series.hounsfield, series.grid, lungs, max_candidates=30)


def test_there_are_24_orientations():
    assert len(set(ORIENTATIONS)) == 24


@pytest.mark.parametrize("way", ORIENTATIONS, ids=NAMES)
def test_lungs_and_blobs_are_the_same_in_every_orientation(series, upright, way):
    hounsfield, grid = reoriented(series.hounsfield, series.grid, *way)
    lungs = find_lungs(hounsfield, grid)
    blobs = laplacian_candidates(hounsfield, grid, lungs, max_candidates=30)
    expected_lungs, expected = upright
    assert np.array_equal(lungs.mask, reoriented(expected_lungs.mask, series.grid, *way)[0])
    assert lungs.volume_ml == pytest.approx(expected_lungs.volume_ml)
    assert lungs.mask[lungs.box].sum() == expected_lungs.mask.sum()
    assert len(blobs.score) == len(expected.score) > 20
    np.testing.assert_allclose(blobs.center_xyz, expected.center_xyz, atol=1e-6)
    margin = lungs.searched(2.0).mask
    assert np.array_equal(margin, reoriented(expected_lungs.searched(2.0).mask, series.grid, *way)[0])


@pytest.mark.parametrize("degrees", [-20, 7, 30])
def test_an_oblique_header_turns_the_findings(series, upright, degrees):
    turn = rotation(degrees)
    grid = turned_header(series.grid, turn)
    lungs = find_lungs(series.hounsfield, grid)
    blobs = laplacian_candidates(series.hounsfield, grid, lungs, max_candidates=30)
    expected_lungs, expected = upright
    assert np.array_equal(lungs.mask, expected_lungs.mask)
    np.testing.assert_allclose(blobs.center_xyz, expected.center_xyz @ turn.T, atol=1e-6)


def test_an_oblique_scan_of_the_same_patient_shows_lungs_and_nodules_at_the_same_place(series, monkeypatch):
    monkeypatch.setattr(coarse, "VOXELS_ACROSS", 170)
    turned = turned_header(series.grid, rotation(15))
    middle = (np.asarray(series.grid.size_irc) - 1) / 2
    shift = series.grid.voxel_to_world(middle) - turned.voxel_to_world(middle)
    grid = replace(turned, origin_xyz=tuple(float(value) for value in np.asarray(turned.origin_xyz) + shift))
    world = grid.voxel_to_world(np.stack(np.indices(grid.size_irc), axis=-1))
    places = np.moveaxis(series.grid.world_to_voxel(world), -1, 0)
    oblique = np.rint(ndimage.map_coordinates(series.hounsfield.astype(float), places, order=1, cval=-1000))
    expected_lungs, lungs = find_lungs(series.hounsfield, series.grid), find_lungs(oblique.astype(np.int16), grid)
    expected = ndimage.map_coordinates(expected_lungs.mask.astype(float), places, order=1) > 0.5
    assert 2 * (expected & lungs.mask).sum() / (expected.sum() + lungs.mask.sum()) > 0.97
    before = laplacian_candidates(series.hounsfield, series.grid, expected_lungs).center_xyz
    after = laplacian_candidates(oblique.astype(np.int16), grid, lungs).center_xyz
    for nodule in series.findings.nodules:
        nearest = [found[np.linalg.norm(found - nodule.center_xyz, axis=1).argmin()] for found in (before, after)]
        assert np.abs(nearest[0] - nearest[1]).max() < 0.5 * max(grid.spacing_mm) + 0.1
