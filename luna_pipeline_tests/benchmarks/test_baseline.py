from functools import partial

import numpy as np
import pytest
import SimpleITK as sitk

from benchmarks.data import make_candidates, make_hounsfield, make_site, points_in, uid_of
from benchmarks.growth import fit_line
from benchmarks.limits import ByteMover
from benchmarks.one_series import tutorial_cutter
from benchmarks.tutorial import TutorialCt, box_around, nearest_voxel, time_parts
from benchmarks.workload import Workload
from luna_pipeline.core.cutouts.tutorial_cache import read_tutorial_cutout

TINY = Workload(
    size_irc=(40, 96, 96),
    num_candidates=6,
    num_series=1,
    num_rate_series=2,
    num_table_series=5,
    num_table_rows=29,
)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return make_site(tmp_path_factory.mktemp("site") / "data", TINY)


def test_tables_have_the_rows_asked_for_and_two_series_in_one_place():
    uids = [uid_of(number) for number in range(5)]
    table = make_candidates(TINY, uids, same_places={3: 0})
    points = {uid: rows[["x_mm", "y_mm", "z_mm"]].to_numpy() for uid, rows in table.groupby("series_instance_uid")}
    assert [len(points[uid]) for uid in uids] == [6, 6, 6, 6, 5]
    assert table["candidate_id"].is_unique
    assert {len(uid) for uid in uids} == {64}
    np.testing.assert_array_equal(points[uids[0]], points[uids[3]])
    assert not np.array_equal(points[uids[0]], points[uids[1]])


def test_every_point_lies_in_the_ct(site):
    image = sitk.ReadImage(str(site.header_path(site.uids[0])))
    for point_xyz in points_in(TINY.size_irc, 200, seed=(5,)):
        index = image.TransformPhysicalPointToIndex(point_xyz.tolist())
        assert all(0 <= voxel < size for voxel, size in zip(index, image.GetSize(), strict=True))


def test_a_compressed_ct_has_three_quarters_of_the_bytes(tmp_path):
    image = sitk.GetImageFromArray(make_hounsfield((8, 512, 512), seed=(0,)))
    sitk.WriteImage(image, str(tmp_path / "ct.mhd"), useCompression=True)
    assert (tmp_path / "ct.zraw").stat().st_size == pytest.approx(0.75 * 8 * 512 * 512 * 2, rel=0.05)


def test_the_tutorials_box_moves_into_the_ct():
    center_irc = np.array([0, 50, 95], dtype=np.int16)
    assert box_around(center_irc, (32, 48, 48), (40, 96, 96)) == (slice(0, 32), slice(26, 74), slice(48, 96))


def test_the_tutorials_voxel_is_rounded_and_ordered_index_row_col():
    spacing_mm, origin_xyz = np.array([0.5, 1.0, 2.0], np.float32), np.array([10.0, 20.0, 30.0], np.float32)
    ct = TutorialCt(np.zeros((9, 9, 9), np.float32), origin_xyz, spacing_mm, np.eye(3, dtype=np.float32))
    points_xyz = np.array([[11.6, 24.4, 33.0], [10.0, 20.0, 46.9]], np.float32)
    assert nearest_voxel(ct, points_xyz[0]).tolist() == [2, 4, 3]
    assert nearest_voxel(ct, points_xyz).tolist() == [[2, 4, 3], [8, 0, 0]]


def test_the_tutorials_way_writes_the_tutorials_files(site, tmp_path):
    uid = site.uids[0]
    cutter = tutorial_cutter(site, TINY, out=tmp_path / "cache", has_csv=True)
    cutter.cut_series(uid)
    voxels = sitk.GetArrayFromImage(sitk.ReadImage(str(site.header_path(uid)))).clip(-1000, 1000)
    paths = sorted(cutter.out.glob("*.npz"))
    assert len(paths) == 6
    for path in paths:
        cutout = read_tutorial_cutout(path)
        box = box_around(cutout.center_irc.astype(np.int16), (32, 48, 48), voxels.shape)
        np.testing.assert_array_equal(cutout.ct_chunk, voxels[box])
        with np.load(path) as members:
            assert (members["ct_chunk"].dtype, members["center_irc"].dtype) == (np.float32, np.int16)
    lines = (cutter.out / "present_candidates.csv").read_text().splitlines()
    assert lines[0] == "seriesuid,coord_x,coord_y,coord_z,class,diameter_mm,file_path"
    assert [line.endswith(".npz") for line in lines[1:]] == [True] * 6 + [False] * 23


def test_the_parts_of_the_tutorials_way_write_the_same_files(site, tmp_path):
    for name in ("whole", "parts"):
        cutter = tutorial_cutter(site, TINY, out=tmp_path / name, has_csv=True)
        if name == "whole":
            cutter.cut_series(site.uids[0])
        else:
            assert list(time_parts(cutter, site.uids[0])) == ["read_and_convert", "place", "cut_and_write_npz", "csv"]
    whole, parts = ({path.name for path in (tmp_path / name).iterdir()} for name in ("whole", "parts"))
    assert whole == parts


@pytest.mark.parametrize("is_reserved", [True, False])
@pytest.mark.parametrize("is_synced", [True, False])
def test_the_limits_move_all_bytes(tmp_path, is_reserved, is_synced):
    content = np.random.default_rng(1).bytes(5000)
    (tmp_path / "source").write_bytes(content)
    mover = ByteMover(tmp_path / "source", target=tmp_path / "out" / "target", num_bytes=4096)
    mover.read_write(is_reserved=is_reserved, is_synced=is_synced)
    assert mover.target.stat().st_size == 4096
    assert any(mover.target.read_bytes())
    mover.remove()
    for move in (mover.read_write_fresh, partial(mover.send, is_reserved=is_reserved)):
        move()
        assert mover.target.read_bytes() == content[:4096]
        mover.remove()


def test_a_line_is_found_in_points_on_a_line():
    assert fit_line((100, 200, 500), [3.0, 4.0, 7.0]) == {
        "microseconds_a_candidate": 10.0,
        "intercept_ms": 2.0,
        "r_squared": 1.0,
    }
