"""Cutouts and their index from a data root, and their maintenance, without Dagster."""

import os
import shutil
import socket
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from luna_pipeline.core.cutouts.cutting import CuttingParameters
from luna_pipeline.core.cutouts.selection import CandidateSelection
from luna_pipeline.core.phantom.dataset import make_phantom
from luna_pipeline.launchers.cutout_maintenance import (
    export_tutorial_cutouts,
    import_tutorial_cutouts,
    verify_cutouts,
)
from luna_pipeline.launchers.cutting import CuttingRequest, create_cutouts
from luna_pipeline.launchers.installation import cutout_store
from luna_pipeline.launchers.pruning import prune
from luna_pipeline.settings import Settings

ALL = CuttingRequest(CuttingParameters(), CandidateSelection())


class Listener:
    """Records the progress."""

    def __init__(self) -> None:
        self.lines, self.states, self.outcomes, self.failures = [], {}, [], {}

    def report(self, line):
        self.lines.append(line)

    def on_plan(self, plan, needed_bytes, free_bytes):
        self.states = dict(zip(plan["series_instance_uid"], plan["state"], strict=True))

    def on_outcome(self, outcome):
        self.outcomes.append(outcome)

    def on_failure(self, uid, reason):
        self.failures[uid] = reason


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantom")
    make_phantom(folder, num_series=4, num_subsets=2, seed=1, size_irc=(40, 64, 64))
    return folder


@pytest.fixture
def settings(source, tmp_path) -> Settings:
    shutil.copytree(source, tmp_path / "data")
    return Settings(
        data_dir=tmp_path / "data", home=tmp_path / "home", mlflow_tracking_uri="", cache_dir=tmp_path / "c"
    )


def run(settings, request=ALL, **options):
    listener = Listener()
    return create_cutouts(settings, request, listener, **options), listener


def test_everything_is_made_and_the_next_look_does_nothing(settings):
    summary, listener = run(settings)
    assert (summary.num_cut, summary.failed) == (4, {})
    assert set(listener.states.values()) == {"missing"}
    index = pd.read_parquet(settings.tables_dir / "cutout_index.parquet")
    candidates = pd.read_parquet(settings.tables_dir / "candidates.parquet")
    assert sorted(index["candidate_id"]) == sorted(candidates["candidate_id"])
    assert run(settings)[0] is None


def test_an_edited_row_cuts_its_series_alone(settings):
    run(settings)
    path = settings.data_dir / "candidates_V2.csv"
    lines = path.read_text().splitlines()
    uid = lines[1].split(",")[0]
    path.write_text("\n".join([lines[0], *lines[2:]]) + "\n")
    summary, listener = run(settings)
    assert summary.cut == [uid]
    assert summary.num_current == 3
    assert sorted(listener.states.values()) == ["changed", "current", "current", "current"]


def test_a_new_class_cuts_nothing_and_shows_in_the_index(settings):
    run(settings)
    path = settings.data_dir / "candidates_V2.csv"
    lines = path.read_text().splitlines()
    flipped = "1" if lines[1].endswith("0") else "0"
    path.write_text("\n".join([lines[0], lines[1][:-1] + flipped, *lines[2:]]) + "\n")
    before = pd.read_parquet(settings.tables_dir / "cutout_index.parquet")
    assert run(settings)[0].num_current == 4
    after = pd.read_parquet(settings.tables_dir / "cutout_index.parquet")
    assert (before["class"] != after["class"]).sum() == 1


def test_a_deleted_and_a_damaged_file_are_cut_again(settings):
    run(settings)
    store = cutout_store(settings)
    first, second, *_ = store.uids()
    store.path(first).unlink()
    store.path(second).write_bytes(store.path(second).read_bytes()[:-100])
    summary, listener = run(settings)
    assert sorted(summary.cut) == [first, second]
    assert (listener.states[first], listener.states[second]) == ("missing", "damaged")


def test_a_sample_keeps_to_itself_when_a_series_is_added(settings, source):
    request = CuttingRequest(CuttingParameters((8, 8, 8)), CandidateSelection(training_length=6))
    hidden = sorted(settings.data_dir.glob("subset1/*"))[:2]
    for path in hidden:
        path.unlink()
    summary, listener = run(settings, request)
    assert summary.num_cut == 3
    assert any(line.startswith("Warning: Sampled candidates, not comparable: ") for line in listener.lines)
    counts = (
        pd.read_parquet(settings.tables_dir / "cutout_index.parquet")
        .groupby("series_instance_uid", observed=True)
        .size()
    )
    assert (counts == 6).all()
    for path in hidden:
        shutil.copy2(source / path.relative_to(settings.data_dir), path)
    summary, _ = run(settings, request)
    assert (summary.num_cut, summary.num_current) == (1, 3)


def test_a_broken_ct_fails_alone_and_is_tried_again(settings):
    path = next(settings.data_dir.rglob("*.raw"))
    content = path.read_bytes()
    path.write_bytes(content[:-2])
    summary, listener = run(settings)
    assert summary.num_cut == 3
    assert any(path.name in line for line in listener.lines)
    path.write_bytes(content)
    assert run(settings)[0].num_cut == 1


def test_damaged_files_are_found_and_removed_on_request(settings):
    run(settings)
    store = cutout_store(settings)
    uid = store.uids()[0]
    content = bytearray(store.path(uid).read_bytes())
    content[5000] ^= 1
    store.path(uid).write_bytes(content)
    lines: list[str] = []
    assert list(verify_cutouts(settings, repair=False, report=lines.append)) == [uid]
    assert "another CRC of ct_chunks" in lines[0]
    assert list(verify_cutouts(settings, repair=True, report=lines.append)) == [uid]
    assert verify_cutouts(settings, repair=False, report=lines.append) == {}
    assert run(settings)[0].cut == [uid]


def test_what_is_no_cutout_file_is_reported_and_the_rest_is_verified(settings):
    run(settings)
    folder = settings.cutouts_dir
    uid = cutout_store(settings).uids()[0]
    (folder / "1.2.npz").mkdir()
    os.mkfifo(folder / "1.3.npz")
    (folder / "1.4.npz").symlink_to("1.4.npz")
    (folder / "1.5.npz").symlink_to(folder / "gone")
    names = [b"1.6\xff.npz", b"1 7.npz", b"1.8.NPZ", b"9" * 230 + b".npz", b"line\nbreak.npz"]
    for name in names:
        Path(os.fsdecode(os.path.join(os.fsencode(folder), name))).write_bytes(b"")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "s.npz"))
    lines: list[str] = []
    damaged = verify_cutouts(settings, repair=True, report=lines.append)
    assert len(damaged) == 5 + len(names)
    assert [part for part in ("folder", "FIFO", "leads nowhere", "dangling", "socket") if part not in str(lines)] == []
    assert not [line for line in lines if not line.isprintable()]
    assert lines[-1].startswith(f"4 files are whole, {5 + len(names)} damaged (")
    assert cutout_store(settings).uids()[0] == uid


def test_nothing_to_verify_is_an_error(settings):
    with pytest.raises(FileNotFoundError, match="must be cutout files to verify, got none"):
        verify_cutouts(settings, repair=False, report=print)


def test_cutouts_of_a_ct_that_is_gone_stay_until_they_are_pruned(settings):
    run(settings)
    gone = next(settings.data_dir.rglob("*.mhd"))
    for path in gone.parent.glob(f"{gone.stem}.*"):
        path.unlink()
    summary, _ = run(settings)
    store = cutout_store(settings)
    assert (summary.num_current, len(store.uids())) == (3, 4)
    lines: list[str] = []
    assert prune(settings, is_removed=False, report=lines.append).cutouts == [gone.stem]
    assert len(store.uids()) == 4
    assert prune(settings, is_removed=True, report=lines.append).cutouts == [gone.stem]
    assert gone.stem not in store.uids()
    assert len(store.uids()) == 3


def test_the_tutorials_cache_goes_out_and_comes_back(settings, tmp_path):
    request = CuttingRequest(CuttingParameters(edge_rule="shift"), CandidateSelection())
    run(settings, request)
    store = cutout_store(settings)
    before = {uid: np.array(store.read(uid).ct_chunks) for uid in store.uids()}
    lines: list[str] = []
    assert export_tutorial_cutouts(settings, tmp_path / "cache", report=lines.append) > 0
    for uid in before:
        store.remove(uid)
    assert sorted(import_tutorial_cutouts(settings, tmp_path / "cache", report=lines.append)) == sorted(before)
    for uid, chunks in before.items():
        np.testing.assert_array_equal(np.asarray(store.read(uid).ct_chunks), chunks)
    assert run(settings, request)[0].num_current == 4
    os.unlink(next((tmp_path / "cache").iterdir()))
    for uid in before:
        store.remove(uid)
    assert len(import_tutorial_cutouts(settings, tmp_path / "cache", report=lines.append)) == 3


def test_files_of_another_request_are_not_taken_for_ones_own(settings):
    """Another run replaces a file at the end of this one: the next run finds it."""
    other = CuttingRequest(CuttingParameters(edge_rule="shift", chunk_shape_irc=(8, 8, 8)), CandidateSelection())

    class Meddling(Listener):
        def on_outcome(self, outcome):
            super().on_outcome(outcome)
            if len(self.outcomes) == 4:
                run(settings, other)

    listener = Meddling()
    assert create_cutouts(settings, ALL, listener).num_cut == 4
    assert run(settings)[0].num_cut == 4


def test_the_same_ct_in_two_folds_is_refused_before_it_is_indexed(settings):
    uid = next(settings.data_dir.glob("subset0/*.mhd")).stem
    for suffix in (".mhd", ".raw"):
        content = (settings.data_dir / f"subset0/{uid}{suffix}").read_bytes()
        (settings.data_dir / f"subset1/9.9{suffix}").write_bytes(content.replace(f"{uid}.raw".encode(), b"9.9.raw"))
    path = settings.data_dir / "candidates_V2.csv"
    rows = [line for line in path.read_text().splitlines() if line.startswith(uid)]
    path.write_text(path.read_text() + "".join(f"{row.replace(uid, '9.9')}\n" for row in rows))
    for _ in range(2):
        with pytest.raises(ValueError, match=r"A cutout must be in one fold, got \d+ that are in two: .*series 9.9"):
            run(settings)
        assert not (settings.tables_dir / "cutout_index.parquet").exists()


@pytest.mark.parametrize("uid", ["{}.mhd", "'{}", "9.9.9"])
def test_tables_of_other_cts_are_an_error_and_nothing_is_written(settings, uid):
    for name in ("candidates.csv", "candidates_V2.csv", "annotations.csv"):
        if (path := settings.data_dir / name).exists():
            header, *lines = path.read_text().splitlines()
            rows = [line.split(",", 1) for line in lines]
            path.write_text("\n".join([header, *(f"{uid.format(series)},{rest}" for series, rest in rows)]))
    listener = Listener()
    with pytest.raises(ValueError, match=r"must hold candidates or .* of readable CTs, got .* none of them"):
        create_cutouts(settings, ALL, listener)
    assert any("series uids differ" in line for line in listener.lines)
    assert not settings.tables_dir.exists()
    assert not settings.cutouts_dir.exists()


def test_a_selection_of_nothing_is_an_error(settings):
    (settings.data_dir / "annotations.csv").unlink()
    path = next(settings.data_dir.glob("candidates*.csv"))
    path.write_text("\n".join(line for line in path.read_text().splitlines() if not line.endswith(",1")))
    request = CuttingRequest(CuttingParameters(), CandidateSelection(max_negatives_per_series=0))
    with pytest.raises(ValueError, match="must be selected, got none of"):
        create_cutouts(settings, request, Listener())


def test_rejected_rows_are_reported_with_their_reason(settings):
    path = next(settings.data_dir.glob("candidates*.csv"))
    uid = path.read_text().splitlines()[1].split(",")[0]
    with path.open("a") as file:
        file.write(f"{uid},abc,0,0,0\n")
    listener = Listener()
    assert len(create_cutouts(settings, ALL, listener).cut) == 4
    assert any("Rejected 1 rows of" in line and "got 'abc'" in line for line in listener.lines)


def test_folds_that_were_made_before_are_kept(settings):
    run(settings)
    path = settings.tables_dir / "folds.parquet"
    mine = pd.read_parquet(path)
    mine["fold"] = [3, 1, 0, 2]
    mine.to_parquet(path)
    run(settings, CuttingRequest(CuttingParameters((8, 8, 8)), CandidateSelection()))
    assert pd.read_parquet(path)["fold"].tolist() == [3, 1, 0, 2]


def test_one_series_that_fails_leaves_the_others_in_the_index(settings):
    run(settings)
    store = cutout_store(settings)
    first = store.uids()[0]
    # A file cannot replace a folder.
    store.path(first).unlink()
    store.path(first).mkdir()
    summary, _ = run(settings)
    assert list(summary.failed) == [first]
    index = pd.read_parquet(settings.tables_dir / "cutout_index.parquet")
    assert set(index["series_instance_uid"]) == set(store.uids()) - {first}


def test_one_damaged_file_costs_the_others_neither_export_nor_import(settings, tmp_path):
    run(settings, CuttingRequest(CuttingParameters(edge_rule="shift"), CandidateSelection()))
    store, cache = cutout_store(settings), tmp_path / "cache"
    uids = store.uids()
    export_tutorial_cutouts(settings, cache, report=print)
    damaged = bytearray(store.path(uids[0]).read_bytes())
    damaged[5000] ^= 1
    store.path(uids[0]).write_bytes(damaged)
    lines: list[str] = []
    with pytest.raises(ValueError, match="must be whole, got 1 that are not"):
        export_tutorial_cutouts(settings, tmp_path / "other", report=lines.append)
    assert f"Left out {uids[0]}: A file of cutouts must be as written" in lines[0]
    assert {path.name.partition("_")[0] for path in (tmp_path / "other").iterdir()} == set(uids[1:])
    for uid in uids:
        store.remove(uid)
    next(cache.glob(f"{uids[1]}_*")).write_bytes(b"odd")
    assert sorted(import_tutorial_cutouts(settings, cache, report=lines.append)) == [uids[0], *uids[2:]]
    assert any(f"Left out {uids[1]}: A cutout of the original project must" in line for line in lines)


def test_the_cache_does_not_replace_what_was_cut(settings, tmp_path):
    run(settings)
    lines: list[str] = []
    export_tutorial_cutouts(settings, tmp_path / "cache", report=lines.append)
    before = [cutout_store(settings).digest(uid) for uid in cutout_store(settings).uids()]
    assert import_tutorial_cutouts(settings, tmp_path / "cache", report=lines.append) == []
    assert [cutout_store(settings).digest(uid) for uid in cutout_store(settings).uids()] == before


def test_without_a_request_every_candidate_is_cut_in_the_default_shape(settings):
    assert create_cutouts(settings).num_cut == 4
    assert create_cutouts(settings, ALL, Listener()) is None
