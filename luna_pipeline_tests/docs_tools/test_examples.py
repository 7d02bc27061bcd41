"""Numbers that the explanations work out by hand are those of the code."""

import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from docs_tools.build import DOCS
from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.evaluation.froc_files import FrocTables, read_froc_tables
from luna_pipeline.core.evaluation.official import evaluate_froc

PLACES = {"on nodule A": ("s1", 0), "on nodule B": ("s2", 0), "on a finding of the excluded list": ("s2", 200)}


@pytest.fixture(scope="module")
def rows() -> list[list[str]]:
    """The table of eight marks."""
    page = (DOCS / "explanation/froc.md").read_text()
    return [[cell.strip() for cell in line.strip("| ").split("|")] for line in re.findall(r"^\| 0\.\d+ .*", page, re.M)]


def _tables(tmp_path: Path, rows: list[list[str]]) -> FrocTables:
    far = iter(range(400, 1000, 100))
    marks = []
    for score, mark, *_ in rows:
        scan, x_mm = PLACES.get(mark.removesuffix(" again"), ("s1", None))
        marks.append(f"{scan},{x_mm if x_mm is not None else next(far)},0,{1 if 'again' in mark else 0},{score}")
    header = "seriesuid,coordX,coordY,coordZ"
    files = {
        "predictions": "\n".join([f"{header},probability", *marks]),
        "annotations": f"{header},diameter_mm\ns1,0,0,0,8\ns2,0,0,0,8\ns2,100,0,0,8",
        "excluded": f"{header},diameter_mm\ns2,200,0,0,8",
        "series": "s1\ns2",
    }
    for name, text in files.items():
        (tmp_path / f"{name}.csv").write_text(text + "\n")
    return read_froc_tables(**{name: tmp_path / f"{name}.csv" for name in files})


def test_the_eight_marks_have_the_score_of_the_page(tmp_path: Path, rows: list[list[str]]):
    assert len(rows) == 8
    curve = evaluate_froc(_tables(tmp_path, rows)).curve
    assert np.allclose(curve.sens_at_points, [1 / 3, 1 / 3, 2 / 3, 2 / 3, 2 / 3, 2 / 3, 2 / 3])
    assert f"{curve.cpm:.3f}" == "0.571"


def test_every_point_of_the_curve_is_a_row_of_the_eight_marks(tmp_path: Path, rows: list[list[str]]):
    curve = evaluate_froc(_tables(tmp_path, rows)).curve
    # The curve leaves out points on a straight line between others.
    points = {float(score): (float(Fraction(fps)), float(Fraction(found))) for score, _, _, fps, found in rows}
    assert len(curve.threshold) >= 5
    for threshold, fps_per_scan, sensitivity in zip(
        curve.threshold[1:], curve.fps_per_scan[1:], curve.sensitivity[1:], strict=True
    ):
        assert points[threshold] == pytest.approx((fps_per_scan, sensitivity))


def test_the_voxel_of_the_page_on_geometry():
    grid = VoxelGrid((240, 512, 512), (0.75, 0.75, 1.25), (-195, -195, -300), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    assert "(160, 200, 100)" in (DOCS / "explanation/geometry.md").read_text()
    assert grid.nearest_voxel((-120, -45, -100)).tolist() == [160, 200, 100]
