import dataclasses
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from luna_pipeline.core.ct.catalogue import catalogue_series
from luna_pipeline.core.ct.reading import CtReader, UnreadableCtError
from luna_pipeline.core.cutouts import fingerprint, service
from luna_pipeline.core.cutouts.cutting import CuttingParameters
from luna_pipeline.core.cutouts.service import NotEnoughDiskError
from luna_pipeline.core.cutouts.store import CutoutStore, CutoutWriteError
from luna_pipeline_tests.core.cutouts.data_root import PARAMETERS, UIDS, make_service, write_data_root
from luna_pipeline_tests.core.cutouts.test_cutting import extracted_by_itk, padded_by_itk


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Data root, catalogue and candidates that no test changes."""
    root = tmp_path_factory.mktemp("data")
    return (root, *write_data_root(root))


@pytest.fixture
def store(tmp_path: Path) -> CutoutStore:
    return CutoutStore(tmp_path / "home" / "cutouts")


@pytest.fixture
def cut_once(shared, store):
    make_service(*shared, store=store).cut_many()
    return shared


def states(plan: pd.DataFrame) -> dict[str, str]:
    return dict(zip(plan["series_instance_uid"], plan["state"], strict=True))


def test_every_cutout_is_what_simpleitk_extracts_from_the_file(shared, store):
    root, _, candidates = shared
    make_service(*shared, store=store).cut_many()
    for uid in UIDS:
        image = sitk.ReadImage(str(root / f"{uid}.mhd"))
        padded = padded_by_itk(image, PARAMETERS)
        cutouts = store.read(uid)
        points = candidates.set_index("candidate_id")[["x_mm", "y_mm", "z_mm"]]
        assert set(cutouts.candidate_id) == set(candidates.query("series_instance_uid == @uid")["candidate_id"])
        for row, candidate_id in enumerate(cutouts.candidate_id):
            point_xyz = points.loc[candidate_id].to_numpy()
            np.testing.assert_array_equal(cutouts.ct_chunks[row], extracted_by_itk(padded, point_xyz, PARAMETERS))
            np.testing.assert_array_equal(cutouts.center_xyz[row], point_xyz)
            expected_irc = image.TransformPhysicalPointToIndex(point_xyz.tolist())[::-1]
            assert cutouts.center_irc[row].tolist() == list(expected_irc)


@pytest.mark.seed_defect(29)
def test_the_header_states_where_the_cutouts_come_from(cut_once, store):
    root, catalogue, _ = cut_once
    image = sitk.ReadImage(str(root / f"{UIDS[2]}.mhd"))
    header = store.header(UIDS[2])
    np.testing.assert_allclose(header["direction"], image.GetDirection(), atol=1e-12)
    assert tuple(header["spacing_mm"]) == image.GetSpacing()
    assert tuple(header["origin_xyz"]) == image.GetOrigin()
    recorded = catalogue.set_index("series_instance_uid").loc[UIDS[2], "fingerprint"]
    assert header["fingerprints"]["ct"] == recorded


@pytest.mark.seed_defect(27)
def test_shift_keeps_the_true_centre(shared, store):
    parameters = CuttingParameters((4, 6, 6), edge_rule="shift")
    make_service(*shared, store=store, parameters=parameters).cut_many()
    cutouts = store.read(UIDS[0])
    row = int(np.flatnonzero((cutouts.center_irc == 0).all(axis=1))[0])
    hounsfield = sitk.GetArrayFromImage(sitk.ReadImage(str(shared[0] / f"{UIDS[0]}.mhd")))
    np.testing.assert_array_equal(cutouts.ct_chunks[row], hounsfield[:4, :6, :6])
    assert cutouts.header["edge_rule"] == "shift"


@pytest.mark.seed_defect(33)
def test_a_second_run_cuts_nothing_and_says_so(shared, store):
    first = make_service(*shared, store=store).cut_many()
    stamps = {uid: store.path(uid).stat().st_mtime_ns for uid in UIDS}
    seen = []
    second = make_service(*shared, store=store).cut_many(on_outcome=seen.append)
    assert (first.cut, first.current, first.num_cut) == (UIDS, [], 3)
    assert (second.cut, second.current, second.num_current) == ([], UIDS, 3)
    assert stamps == {uid: store.path(uid).stat().st_mtime_ns for uid in UIDS}
    assert [(o.series_instance_uid, o.outcome, o.num_candidates) for o in seen] == [(uid, "current", 4) for uid in UIDS]
    assert [o.num_bytes for o in seen] == [store.path(uid).stat().st_size for uid in UIDS]
    assert [o.fingerprint for o in seen] == [store.digest(uid) for uid in UIDS]


def test_tables_in_another_order_give_equal_bytes(shared, store, tmp_path):
    root, catalogue, candidates = shared
    other = CutoutStore(tmp_path / "other")
    make_service(*shared, store=store).cut_many()
    make_service(root, catalogue.iloc[::-1], candidates.iloc[::-1], store=other).cut_many()
    for uid in UIDS:
        assert store.path(uid).read_bytes() == other.path(uid).read_bytes()


def test_a_series_without_candidates_has_an_empty_file(shared, store):
    root, catalogue, candidates = shared
    few = candidates[candidates["series_instance_uid"] != UIDS[1]]
    make_service(root, catalogue, few, store=store).cut_many()
    cutouts = store.read(UIDS[1])
    assert cutouts.ct_chunks.shape == (0, 4, 6, 6)
    assert store.check(UIDS[1]) is None
    assert set(states(make_service(root, catalogue, few, store=store).plan()).values()) == {"current"}


@pytest.mark.parametrize("label", ["class", "diameter_mm", "malignancy", "is_malignant", "source"])
def test_a_changed_label_recuts_nothing(cut_once, store, label):
    root, catalogue, candidates = cut_once
    edited = candidates.assign(**{label: 1})
    assert make_service(root, catalogue, edited, store=store).cut_many().cut == []


@pytest.mark.seed_defect(33)
def test_edited_added_and_removed_rows_recut_exactly_their_series(cut_once, store):
    root, catalogue, candidates = cut_once
    edited = candidates.copy()
    edited.loc[edited.index[edited["series_instance_uid"] == UIDS[0]][1], "x_mm"] += 0.7
    added = candidates[candidates["series_instance_uid"] == UIDS[2]].tail(1)
    edited = pd.concat([edited, added.assign(candidate_id=17)], ignore_index=True)
    plan = make_service(root, catalogue, edited, store=store).plan()
    assert states(plan) == {UIDS[0]: "changed", UIDS[1]: "current", UIDS[2]: "changed"}
    assert plan["why"].tolist() == ["rows", "", "rows"]
    assert plan["num_rows"].tolist() == [4, 4, 5]
    assert make_service(root, catalogue, edited, store=store).cut_many().cut == [UIDS[0], UIDS[2]]
    fewer = edited.drop(index=edited.index[edited["series_instance_uid"] == UIDS[1]][0])
    assert make_service(root, catalogue, fewer, store=store).cut_many().cut == [UIDS[1]]
    assert len(store.read(UIDS[1]).candidate_id) == 3


def test_changed_parameters_or_code_recut_everything(cut_once, store, monkeypatch):
    wide = CuttingParameters((4, 6, 6), hu_window=(-1000, 400))
    plan = make_service(*cut_once, store=store, parameters=wide).plan()
    assert plan["why"].tolist() == ["parameters"] * 3
    monkeypatch.setattr(fingerprint, "CUTTING_CODE_VERSION", "next")
    plan = make_service(*cut_once, store=store, parameters=wide).plan()
    assert plan["why"].tolist() == ["parameters, code"] * 3
    summary = make_service(*cut_once, store=store, parameters=wide).cut_many()
    assert summary.cut == UIDS
    assert store.header(UIDS[0])["hu_window"] == [-1000, 400]


def test_a_changed_ct_recuts_its_series(tmp_path, store):
    root = tmp_path / "data"
    _, candidates = write_data_root(root)
    make_service(root, catalogue_series(root, patient_key=b"key"), candidates, store=store).cut_many()
    raw = root / f"{UIDS[1]}.raw"
    raw.write_bytes(raw.read_bytes()[2:] + raw.read_bytes()[:2])
    os.utime(raw, ns=(0, 12345))
    changed = make_service(root, catalogue_series(root, patient_key=b"key"), candidates, store=store)
    assert changed.plan()["why"].tolist() == ["", "ct", ""]
    assert changed.cut_many().cut == [UIDS[1]]


def test_deleted_and_damaged_files_are_cut_again_as_they_were(cut_once, store):
    before = {uid: store.path(uid).read_bytes() for uid in UIDS}
    store.path(UIDS[0]).unlink()
    store.path(UIDS[1]).write_bytes(before[UIDS[1]][:-100])
    store.path(UIDS[2]).write_bytes(before[UIDS[0]])
    plan = make_service(*cut_once, store=store).plan()
    assert states(plan) == {UIDS[0]: "missing", UIDS[1]: "damaged", UIDS[2]: "damaged"}
    assert "truncated" in plan["why"][1]
    assert UIDS[0] in plan["why"][2]
    make_service(*cut_once, store=store).cut_many()
    assert before == {uid: store.path(uid).read_bytes() for uid in UIDS}


def test_the_plan_says_how_much_will_be_written(shared, store):
    plan = make_service(*shared, store=store).plan()
    assert states(plan) == dict.fromkeys(UIDS, "missing")
    make_service(*shared, store=store).cut_many()
    for uid, num_bytes in zip(plan["series_instance_uid"], plan["num_bytes"], strict=True):
        assert 0 <= num_bytes - store.path(uid).stat().st_size < 4096
    assert make_service(*shared, store=store).plan()["num_bytes"].tolist() == [0, 0, 0]


@pytest.mark.seed_defect(17, 28, 34)
def test_a_broken_ct_fails_by_name_and_the_others_are_cut(tmp_path, store):
    root = tmp_path / "data"
    catalogue, candidates = write_data_root(root)
    raw = root / f"{UIDS[1]}.raw"
    raw.write_bytes(raw.read_bytes()[:-2])
    seen = []
    summary = make_service(root, catalogue, candidates, store=store).cut_many(
        on_failure=lambda uid, why: seen.append((uid, why))
    )
    assert summary.cut == [UIDS[0], UIDS[2]]
    assert seen == list(summary.failed.items())
    assert list(summary.failed) == [UIDS[1]]
    assert "\n" not in summary.failed[UIDS[1]]
    assert store.uids() == [UIDS[0], UIDS[2]]


@pytest.mark.seed_defect(28)
def test_a_candidate_outside_its_ct_is_named(shared, store):
    root, catalogue, candidates = shared
    stray = candidates.copy()
    stray.loc[0, "x_mm"] += 10_000
    summary = make_service(root, catalogue, stray, store=store).cut_many()
    assert "CT of shape (12, 20, 24), got voxel" in summary.failed[UIDS[0]]
    x_mm, y_mm, z_mm = stray.loc[0, ["x_mm", "y_mm", "z_mm"]]
    assert f"of ({x_mm}, {y_mm}, {z_mm}) mm (1 such, series 1.2.1)" in summary.failed[UIDS[0]]
    assert summary.cut == UIDS[1:]


def test_series_that_cannot_be_read_or_are_unknown_fail_by_their_reason(shared, store):
    root, catalogue, candidates = shared
    broken = catalogue.copy()
    broken.loc[1, ["is_readable", "reason"]] = [False, "Sizes must agree, got 3."]
    cutting = make_service(root, broken, candidates, store=store)
    assert states(cutting.plan([UIDS[1], "9.9"])) == {UIDS[1]: "unreadable", "9.9": "unreadable"}
    assert list(states(cutting.plan())) == [UIDS[0], UIDS[2]]
    summary = cutting.cut_many([UIDS[1], "9.9", UIDS[0]])
    assert summary.cut == [UIDS[0]]
    assert summary.failed[UIDS[1]] == "Sizes must agree, got 3."
    assert "in the catalogue, got 9.9 (of 2 readable series)" in summary.failed["9.9"]
    with pytest.raises(UnreadableCtError):
        cutting.cut_series("9.9")


@pytest.mark.seed_defect(31)
def test_a_second_copy_of_a_series_does_not_hide_the_first(shared, store):
    root, catalogue, candidates = shared
    copy = catalogue.iloc[[0]].assign(is_readable=False, path="elsewhere.mhd", reason="Duplicate series")
    cutting = make_service(root, pd.concat([copy, catalogue]), candidates, store=store)
    assert cutting.cut_many().cut == UIDS


def test_thin_cts_are_cut_under_pad_and_refused_under_shift(shared, store):
    tall = (32, 6, 6)
    refused = make_service(*shared, store=store, parameters=CuttingParameters(tall, edge_rule="shift")).cut_many()
    assert list(refused.failed) == UIDS
    assert "at least (32, 6, 6) voxels, got (12, 20, 24)" in refused.failed[UIDS[0]]
    assert store.uids() == []
    assert make_service(*shared, store=store, parameters=CuttingParameters(tall)).cut_many().cut == UIDS


def test_too_small_a_disk_is_refused_before_cutting(shared, store, monkeypatch):
    free = 10_000
    monkeypatch.setattr(service.shutil, "disk_usage", lambda _: os_usage(free))
    cutting = make_service(*shared, store=store)
    needed = int(cutting.plan()["num_bytes"].sum())
    with pytest.raises(NotEnoughDiskError, match=f"{needed} bytes needed and {free} bytes free") as caught:
        cutting.cut_many()
    assert "\n" not in str(caught.value)
    assert store.uids() == []
    free = needed
    assert cutting.check_free_space(cutting.plan()) == (needed, needed)
    assert cutting.cut_many().cut == UIDS


def test_files_that_are_replaced_need_room_for_one_beside_them(cut_once, store, monkeypatch):
    parameters = CuttingParameters((4, 6, 6), hu_window=(-1000, 400))
    plan = make_service(*cut_once, store=store, parameters=parameters).plan()
    needed, free = make_service(*cut_once, store=store, parameters=parameters).check_free_space(plan)
    one, excess = int(plan["num_bytes"][0]), int(plan["num_bytes"][0]) - store.path(UIDS[0]).stat().st_size
    assert one <= needed <= one + 3 * excess
    assert free > needed


def os_usage(free: int):
    import shutil

    return shutil._ntuple_diskusage(10 * free, 9 * free, free)  # type: ignore[attr-defined]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 kB, where the machine allows mounting one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_fails_before_and_while_writing_and_leaves_whole_files(shared, small_disk, monkeypatch):
    big = CuttingParameters((12, 20, 24))
    store = CutoutStore(small_disk / "cutouts")
    cutting = make_service(*shared, store=store, parameters=big)
    with pytest.raises(NotEnoughDiskError, match="bytes needed and 65536 bytes free"):
        cutting.cut_many()
    # Another program fills the disk after the check.
    monkeypatch.setattr(cutting, "check_free_space", lambda plan: (0, 0))
    summary = cutting.cut_many()
    assert (summary.cut, list(summary.failed)) == ([UIDS[0]], UIDS[1:])
    assert "written whole, got No space left on device (series 1.2.2" in summary.failed[UIDS[1]]
    assert os.listdir(store.root) == [f"{UIDS[0]}.npz"]
    assert store.check(UIDS[0]) is None


def test_a_read_only_folder_is_one_clear_line(shared, small_disk):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    small = make_service(*shared, store=CutoutStore(small_disk / "cutouts"))
    summary = small.cut_many()
    assert "written whole, got Read-only file system (series 1.2.1" in summary.failed[UIDS[0]]
    assert all("\n" not in reason for reason in summary.failed.values())
    with pytest.raises(CutoutWriteError):
        small.cut_series(UIDS[0])


def test_a_file_in_place_of_the_folder_is_one_clear_line(shared, tmp_path):
    (tmp_path / "home").write_text("a file")
    summary = make_service(*shared, store=CutoutStore(tmp_path / "home")).cut_many()
    assert list(summary.failed) == UIDS
    assert "written whole, got File exists" in summary.failed[UIDS[0]]


def test_one_ct_and_a_few_chunks_are_in_memory_at_a_time_however_many_candidates(shared, store, monkeypatch):
    big, read = np.zeros((64, 256, 512), dtype=np.int16), CtReader.read
    big[:32] = -1000

    def read_big_ct(reader):
        return dataclasses.replace(read(reader), hounsfield=big.copy())

    monkeypatch.setattr(CtReader, "read", read_big_ct)
    root, catalogue, candidates = shared
    many = pd.concat([candidates.assign(candidate_id=candidates["candidate_id"] // 64 + n) for n in range(64)])
    parameters = CuttingParameters((16, 64, 64))
    cutting = make_service(root, catalogue, many.reset_index(drop=True), store=store, parameters=parameters)
    assert cutting.plan()["num_bytes"].min() > 1.9 * big.nbytes, "the chunks of one series are far more than the room"
    tracemalloc.start()
    assert cutting.cut_many().cut == UIDS
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < big.nbytes + 2 * (2 << 20) + 500_000


def test_an_asked_for_order_is_kept(shared, store):
    assert make_service(*shared, store=store).cut_many(UIDS[::-1]).cut == UIDS[::-1]


def test_importing_the_service_reads_nothing_of_torch():
    code = "import sys, luna_pipeline.core.cutouts.service; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
