"""The command line: exit codes, one-line errors, help."""

import os
import platform
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from dagster import DagsterInstance

from luna_pipeline.partitions import CT_SERIES_NAME
from luna_pipeline_tests.command_line import run_here, run_process
from luna_pipeline_tests.phantoms import random_hounsfield, write_ct


def luna(*arguments: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a process that has nothing of the tests' environment."""
    own = {"PATH": os.environ["PATH"], "HOME": str(home), "LUNA_HOME": str(home / "luna")}
    return run_process(*arguments, cwd=home, environment={**own, **environment})


def luna_here(*arguments: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in this process."""
    own = {"HOME": str(home), "LUNA_HOME": str(home / "luna")}
    return run_here(*arguments, cwd=home, environment={**own, **environment})


def test_help_explains_each_command_and_says_research_use(tmp_path: Path):
    top = luna("--help", home=tmp_path)
    assert top.returncode == 0
    assert "Research use only" in top.stdout
    for command in (
        "make_phantom",
        "download_luna16",
        "create_cutouts",
        "verify_cutouts",
        "prune",
        "import_tutorial_cutouts",
        "export_tutorial_cutouts",
        "import_book_weights",
        "describe_data",
        "check_data",
        "export_croissant",
        "find_same_scans",
        "get_recommended_num_workers",
        "evaluate_luna25",
        "predict_luna25",
        "import_lidc_annotations",
        "rebuild_luna16_key",
        "draw_readers",
        "serve",
        "token",
        "export",
        "receive",
    ):
        assert command in top.stdout
        assert luna_here(command, "--help", home=tmp_path).returncode == 0


def test_help_starts_without_heavy_imports(tmp_path: Path):
    code = (
        "import sys; sys.argv = ['luna', '--help']\n"
        "from luna_pipeline.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print([m for m in ('torch', 'mlflow', 'dagster', 'pandas', 'SimpleITK') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip().endswith("[]")


def test_the_version_is_told_without_importing_torch(tmp_path: Path):
    code = (
        "import sys; sys.argv = ['luna', '--version']\n"
        "from luna_pipeline.cli import main\n"
        "main()\n"
        "print([m for m in ('torch', 'dagster') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    ours, others, imported = done.stdout.splitlines()
    assert ours == f"luna_pipeline {version('luna_pipeline')}"
    assert others == f"Python {platform.python_version()}, torch {version('torch')}"
    assert imported == "[]"


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small data root that was made by hand, and its cutouts."""
    home = tmp_path_factory.mktemp("home")
    done = luna_here("make_phantom", "data", "--series", "3", "--subsets", "3", "--size", "40,64,64", home=home)
    assert done.returncode == 0, done.stderr
    return home


def test_cutting_says_what_it_needs_and_the_second_time_that_there_is_nothing_to_do(phantom: Path):
    where = {"home": phantom, "LUNA_DATA_DIR": str(phantom / "data")}
    first = luna("create_cutouts", "--workers", "2", **where)
    assert first.returncode == 0, first.stderr
    assert "3 series: 3 missing; 0.01 GB needed" in first.stdout
    assert "3 series cut, 0 were there and right, 0 failed" in first.stdout
    again = luna_here("create_cutouts", **where)
    assert again.stdout.startswith("Nothing to do")
    assert luna_here("verify_cutouts", **where).returncode == 0
    assert "0 series without a CT" in luna_here("prune", **where).stdout
    sample = luna_here("create_cutouts", "--training-length", "4", "--spacing", "1,1,2", **where)
    assert "3 series: 3 changed" in sample.stdout
    assert luna_here("create_cutouts", **where).returncode == 0


def test_an_up_to_date_cutting_loads_neither_pandas_nor_itk(phantom: Path):
    where = {"home": phantom, "LUNA_DATA_DIR": str(phantom / "data")}
    assert luna_here("create_cutouts", **where).returncode == 0
    code = (
        "import sys; sys.argv = ['luna', 'create_cutouts']\n"
        "from luna_pipeline.cli import main\n"
        "main()\n"
        "heavy = ('torch', 'mlflow', 'dagster', 'pandas', 'pyarrow', 'SimpleITK', 'rich', 'fsspec', 'upath', 'scipy')\n"
        "print([m for m in heavy if m in sys.modules])"
    )
    environment = {
        "LUNA_DATA_DIR": str(phantom / "data"),
        "LUNA_HOME": str(phantom / "luna"),
        "PATH": os.environ["PATH"],
    }
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "Nothing to do" in done.stdout


def test_a_series_that_cannot_be_cut_makes_the_command_fail_by_name(phantom: Path, tmp_path: Path):
    shutil.copytree(phantom / "data", tmp_path / "data")
    where = {"home": tmp_path, "LUNA_DATA_DIR": str(tmp_path / "data")}
    done = luna_here("create_cutouts", "--edge-rule", "shift", "--chunk-shape", "64,8,8", **where)
    assert done.returncode == 1
    assert "at least (64, 8, 8) voxels" in done.stdout
    assert "Every series must be cut, got 3 failures" in done.stderr


def test_damaged_cutouts_make_verifying_fail_until_they_are_repaired(phantom: Path):
    where = {"home": phantom, "LUNA_DATA_DIR": str(phantom / "data")}
    assert luna_here("create_cutouts", **where).returncode == 0
    path = next((phantom / "luna/cutouts").glob("*.npz"))
    path.write_bytes(path.read_bytes()[:1000])
    failed = luna_here("verify_cutouts", **where)
    assert failed.returncode == 1
    assert path.name in failed.stdout
    assert luna_here("verify_cutouts", "--repair", **where).returncode == 0
    assert not path.exists()
    assert "1 series cut, 2 were there and right" in luna_here("create_cutouts", **where).stdout


def test_pruned_series_leave_dagsters_partitions_too(phantom: Path, tmp_path: Path):
    shutil.copytree(phantom / "data", tmp_path / "data")
    where = {"home": tmp_path, "LUNA_DATA_DIR": str(tmp_path / "data"), "DAGSTER_HOME": str(tmp_path / "dagster")}
    (tmp_path / "dagster").mkdir()
    assert luna_here("create_cutouts", **where).returncode == 0
    uids = sorted(path.stem for path in (tmp_path / "luna/cutouts").glob("*.npz"))
    with DagsterInstance.from_config(str(tmp_path / "dagster")) as instance:
        instance.add_dynamic_partitions(CT_SERIES_NAME, uids)
        for path in (tmp_path / "data").rglob(f"{uids[0]}.*"):
            path.unlink()
        assert luna_here("prune", **where).returncode == 0
        assert sorted(instance.get_dynamic_partitions(CT_SERIES_NAME)) == uids
        assert luna_here("prune", "--yes", **where).returncode == 0
        assert sorted(instance.get_dynamic_partitions(CT_SERIES_NAME)) == uids[1:]


def test_phantom_is_written_and_said(tmp_path: Path):
    done = luna_here("make_phantom", "out", "--series", "2", "--subsets", "2", "--size", "32,48,48", home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "out").rglob("*.mhd"))) == 2
    assert {"annotations.csv", "candidates_V2.csv", "annotations_excluded.csv", "seriesuids.csv"} <= {
        path.name for path in (tmp_path / "out").iterdir()
    }
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["1/2", "2/2"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["make_phantom", "out", "--size", "64,64"], "three positive numbers"),
        (["make_phantom", "out", "--series", "0"], "--series"),
        (["nothing"], "No such command 'nothing'. See luna --help."),
        (["verify-cutout"], "Did you mean verify_cutouts?"),
        (["froc"], "Did you mean evaluate_froc?"),
        (["token", "ad"], "Did you mean add?"),
        (["prune", "--yess"], "Did you mean '--yes'?"),
        (["create_cutouts", "--spacing", "1,2"], "three lengths in mm"),
        (["create_cutouts", "--chunk-shape", "1,2"], "three positive numbers"),
        (["create_cutouts", "--training-length", "0"], "--training-length"),
        (["import_book_weights", "missing.state"], "does not exist"),
    ],
)
def test_wrong_usage_exits_2_and_says_what_is_wrong(tmp_path: Path, arguments: list[str], words: str):
    done = luna_here(*arguments, home=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_failed_work_exits_1_with_one_line_and_debug_shows_the_traceback(tmp_path: Path):
    wrong = tmp_path / "wrong.state"
    wrong.write_bytes(b"no checkpoint")
    done = luna("import_book_weights", str(wrong), "--no-mlflow", home=tmp_path)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert "wrong.state" in done.stderr
    debug = luna_here("--debug", "import_book_weights", str(wrong), "--no-mlflow", home=tmp_path)
    assert debug.returncode == 1
    assert "Traceback" in debug.stderr
    assert "LUNA_DEBUG" not in os.environ


def test_the_user_may_say_that_a_ct_is_in_hu_for_one_command(tmp_path: Path):
    write_ct(tmp_path / "data", "1.2.3", random_hounsfield((40, 64, 64)) + np.int16(1024))
    (tmp_path / "data" / "candidates.csv").write_text("seriesuid,coordX,coordY,coordZ,class\n1.2.3,-30,-20,-260,0\n")
    (tmp_path / "luna").mkdir()
    command = ("create_cutouts", "--chunk-shape", "8,8,8")
    environment = {"HOME": str(tmp_path), "LUNA_HOME": str(tmp_path / "luna"), "LUNA_DATA_DIR": str(tmp_path / "data")}
    accepted = run_here(*command, "--assume-hu", cwd=tmp_path, environment=environment)
    assert accepted.returncode == 0, accepted.stderr
    assert "LUNA_ASSUME_HU" not in os.environ
    shutil.rmtree(tmp_path / "luna")
    refused = run_here(*command, cwd=tmp_path, environment=environment)
    assert refused.returncode == 1
    assert "Voxels must be HU" in refused.stdout


def test_recommended_workers_are_those_this_process_may_use(tmp_path: Path):
    done = luna_here("get_recommended_num_workers", home=tmp_path)
    assert done.stdout.strip().endswith(str(min(32, len(os.sched_getaffinity(0)))))


@pytest.mark.real
def test_book_weights_become_a_checkpoint_and_a_registered_model(real_data: Path, tmp_path: Path):
    import mlflow

    from luna_pipeline.core.training.checkpoints import load_checkpoint

    classifier, segmentation = sorted(str(path) for path in (real_data / "book").glob("*.state"))
    done = luna_here("import_book_weights", segmentation, classifier, home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "luna/checkpoints/book_nodule_segmenter/1/best.pt").exists()
    checkpoint = load_checkpoint(tmp_path / "luna/checkpoints/book_nodule_classifier/1/best.pt")
    assert checkpoint.config.network.block == "biased"
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'luna/mlflow.db'}")
    versions = client.search_model_versions("name='book_nodule_classifier'")
    assert [version.run_id for version in versions] == [checkpoint.mlflow_run_id]
    again = luna_here("import_book_weights", classifier, "--no-mlflow", home=tmp_path)
    assert "1+1" in again.stdout
