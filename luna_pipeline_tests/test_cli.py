"""The command line: exit codes, one-line errors, help."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


def luna(*arguments: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "luna_pipeline.cli", *arguments],
        cwd=home,
        env={"PATH": os.environ["PATH"], "HOME": str(home), "LUNA_HOME": str(home / "luna"), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_explains_each_command_and_says_research_use(tmp_path: Path):
    top = luna("--help", home=tmp_path)
    assert top.returncode == 0
    assert "Research use only" in top.stdout
    for command in ("make_phantom", "import_book_weights", "get_recommended_num_workers"):
        assert command in top.stdout
        assert luna(command, "--help", home=tmp_path).returncode == 0


def test_help_starts_without_heavy_imports(tmp_path: Path):
    code = (
        "import sys; sys.argv = ['luna', '--help']\n"
        "from luna_pipeline.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print([m for m in ('torch', 'mlflow', 'dagster', 'pandas', 'SimpleITK') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip().endswith("[]")


def test_phantom_is_written_and_said(tmp_path: Path):
    done = luna("make_phantom", "out", "--series", "2", "--subsets", "2", "--size", "32,48,48", home=tmp_path)
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
        (["nothing"], "No such command"),
        (["import_book_weights", "missing.state"], "does not exist"),
    ],
)
def test_wrong_usage_exits_2_and_says_what_is_wrong(tmp_path: Path, arguments: list[str], words: str):
    done = luna(*arguments, home=tmp_path)
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
    debug = luna("--debug", "import_book_weights", str(wrong), "--no-mlflow", home=tmp_path)
    assert debug.returncode == 1
    assert "Traceback" in debug.stderr


def test_recommended_workers_are_those_this_process_may_use(tmp_path: Path):
    done = luna("get_recommended_num_workers", home=tmp_path)
    assert done.stdout.strip().endswith(str(min(32, len(os.sched_getaffinity(0)))))


@pytest.mark.real
def test_book_weights_become_a_checkpoint_and_a_registered_model(real_data: Path, tmp_path: Path):
    import mlflow

    from luna_pipeline.core.training.checkpoints import load_checkpoint

    state = next((real_data / "book").glob("cls_*.state"))
    done = luna("import_book_weights", str(state), home=tmp_path)
    assert done.returncode == 0, done.stderr
    checkpoint = load_checkpoint(tmp_path / "luna/checkpoints/book_nodule_classifier/1/best.pt")
    assert checkpoint.config.network.block == "biased"
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'luna/mlflow.db'}")
    versions = client.search_model_versions("name='book_nodule_classifier'")
    assert [version.run_id for version in versions] == [checkpoint.mlflow_run_id]
    again = luna("import_book_weights", str(state), "--no-mlflow", home=tmp_path)
    assert "1+1" in again.stdout
