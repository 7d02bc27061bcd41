"""`luna export` as docs/how_to/export.md shows it: its commands and its program run."""

import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from luna_pipeline.cli import cli
from luna_pipeline_tests.diagnosis_models import save_models

PAGE = (Path(__file__).resolve().parents[1] / "docs/how_to/export.md").read_text()
COMMANDS = re.findall(r"^luna (export .*)$", PAGE, re.MULTILINE)
PROGRAMS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    save_models(tmp_path / "home")
    monkeypatch.setenv("LUNA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LUNA_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_commands_and_the_program_of_the_page_run(installation: Path):
    assert (len(COMMANDS), len(PROGRAMS)) == (1, 2)
    done = CliRunner().invoke(cli, COMMANDS[0].split())
    assert done.exit_code == 0, done.output
    assert "Classifier nodule_classifier 0.0.1, ONNX opset 20." in done.output
    assert re.search(
        r"^onnx: equal on 7 kinds of inputs, largest difference .* \(tolerance 1e-05\)\.$", done.output, re.M
    )
    assert re.search(
        r"^On this CPU: torch [\d.]+ inputs per second, onnx [\d.]+ \([\d.]+ x\), torch_export [\d.]+ \([\d.]+ x\)\.\n"
        r"`luna serve` classifies cutouts by (torch|onnx): ONNX is used from a gain of 1\.2\. Diagnoses use torch\.$",
        done.output,
        re.M,
    )
    assert "Research use only" in done.output
    names: dict[str, np.ndarray] = {}
    exec(PROGRAMS[0], names)
    assert names["probabilities"].shape == (4,)


def test_a_model_that_is_not_there_is_one_line(installation: Path):
    done = CliRunner().invoke(cli, ["export", "another", "--to", "out"])
    assert isinstance(done.exception, FileNotFoundError)
    assert "got none" in str(done.exception)
    assert not (installation / "out").exists()
