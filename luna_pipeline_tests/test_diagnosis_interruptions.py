"""A diagnosis that is killed with SIGKILL: whole files or none, and the next run gives equal bytes."""

import signal
import sys
from pathlib import Path

import pytest

from luna_pipeline.core.metrics.decision import Decision
from luna_pipeline.core.phantom.series import PhantomConfig, make_series
from luna_pipeline_tests.diagnosis_models import EXTENSION, save_models
from luna_pipeline_tests.phantoms import write_dicom_series
from luna_pipeline_tests.processes import REPOSITORY, started, wait_for

UID = "1.2.840.5"
# Outputs in the order in which they are written; the last comes just before the manifest.
KILLED_AFTER = ("seg.dcm", "nodules.json", "montage.png", "report.html")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    series = make_series(PhantomConfig(seed=2, number=5, size_irc=(64, 128, 128)))
    grid = series.grid
    place = {"spacing_mm": grid.spacing_mm, "origin_xyz": grid.origin_xyz, "direction": grid.direction}
    write_dicom_series(tmp_path / "ct", UID, series.hounsfield.clip(-1024), **place)
    save_models(tmp_path / "home", decision=Decision.at(0.01))
    (tmp_path / "extension.py").write_text(EXTENSION)
    return tmp_path


def diagnosing(root: Path, out: Path):
    environment = {
        "LUNA_HOME": str(root / "home"),
        "LUNA_DATA_DIR": str(root),
        "LUNA_EXTENSIONS": str(root / "extension.py"),
        "PYTHONPATH": str(REPOSITORY),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "luna_pipeline.cli", "diagnose", str(root / "ct"), "--out", str(out)]
    return started(command, environment=environment, log=root / "log.txt")


def finished(root: Path, out: Path) -> dict[str, bytes]:
    with diagnosing(root, out) as process:
        assert process.wait(timeout=120) == 0, (root / "log.txt").read_text()
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
    for name in (None, *KILLED_AFTER):
        with diagnosing(root, out) as process:
            if name is not None:
                wait_for((out / name).exists, limit_seconds=120, what=f"writing {name}", every_seconds=0.0005)
            process.send_signal(signal.SIGKILL)
            process.wait()
        left = visible(out) if out.exists() else {}
        is_complete = left.pop("diagnosis.json", None) is not None
        assert all(expected[file] == content for file, content in left.items())
        assert not is_complete or set(left) == set(expected)
        if is_complete:
            (out / "diagnosis.json").unlink()
    again = finished(root, out)
    assert len(again.pop("diagnosis.json")) == pytest.approx(len(manifest), abs=100)
    assert again == expected
