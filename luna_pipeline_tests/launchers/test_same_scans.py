"""The search as a whole: files of all formats, what is kept between searches, and what fails."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.bench_same_scans import recall_table, write_phantoms
from luna_pipeline.core.ct.catalogue import catalogue_series
from luna_pipeline.core.same_scans import jobs
from luna_pipeline.core.storage.s3 import RemoteStoreError
from luna_pipeline.launchers import same_scans
from luna_pipeline.launchers.same_scans import (
    find_same_scans,
    find_same_scans_below,
    is_search_due,
    no_same_scans,
    read_same_scans,
    write_same_scans,
)
from luna_pipeline.settings import Settings
from luna_pipeline_tests.core.ct.formats.test_luna25_block import official_metadata, write_block
from luna_pipeline_tests.core.same_scans.examples import noisy_tissue
from luna_pipeline_tests.phantoms import make_image


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    environment = {name: str(tmp_path / name) for name in ("LUNA_HOME", "LUNA_DATA_DIR", "LUNA_CACHE")}
    return Settings.from_environment(environment)


@pytest.fixture
def blocks(tmp_path: Path) -> Path:
    """A scan, a part of it, and another scan."""
    folder = tmp_path / "blocks"
    folder.mkdir()
    for name, values in (("a", noisy_tissue(0)), ("b", noisy_tissue(0)[5:, ::-1]), ("c", noisy_tissue(1))):
        np.savez(folder / f"{name}.npz", ct_chunk=values)
    return folder


def pairs_of(table: pd.DataFrame) -> list[tuple[str, str, str]]:
    return list(table[["series_a", "series_b", "kind"]].itertuples(index=False, name=None))


def test_every_copy_of_a_phantom_is_found_and_nothing_else(tmp_path: Path, settings: Settings, phantom_source: Path):
    made = write_phantoms(tmp_path / "copied", num_small=1, num_large=0, num_blocks=1)
    made |= {path.stem: [] for path in phantom_source.rglob("*.mhd")}
    result = find_same_scans_below(settings, [tmp_path / "copied", phantom_source], workers=1)
    *rows, false = list(recall_table(made, result))[2:]
    for row in rows:
        _, kind, copies, found, right, _ = (cell.strip() for cell in row.split("|"))
        if kind != "block 16x16x16":
            assert copies == found == right == "1", row
    assert len(rows) == 17
    assert false.strip() == "False matches: 0 of 123 pairs of different scans."
    assert (result.num_scans, result.num_read, result.failed) == (24, 24, {})


def test_an_unchanged_scan_is_not_read_again(settings: Settings, blocks: Path, monkeypatch):
    first = find_same_scans_below(settings, [blocks])
    assert pairs_of(first.table) == [("b", "a", "block of")]
    monkeypatch.setattr(same_scans, "_run", lambda jobs, workers: pytest.fail("a scan was read") if jobs else iter(()))
    second = find_same_scans_below(settings, [blocks])
    pd.testing.assert_frame_equal(second.table, first.table)
    assert (second.num_read, second.num_suspected) == (0, 1)


def test_a_changed_scan_is_read_again(settings: Settings, blocks: Path):
    find_same_scans_below(settings, [blocks])
    np.savez(blocks / "c.npz", ct_chunk=noisy_tissue(0)[::-1, :30])
    result = find_same_scans_below(settings, [blocks])
    assert result.num_read == 1
    assert pairs_of(result.table) == [("b", "a", "block of"), ("b", "c", "overlap"), ("c", "a", "block of")]


def test_what_was_read_before_an_interrupt_is_kept(settings: Settings, blocks: Path, monkeypatch):
    run = same_scans._run

    def interrupted(jobs, workers):
        yield next(iter(run(jobs, workers)))
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(same_scans, "_run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            find_same_scans_below(settings, [blocks])
    assert find_same_scans_below(settings, [blocks]).num_read == 2


def test_folders_leave_the_installation_unsearched(settings: Settings, blocks: Path):
    find_same_scans_below(settings, [blocks])
    assert not settings.tables_dir.exists()


def test_damaged_kept_tables_are_made_again(settings: Settings, blocks: Path):
    find_same_scans_below(settings, [blocks])
    for name in ("scan_signatures", "scan_comparisons"):
        (settings.cache_dir / "same_scans/tables" / f"{name}.parquet").write_bytes(b"no table")
    assert pairs_of(find_same_scans_below(settings, [blocks]).table) == [("b", "a", "block of")]


def test_kept_tables_that_cannot_be_read_now_are_not_overwritten(settings: Settings, blocks: Path, monkeypatch):
    find_same_scans_below(settings, [blocks])
    before = (settings.cache_dir / "same_scans/tables" / "scan_signatures.parquet").read_bytes()

    def refused(path, *, advice):
        raise RemoteStoreError("S3 must answer, got 503.")

    monkeypatch.setattr(same_scans, "read_table_file", refused)
    with pytest.raises(RemoteStoreError, match="503"):
        find_same_scans_below(settings, [blocks])
    assert (settings.cache_dir / "same_scans/tables" / "scan_signatures.parquet").read_bytes() == before


def test_what_cannot_be_read_is_named_and_stops_nothing(settings: Settings, blocks: Path):
    (blocks / "b.npz").write_bytes(b"no zip")
    (blocks / "d.mhd").write_text("NDims = 3")
    result = find_same_scans_below(settings, [blocks])
    assert sorted(result.failed) == ["b", "blocks/d.mhd"]
    assert (pairs_of(result.table), result.num_scans) == ([], 3)


def test_a_scan_that_is_damaged_after_its_signature_hides_no_copies_of_others(settings: Settings, blocks: Path):
    for name in "bc":
        np.savez(blocks / f"{name}.npz", ct_chunk=noisy_tissue(0))
    find_same_scans_below(settings, [blocks])
    (settings.cache_dir / "same_scans/tables/scan_comparisons.parquet").unlink()
    status = (blocks / "b.npz").stat()
    (blocks / "b.npz").write_bytes(bytes(status.st_size))
    os.utime(blocks / "b.npz", ns=(status.st_atime_ns, status.st_mtime_ns))
    # Another process has not read it before.
    jobs._voxels.cache_clear()
    result = find_same_scans_below(settings, [blocks])
    assert (pairs_of(result.table), list(result.failed)) == ([("a", "c", "equal")], ["b"])
    assert pairs_of(result.stored) == [("a", "c", "equal"), ("b", "", "not compared")]


def test_one_name_in_two_folders_is_told_apart_by_the_folders(settings: Settings, blocks: Path, tmp_path: Path):
    (tmp_path / "more").mkdir()
    # With size and time of the other file: the catalogue's fingerprints are equal.
    os.link(blocks / "a.npz", tmp_path / "more/a.npz")
    result = find_same_scans_below(settings, [blocks, tmp_path / "more"])
    assert pairs_of(result.table) == [
        ("a (blocks/a.npz)", "a (more/a.npz)", "equal"),
        ("b", "a (blocks/a.npz)", "block of"),
        ("b", "a (more/a.npz)", "block of"),
    ]


def test_other_scans_in_files_of_equal_names_sizes_and_times_are_no_pair(settings: Settings, tmp_path: Path):
    for folder, seed in (("a", 0), ("b", 1), ("c", 0)):
        (tmp_path / "three" / folder).mkdir(parents=True)
        np.save(tmp_path / "three" / folder / "ct.npy", noisy_tissue(seed))
        os.utime(tmp_path / "three" / folder / "ct.npy", ns=(10**18, 10**18))
    result = find_same_scans_below(settings, [tmp_path / "three"])
    assert (pairs_of(result.table), result.num_read) == ([("a/ct", "c/ct", "equal")], 3)


@pytest.mark.parametrize("inside", [".", "luna25_nodule_blocks", "luna25_nodule_blocks/image"])
def test_no_name_of_a_luna25_block_is_in_a_result(settings: Settings, tmp_path: Path, monkeypatch, inside: str):
    values = noisy_tissue(0, (30, 32, 32))
    for folder in ("a/data", "b/data"):
        write_block(tmp_path / folder, values, official_metadata(make_image(values)), name="100012_1_19990102")
    write_block(tmp_path / "b/data", values, {}, name="100013_1_19990102")
    monkeypatch.chdir(tmp_path / "a/data" / inside)
    result = find_same_scans_below(settings, [Path(), tmp_path / "b/data" / inside])
    assert (len(result.table), len(result.failed)) == (1, 1)
    assert "10001" not in f"{result.table.to_csv()} {result.failed}"


def test_a_catalogue_is_searched_and_its_table_is_read_back(settings: Settings, phantom_source: Path, tmp_path: Path):
    settings.data_dir.symlink_to(phantom_source)
    catalogue = catalogue_series(settings.data_dir, patient_key=b"k")
    assert read_same_scans(settings) is None
    result = find_same_scans(settings, catalogue.assign(data_source="luna16"), workers=1)
    assert (result.num_scans, len(result.table)) == (6, 0)
    write_same_scans(settings, result.table)
    assert len(read_same_scans(settings)) == 0


def test_a_search_is_due_with_several_sources_or_after_an_earlier_one(settings: Settings):
    catalogue = pd.DataFrame({"is_readable": [True, True], "data_source": ["luna16", "luna16"]})
    two = catalogue.assign(data_source=["luna16", "lidc_idri"])
    assert [is_search_due(settings, table, "auto") for table in (catalogue, two, two[["is_readable"]])] == [
        *(False, True, False)
    ]
    assert [is_search_due(settings, two, search) for search in ("always", "never")] == [True, False]
    with pytest.raises(ValueError, match="search must be one of auto, always, never, got 'maybe'"):
        is_search_due(settings, two, "maybe")
    settings.tables_dir.mkdir(parents=True)
    (settings.tables_dir / "scan_signatures.parquet").touch()
    assert is_search_due(settings, catalogue, "auto")
    assert no_same_scans(catalogue).table.empty
