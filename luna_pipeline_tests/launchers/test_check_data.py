"""`luna check_data`: exit codes, JSON, template, disk."""

import json
import shutil
from collections import namedtuple

import pytest

from luna_pipeline.core.sources.csv_and_folder import CsvAndFolder
from luna_pipeline.launchers.check_data import check_data, write_template
from luna_pipeline.settings import Settings
from luna_pipeline_tests.command_line import run_here
from luna_pipeline_tests.phantoms import random_hounsfield, write_ct

NODULES = "series,x_mm,y_mm,z_mm,frame,diameter_mm\na,-48,-38.5,-295,LPS,5\nb,47,37.5,-295,RAS,6\n"


@pytest.fixture
def root(tmp_path):
    for number, uid in enumerate("ab"):
        write_ct(tmp_path / "data", uid, random_hounsfield(seed=number))
    (tmp_path / "data/scans.csv").write_text("series,patient\na,p1\nb,p2\n")
    (tmp_path / "data/nodules.csv").write_text(NODULES)
    return tmp_path / "data"


def luna(root, *options):
    environment = {"HOME": str(root.parent), "LUNA_HOME": str(root.parent / "home")}
    return run_here("check_data", *options, cwd=root.parent, environment=environment)


def test_a_clean_folder_ends_well_and_nothing_is_written(root):
    done = luna(root, "data", "--voxels")
    assert done.returncode == 0, done.stderr
    assert "2 of 2 CTs are readable; 2 rows in scans.csv, 2 rows in nodules.csv." in done.stdout
    assert "0 errors, 0 warnings.\nResearch use only" in done.stdout
    assert "Licence: " in done.stdout
    assert "Trap: " in done.stdout
    assert not (root.parent / "home").exists()


def test_errors_are_numbered_with_their_cures_and_end_with_1(root):
    (root / "nodules.csv").write_text(NODULES.replace("RAS", "LPS").replace(",5\n", ",0.5\n"))
    done = luna(root, "data")
    assert done.returncode == 1
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[1] == "Errors:"
    assert lines[2].startswith("  1. diameter_mm must be from 1 to 150 mm, got '0.5' (nodules.csv line 2). Write mm")
    assert lines[3].startswith("  2. A position must lie in its CT, got (47, 37.5, -295) mm in LPS (nodules.csv line 3")
    assert "2 errors, 0 warnings." in lines


def test_warnings_alone_end_with_0(root):
    write_ct(root, "c", random_hounsfield(seed=5))
    done = luna(root, "data")
    assert done.returncode == 0
    assert "Warnings:\n  1. A CT must have a row in the table, got 'c' without one (scans.csv)." in done.stdout


def test_json_has_the_same_faults(root):
    (root / "scans.csv").write_text("series,patient\na,p1\nb,\n")
    done = luna(root, "data", "--json")
    report = json.loads(done.stdout)
    assert done.returncode == 1
    assert (report["num_errors"], report["num_warnings"]) == (1, 0)
    (fault,) = report["faults"]
    assert (fault["file"], fault["lines"], fault["is_error"]) == ("scans.csv", [3], True)
    assert report["sources"][0]["name"] == "csv_and_folder"


def test_a_folder_that_is_not_there_and_an_unknown_source_are_refused(root):
    assert "no such folder" in luna(root, "absent").stderr
    assert "The data source must be one of" in luna(root, "data", "--source", "luna17").stderr


def test_too_little_disk_is_an_error(root, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1, 1, 1000))
    settings = Settings.from_environment({"LUNA_HOME": str(root.parent / "home")})
    (fault,) = check_data(settings, root).all_faults
    # Two cutouts of 32 x 48 x 48 voxels of 2 bytes.
    assert str(fault).startswith("The disk must have space for the cutouts, got 0.00 GB for 2 cutouts of 0.00 GB")


def test_the_template_names_each_ct_and_no_patient(root):
    for name in ("scans.csv", "nodules.csv"):
        (root / name).unlink()
    assert "Wrote" in luna(root, "data", "--template").stdout
    assert (root / "scans.csv").read_text() == "series,patient,fold,site,notes\na,,,,\nb,,,,\n"
    done = luna(root, "data")
    assert "patient must have a value in each row, got '' (scans.csv line 2, 3). Fill it in" in done.stdout
    assert CsvAndFolder().is_at(root)
    with pytest.raises(FileExistsError, match=r"got scans\.csv and nodules\.csv"):
        write_template(root)
