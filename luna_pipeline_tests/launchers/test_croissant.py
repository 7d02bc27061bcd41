"""Export of a description from an installation, by the command."""

import pandas as pd
import pytest

from luna_pipeline.core.croissant.loading import read_records
from luna_pipeline_tests.command_line import run_here
from luna_pipeline_tests.prepared import CUT, INGEST


@pytest.fixture
def exported(folders_after):
    folders = folders_after(INGEST, CUT)

    def run(*arguments: str):
        return run_here("export_croissant", *arguments, cwd=folders.root, environment=folders.environment)

    return folders, run


def test_the_command_describes_tables_and_cutouts_of_an_installation(exported):
    folders, run = exported
    done = run()
    assert done.returncode == 0, done.stderr
    assert "6 cutout files" in done.stdout
    assert "Research use only" in done.stdout
    path = folders.home / "croissant.json"
    table = pd.read_parquet(folders.home / "tables/candidates.parquet")
    records = read_records(path, "candidates").set_index("candidate_id").loc[table["candidate_id"]].reset_index()
    for name in ("series_instance_uid", "x_mm", "y_mm", "z_mm", "class", "source"):
        assert records[name].tolist() == table[name].tolist(), name
    assert records["diameter_mm"].astype("float64").tolist() == pytest.approx(
        table["diameter_mm"].tolist(), nan_ok=True
    )
    folds = pd.read_parquet(folders.home / "tables/folds.parquet").set_index("series_instance_uid")["fold"]
    assert records["fold"].tolist() == table["series_instance_uid"].map(folds).astype(int).tolist()
    assert len(read_records(path, "cutout_files")) == 6


def test_cutouts_can_be_left_out_and_another_folder_is_refused(exported):
    folders, run = exported
    assert "0 cutout files" in run("--no-cutouts", "--out", str(folders.home / "other.json")).stdout
    assert (folders.home / "other.json").exists()
    refused = run("--out", str(folders.root / "elsewhere.json"))
    assert refused.returncode == 1
    assert "must lie in LUNA_HOME" in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1


def test_without_tables_the_command_says_what_to_do(folders):
    done = run_here("export_croissant", cwd=folders.root, environment=folders.environment)
    assert done.returncode == 1
    assert "Materialize `candidates` first" in done.stderr
