"""The command that describes the data, on a synthetic data set."""

import json
import re

import pandas as pd
import pytest

from luna_pipeline.core.sources.source import RATINGS, READER_COLUMNS
from luna_pipeline_tests.command_line import run_here
from luna_pipeline_tests.core.quality.examples import chest
from luna_pipeline_tests.phantoms import write_ct, write_dicom_series
from luna_pipeline_tests.prepared import INGEST


@pytest.fixture
def describe(folders_after):
    folders = folders_after(INGEST)

    def run(*arguments: str):
        return run_here("describe_data", *arguments, cwd=folders.root, environment=folders.environment)

    return folders, run


def write_readers(folders) -> None:
    """Three nodules, by one, two and four readers."""
    rows = []
    for nodule, ratings in enumerate(([3], [2, 4], [5, 5, 4, 5])):
        for reader, value in enumerate(ratings):
            place = {"series_instance_uid": "1.1", "nodule": nodule, "reader": reader}
            rows.append(
                place | dict.fromkeys(RATINGS, value) | {"x_mm": 0.0, "y_mm": 0.0, "z_mm": 0.0, "diameter_mm": 9.0}
            )
    table = pd.DataFrame(rows, columns=list(READER_COLUMNS)).astype(dict.fromkeys(RATINGS, "Int8"))
    table.to_parquet(folders.home / "tables/reader_nodules.parquet")


def test_tables_plots_and_page_are_written_and_state_their_use(describe):
    folders, run = describe
    write_readers(folders)
    done = run("--out", str(folders.root / "out"))
    assert done.returncode == 0, done.stderr
    out = folders.root / "out"
    names = {path.name for path in out.iterdir()}
    assert names == {
        *("data_quality.html", "data_quality.json", "histogram.png", "scans.png", "nodules.png", "readers.png"),
        *("scans.csv", "numbers.csv", "kinds.csv", "limits.csv", "findings.csv", "diameters.csv"),
        *("readers.csv", "agreement.csv"),
    }
    page = (out / "data_quality.html").read_text()
    assert "Research use only; not a medical device." in page
    assert "Synthetic data" in page
    # Self-contained: nothing is loaded from elsewhere.
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert page.count("data:image/png;base64,") == 4
    found = json.loads((out / "data_quality.json").read_text())
    assert found["is_synthetic"]
    assert [row["num_nodules"] for row in found["tables"]["readers"]] == [1, 1, 0, 1]
    assert found["num_warnings"] == len(pd.read_csv(out / "findings.csv"))


def test_json_is_printed_alone_and_voxels_can_be_left_out(describe):
    folders, run = describe
    done = run("--json", "--no-voxels")
    found = json.loads(done.stdout)
    assert not found["has_voxels"]
    assert all(row["noise_hu"] is None for row in found["tables"]["scans"])
    assert found["num_nodules"] == sum(row["num_nodules"] for row in found["tables"]["scans"])
    assert not (folders.home / "data_quality").exists()


def test_a_problem_ends_with_exit_code_1_and_names_the_scan(tmp_path):
    write_ct(tmp_path / "data/subset0", "1.1", chest(noise_hu=20.0))
    write_ct(tmp_path / "data/subset1", "1.2", chest(noise_hu=20.0), suffix=".nrrd")
    write_dicom_series(tmp_path / "data/gap", "1.3", chest((12, 16, 16), seed=2))
    sorted((tmp_path / "data/gap").iterdir())[5].unlink()
    tables = tmp_path / "home/tables"
    tables.mkdir(parents=True)
    pd.DataFrame({"series_instance_uid": ["1.1", "1.2"], "fold": [0, 1]}).to_parquet(tables / "folds.parquet")
    environment = {"HOME": str(tmp_path), "LUNA_HOME": str(tmp_path / "home"), "LUNA_DATA_DIR": str(tmp_path / "data")}
    environment["LUNA_CACHE"] = str(tmp_path / "cache")
    done = run_here("describe_data", cwd=tmp_path, environment=environment)
    assert done.returncode == 1
    assert "Problem: No slice is missing between the first and the last, got 1 (1.3). " in done.stdout
    assert "got 2 copies in folds 0, 1, also 1.2 (1.1)." in done.stdout
    assert "got 2 in 3 scans" in done.stderr
    assert "There is no table `candidates`" in done.stderr
    assert (tmp_path / "home/data_quality/data_quality.html").exists()
