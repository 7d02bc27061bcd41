"""The command that finds the same scan by content."""

from pathlib import Path

import numpy as np
import pandas as pd

from luna_pipeline_tests.command_line import run_here
from luna_pipeline_tests.core.same_scans.examples import noisy_tissue
from luna_pipeline_tests.phantoms import write_ct


def luna(*arguments: str, cwd: Path):
    places = {"LUNA_HOME": str(cwd / "home"), "LUNA_DATA_DIR": str(cwd / "data"), "LUNA_CACHE": str(cwd / "cache")}
    return run_here(*arguments, cwd=cwd, environment=places)


def test_folders_are_compared_and_the_pairs_are_written(tmp_path: Path):
    write_ct(tmp_path / "first", "1.2.3", noisy_tissue(0))
    np.savez(tmp_path / "first/copy.npz", ct_chunk=noisy_tissue(0)[:30].astype(np.float32))
    done = luna("find_same_scans", "first", "--out", "pairs.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "copy is a block of 1.2.3: 100.00% of " in done.stdout
    assert "1 pairs of the same scan among 2 scans. Research use only" in done.stdout
    assert pd.read_csv(tmp_path / "pairs.csv")["kind"].tolist() == ["block of"]
    assert not (tmp_path / "home/tables/same_scans.parquet").exists()


def test_without_folders_the_table_of_the_installation_is_written(tmp_path: Path):
    for uid, hounsfield in (("1.2.3", noisy_tissue(0)), ("1.2.4", noisy_tissue(0).transpose(2, 1, 0))):
        write_ct(tmp_path / "data", uid, hounsfield)
    done = luna("find_same_scans", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1.2.3 is in another orientation than 1.2.4: 100.00% of " in done.stdout
    assert pd.read_parquet(tmp_path / "home/tables/same_scans.parquet")["kind"].tolist() == ["other orientation"]


def test_what_is_left_out_is_named(tmp_path: Path):
    (tmp_path / "first").mkdir()
    (tmp_path / "first/damaged.npz").write_bytes(b"no zip")
    done = luna("find_same_scans", "first", cwd=tmp_path)
    assert done.returncode == 0
    assert "Left out damaged: A block must be readable by numpy" in done.stderr
