"""A diagnosis that is killed with SIGKILL: whole files or none, and the next run gives equal bytes."""

import signal
import sys
from pathlib import Path

import pytest

from luna_pipeline.core.metrics.decision import Decision
from luna_pipeline.core.phantom.series import PhantomConfig, make_series
from luna_pipeline_tests.command_line import run_here
from luna_pipeline_tests.diagnosis_models import EXTENSION, save_models
from luna_pipeline_tests.phantoms import write_dicom_series
from luna_pipeline_tests.processes import started, wait_for

UID = "1.2.840.5"
# Outputs in the order in which they are written; the last comes just before the manifest.
KILLED_AFTER = ("seg.dcm", "nodules.json", "report.html")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    series = make_series(PhantomConfig(seed=2, number=5, size_irc=(64, 128, 128)))
    grid = series.grid
    place = {"spacing_mm": grid.spacing_mm, "origin_xyz": grid.origin_xyz, "direction": grid.direction}
    write_dicom_series(tmp_path / "ct", UID, series.hounsfield.clip(-1024), **place)
    save_models(tmp_path / "home", decision=Decision.at(0.01))
    (tmp_path / "extension.py").write_text(EXTENSION)
    return tmp_path


def arguments(root: Path, out: Path) -> list[str]:
    return ["diagnose", str(root / "ct"), "--out", str(out)]


def environment(root: Path) -> dict[str, str]:
    return {
        "LUNA_HOME": str(root / "home"),
        "LUNA_DATA_DIR": str(root),
        "LUNA_EXTENSIONS": str(root / "extension.py"),
        "OMP_NUM_THREADS": "1",
    }


def finished(root: Path, out: Path) -> dict[str, bytes]:
    done = run_here(*arguments(root, out), cwd=root, environment=environment(root))
    assert done.returncode == 0, done.stderr
    return visible(out)


def visible(out: Path) -> dict[str, bytes]:
    """Files of a folder; temporary files have a leading dot."""
    return {path.name: path.read_bytes() for path in out.iterdir() if not path.name.startswith(".")}


@pytest.mark.slow
def test_a_killed_diagnosis_leaves_whole_files_and_the_next_one_gives_equal_bytes(root: Path):
    expected = finished(root, root / "whole")
    manifest = expected.pop("diagnosis.json")
    assert set(KILLED_AFTER) < set(expected)
    out = root / "out"
    command = [sys.executable, "-m", "luna_pipeline.cli", *arguments(root, out)]
    for name in KILLED_AFTER:
        with started(command, environment=environment(root), log=root / "log.txt") as process:
            wait_for((out / name).exists, limit_seconds=120, what=f"writing {name}", every_seconds=0.0005)
            process.send_signal(signal.SIGKILL)
            process.wait()
        left = visible(out)
        is_complete = left.pop("diagnosis.json", None) is not None
        assert all(expected[file] == content for file, content in left.items())
        assert not is_complete or set(left) == set(expected)
        if is_complete:
            (out / "diagnosis.json").unlink()
    again = finished(root, out)
    assert len(again.pop("diagnosis.json")) == pytest.approx(len(manifest), abs=100)
    assert again == expected
