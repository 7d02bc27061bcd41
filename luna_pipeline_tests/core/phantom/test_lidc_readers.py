"""Made-up readers of the phantom: outlines around the painted nodule, and their XML files."""

import math

import numpy as np
import pytest

from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.phantom.lidc_readers import NUM_READERS, draw_outlines
from luna_pipeline.core.phantom.lidc_xml import ct_message, xray_message
from luna_pipeline.core.phantom.nodules import draw_nodule
from luna_pipeline.core.sources.contours import mask_of_contours, measure
from luna_pipeline.core.sources.lidc_xml import RATING_TAGS, PointMark, SeriesReading, read_lidc_xml
from luna_pipeline.core.sources.reader_marks import Contour, ReaderMark

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
FLIPPED = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0)
TILTED = (1.0, 0.0, 0.0, 0.0, math.cos(0.25), -math.sin(0.25), 0.0, math.sin(0.25), math.cos(0.25))


def grid_of(direction=AXIAL, slice_mm=1.0) -> VoxelGrid:
    grid = VoxelGrid((40, 60, 60), (0.7, 0.7, slice_mm), (0.0, 0.0, 0.0), direction)
    middle = grid.voxel_to_world((19.5, 29.5, 29.5))
    x, y, z = (float(value) for value in -middle)
    return VoxelGrid(grid.size_irc, grid.spacing_mm, (x, y, z), direction)


@pytest.mark.parametrize("direction", [AXIAL, FLIPPED, TILTED], ids=["axial", "flipped", "tilted"])
@pytest.mark.parametrize("slice_mm", [0.6, 2.5])
@pytest.mark.parametrize("diameter_mm", [3.0, 6.0, 15.0])
def test_outlines_enclose_the_nodule_whatever_the_axes(direction, slice_mm, diameter_mm):
    rng = np.random.default_rng(5)
    grid = grid_of(direction, slice_mm)
    for _ in range(5):
        nodule = draw_nodule(rng, diameter_mm=diameter_mm).moved_to((1.3, -2.1, 0.4))
        size = measure(mask_of_contours(draw_outlines(rng, nodule, grid), grid), grid)
        # Bumps make a nodule larger than its diameter, and half a slice is the least that can be seen.
        assert np.linalg.norm(np.subtract(size.center_xyz, nodule.center_xyz)) < 0.3 + slice_mm / 2
        assert 0.8 * diameter_mm - 0.8 < size.diameter_mm < 1.25 * diameter_mm + 0.8


def test_readers_differ_and_a_seed_gives_the_same_outlines():
    nodule = draw_nodule(np.random.default_rng(1), diameter_mm=12.0)
    volumes = []
    for seed in (0, 0, 1, 2, 3):
        outlines = draw_outlines(np.random.default_rng(seed), nodule, grid_of())
        volumes.append(measure(mask_of_contours(outlines, grid_of()), grid_of()).volume_mm3)
    assert volumes[0] == volumes[1]
    assert len(set(volumes[1:])) == 4


def test_a_nodule_between_two_slices_is_a_ring_around_a_voxel():
    nodule = draw_nodule(np.random.default_rng(1), diameter_mm=3.0)
    thick = grid_of(slice_mm=10.0)
    between = nodule.moved_to(tuple(float(value) for value in thick.voxel_to_world((19.5, 30.0, 30.0))))
    (outline,) = draw_outlines(np.random.default_rng(0), between, thick)
    mask = mask_of_contours([outline], thick)
    assert mask.num_voxels == 1
    assert np.linalg.norm(measure(mask, thick).center_xyz - np.asarray(between.center_xyz)) <= 5.01


def test_an_xml_file_of_the_phantom_is_read_as_it_was_written(tmp_path):
    ratings = {name: 1 + number % highest for number, (name, (_, highest)) in enumerate(RATING_TAGS.items())}
    contours = (
        Contour(-3.25, True, np.array([(1, 2), (9, 2), (9, 11)])),
        Contour(-3.25, False, np.array([(6, 3), (7, 4), (6, 4)])),
    )
    marks = (ReaderMark("1.2.3", "0", 1, contours, ratings), ReaderMark("1.2.3", "1", 3, contours[:1], ratings))
    points = (PointMark("non-nodule", 0, 7.5, (3, 4)), PointMark("small nodule", 3, -8.0, (30, 40)))
    path = tmp_path / "1.xml"
    path.write_text(ct_message("1.2.3", "1.2", SeriesReading("1.2.3", NUM_READERS, marks, points, ())))
    found = read_lidc_xml(path)
    assert (found.series_instance_uid, found.num_readers, found.points, found.notes) == ("1.2.3", 4, points, ())
    assert [(mark.reader, mark.ratings) for mark in found.nodules] == [(1, ratings), (3, ratings)]
    outlines = [(it.z_mm, it.is_inclusion, it.points_cr.tolist()) for it in found.nodules[0].contours]
    assert outlines == [(it.z_mm, it.is_inclusion, it.points_cr.tolist()) for it in contours]


def test_an_x_ray_of_the_phantom_has_no_reading_of_a_ct(tmp_path):
    path = tmp_path / "1.xml"
    path.write_text(xray_message("1.2.3", "1.2"))
    assert read_lidc_xml(path) is None
