"""A whole diagnosis of a small phantom, in all orientations."""

from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest
import torch
from scipy import ndimage

from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.ct.orientation import AxialView
from luna_pipeline.core.ct.reading import Ct
from luna_pipeline.core.diagnosis.diagnose import diagnose
from luna_pipeline.core.diagnosis.recipes import book, default
from luna_pipeline.core.lungs.mask import NoLungsError, find_lungs
from luna_pipeline.core.metrics.decision import Decision
from luna_pipeline.core.phantom.series import PhantomConfig, make_series
from luna_pipeline_tests.diagnosis_models import diagnosis_models

RECIPE = default().with_changes(lung_margin_mm=0.0, min_diameter_mm=2.0, merge_mm=0.5)


@pytest.fixture(scope="module")
def ct() -> Ct:
    # An oblique CT.
    series = make_series(PhantomConfig(seed=2, number=5, size_irc=(32, 56, 56)))
    return Ct("1.2.3", series.hounsfield, series.grid, ())


@pytest.fixture(scope="module")
def found(ct: Ct):
    return diagnose(ct, diagnosis_models(), RECIPE)


def reoriented(ct: Ct, axes, flips) -> Ct:
    """The same patient with permuted and flipped array axes, and the grid that says so."""
    grid = ct.grid
    columns = np.asarray(grid.direction).reshape(3, 3).T[::-1]
    start = [size - 1 if flip else 0 for size, flip in zip(np.take(grid.size_irc, axes), flips, strict=True)]
    first = np.zeros(3)
    first[list(axes)] = start
    signed = columns[list(axes)] * np.where(flips, -1.0, 1.0)[:, None]
    spacing_irc = grid.spacing_irc[list(axes)]
    new = VoxelGrid(
        size_irc=tuple(int(size) for size in np.take(grid.size_irc, axes)),
        spacing_mm=tuple(float(value) for value in spacing_irc[::-1]),
        origin_xyz=tuple(float(value) for value in grid.voxel_to_world(first)),
        direction=tuple(float(value) for value in signed[::-1].T.ravel()),
    )
    steps = tuple(slice(None, None, -1 if flip else 1) for flip in flips)
    return Ct("1.2.3", np.ascontiguousarray(ct.hounsfield.transpose(axes)[steps]), new, ())


def test_nodules_are_sorted_and_lie_in_the_ct_within_the_lungs(ct: Ct, found):
    assert len(found.nodules) >= 5
    lungs = find_lungs(ct.hounsfield, ct.grid)
    for nodule in found.nodules:
        voxels = ct.hounsfield[nodule.box]
        assert (voxels[nodule.mask] > -100).all()
        assert lungs.mask[nodule.box][nodule.mask].all()
        assert nodule.volume_mm3 == pytest.approx(nodule.mask.sum() * np.prod(ct.grid.spacing_mm))
        center = np.asarray(ndimage.center_of_mass(nodule.mask)) + nodule.mask_start_irc
        np.testing.assert_allclose(nodule.center_xyz, ct.grid.voxel_to_world(center), atol=1e-6)
        np.testing.assert_array_equal(nodule.center_irc, ct.grid.nearest_voxel(nodule.center_xyz))
        assert 0 <= nodule.probability <= 1
        assert 0 <= nodule.malignancy <= 1
    assert found.lung_volume_ml == pytest.approx(lungs.volume_ml)
    assert list(found.seconds) == ["lungs", "segmentation", "grouping", "classification", "malignancy"]


def test_all_24_orientations_give_the_same_nodules(ct: Ct, found):
    num_proper = 0
    for axes, flips in product(permutations(range(3)), product((False, True), repeat=3)):
        sign = np.linalg.det(np.eye(3)[list(axes)]) * np.prod(np.where(flips, -1.0, 1.0))
        if sign < 0:
            continue
        num_proper += 1
        turned = reoriented(ct, axes, flips)
        np.testing.assert_allclose(AxialView(turned.grid).grid.origin_xyz, AxialView(ct.grid).grid.origin_xyz)
        other = diagnose(turned, diagnosis_models(), RECIPE)
        assert len(other.nodules) == len(found.nodules)
        for one, two in zip(found.nodules, other.nodules, strict=True):
            np.testing.assert_allclose(one.center_xyz, two.center_xyz, atol=1e-6)
            assert (one.probability, one.malignancy) == (two.probability, two.malignancy)
            assert (one.diameter_mm, one.long_axis_mm) == pytest.approx((two.diameter_mm, two.long_axis_mm))
            assert (turned.hounsfield[two.box][two.mask] > -100).all()
            assert turned.grid.contains(two.center_irc)
    assert num_proper == 24


def test_twice_is_equal_to_the_bit(ct: Ct, found):
    again = diagnose(ct, diagnosis_models(), RECIPE, lungs=find_lungs(ct.hounsfield, ct.grid))
    for one, two in zip(found.nodules, again.nodules, strict=True):
        assert (one.center_xyz, one.probability, one.malignancy) == (two.center_xyz, two.probability, two.malignancy)
        np.testing.assert_array_equal(one.mask, two.mask)
    assert next(iter(again.seconds)) == "segmentation"


def test_probabilities_are_calibrated_and_sorted_by_score_where_they_tie(ct: Ct, found):
    steps = Decision(isotonic_scores=(0.0, 1.0), isotonic_probabilities=(0.25, 0.25))
    tied = diagnose(ct, diagnosis_models(decision=steps), RECIPE)
    assert {nodule.probability for nodule in tied.nodules} == {0.25}
    assert [nodule.center_xyz for nodule in tied.nodules] == [nodule.center_xyz for nodule in found.nodules]


def test_without_a_malignancy_model_there_is_no_malignancy(ct: Ct):
    found = diagnose(ct, diagnosis_models(has_malignancy=False), RECIPE)
    assert {nodule.malignancy for nodule in found.nodules} == {None}
    assert found.model("malignancy") is None
    assert "malignancy" not in found.seconds


def test_the_book_searches_the_whole_ct(ct: Ct, found):
    whole = diagnose(ct, diagnosis_models(), book())
    assert whole.lung_volume_ml is None
    assert "lungs" not in whole.seconds
    assert max(nodule.diameter_mm for nodule in whole.nodules) > max(nodule.diameter_mm for nodule in found.nodules)


def test_a_reached_limit_and_doubtful_models_are_said_in_the_notes(ct: Ct):
    models = diagnosis_models()
    segmenter = replace(models.segmenter, version=replace(models.segmenter.version, has_unknown_origin=True))
    classifier = replace(models.classifier, version=replace(models.classifier.version, has_seen_series=True))
    models = replace(models, segmenter=segmenter, classifier=classifier)
    found = diagnose(ct, models, RECIPE.with_changes(max_findings=2))
    assert len(found.nodules) == 2
    limit, unknown, seen = found.notes[-3:]
    assert "limit of 2 findings" in limit
    assert "unknown scans" in unknown
    assert "was trained or validated on this series" in seen


def test_an_empty_result_and_a_ct_without_lungs(ct: Ct):
    nothing = diagnose(ct, diagnosis_models(), RECIPE.with_changes(min_diameter_mm=100.0))
    assert nothing.nodules == ()
    water = Ct("1.2.3", np.zeros_like(ct.hounsfield), ct.grid, ())
    with pytest.raises(NoLungsError):
        diagnose(water, diagnosis_models(), RECIPE)


def test_the_progress_names_each_stage_with_its_parts(ct: Ct):
    seen = []
    diagnose(ct, diagnosis_models(), RECIPE, on_progress=lambda *values: seen.append(values))
    assert list(dict.fromkeys(stage for stage, _, _ in seen)) == [
        "lungs",
        "segmentation",
        "grouping",
        "classification",
        "malignancy",
    ]
    assert all(0 <= done <= total for _, done, total in seen)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_finds_the_same_nodules(ct: Ct, found):
    on_gpu = diagnose(ct, diagnosis_models(), RECIPE, device="cuda")
    assert [nodule.center_xyz for nodule in on_gpu.nodules] == [nodule.center_xyz for nodule in found.nodules]
    for one, two in zip(on_gpu.nodules, found.nodules, strict=True):
        np.testing.assert_array_equal(one.mask, two.mask)
        assert (one.probability, one.malignancy) == pytest.approx((two.probability, two.malignancy), abs=1e-3)


def test_a_cutout_around_a_centre_between_two_voxels_is_at_the_even_one_as_in_the_book(monkeypatch):
    cut_at = []

    def classify(_network, _hounsfield, grid, centers_xyz, **_options):
        cut_at.append(grid.world_to_voxel(centers_xyz))
        return np.full(len(centers_xyz), 0.5)

    monkeypatch.setattr("luna_pipeline.core.diagnosis.diagnose.classify", classify)
    hounsfield = np.full((20, 24, 28), -900, dtype=np.int16)
    hounsfield[5, 8, 10:12] = hounsfield[9:11, 15, 15] = hounsfield[16, 3:5, 21:23] = 100
    grid = VoxelGrid(hounsfield.shape, (0.7, 0.7, 2.5), (-10.3, 5.7, 30.1), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    recipe = book().with_changes(erosion_voxels=0)
    diagnosis = diagnose(Ct("1.2.3", hounsfield, grid, ()), diagnosis_models(has_malignancy=False), recipe)
    assert len(diagnosis.nodules) == 3
    assert sorted(np.rint(cut_at[0]).astype(int).tolist()) == [[5, 8, 10], [10, 15, 15], [16, 4, 22]]
    assert max(abs(value - round(value)) for value in cut_at[0].ravel()) < 1e-6
