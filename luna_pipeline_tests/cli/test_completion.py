"""Completion in shells: names of commands, options, parts and models."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from luna_pipeline.cli import cli
from luna_pipeline.cli.completion import SHELLS

ROOT = Path(__file__).resolve().parents[2]


def completed(*words: str) -> list[str]:
    """Return what the last word may become."""
    *before, incomplete = words
    return [item.value for item in ShellComplete(cli, {}, "luna", "_LUNA_COMPLETE").get_completions(before, incomplete)]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for version in ("nodule_classifier/0.0.1", "nodule_classifier/0.0.1+1", "nodule_segmenter/0.2.0"):
        (tmp_path / "checkpoints" / version).mkdir(parents=True)
    monkeypatch.setenv("LUNA_HOME", str(tmp_path))
    return tmp_path


def test_commands_and_options_are_completed():
    assert completed("verify") == ["verify_cutouts"]
    assert completed("token", "re") == ["revoke"]
    assert completed("prune", "--y") == ["--yes"]
    assert completed("create_cutouts", "--edge-rule", "") == ["pad", "shift"]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (("train_luna_classification", "0.0.1", "--recipe", "malig"), ["malignancy_baseline"]),
        (("train_luna_classification", "0.0.1", "--handler", "ten"), ["tensorboard"]),
        (("train_luna_classification", "0.0.1", "--set", "network.name=res"), ["network.name=resnet"]),
        (("train_luna_classification", "0.0.1", "--set", "network.dropout"), []),
        (("tune_luna_classification", "--space", "small"), ["small_grid"]),
        (("check_data", "--source", "lidc"), ["lidc_idri"]),
        (("create_cutouts", "--malignancy-policy", "me"), ["mean", "median"]),
        (("rebuild_luna16_key", "--rule", "py"), ["pylidc"]),
        (("diagnose", "--recipe", "b"), ["book"]),
    ],
)
def test_names_of_parts_are_completed(words: tuple[str, ...], names: list[str]):
    assert completed(*words) == names


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (("resume", "nodule_c"), ["nodule_classifier"]),
        (("resume", "nodule_segmenter", ""), ["0.2.0"]),
        # The tutorial's name of the nodule classifier.
        (("predict", "class"), ["classification"]),
        (("predict", "classification", "0.0.1"), ["0.0.1", "0.0.1+1"]),
        (("load_train_luna_classification", "1", "file", "nodule_segmenter", ""), ["0.2.0"]),
        (("diagnose", "--segmenter", "nodule_s"), ["nodule_segmenter"]),
        # What is no name may be a file.
        (("export", "best"), ["best"]),
    ],
)
def test_names_and_versions_of_models_are_completed(home: Path, words: tuple[str, ...], names: list[str]):
    assert completed(*words) == names


def test_an_installation_that_cannot_be_read_completes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LUNA_HOME", str(tmp_path / "missing"))
    monkeypatch.setenv("LUNA_EXTENSIONS", str(tmp_path / "missing.py"))
    assert completed("resume", "nodule_classifier", "") == []
    assert completed("diagnose", "--recipe", "b") == []


def test_each_shell_has_its_script_and_your_own_is_the_default(monkeypatch: pytest.MonkeyPatch):
    scripts = {shell: CliRunner().invoke(cli, ["completion", shell]).output for shell in SHELLS}
    assert all(f"_LUNA_COMPLETE={shell}_complete" in script for shell, script in scripts.items())
    monkeypatch.setenv("SHELL", "/bin/fish")
    assert CliRunner().invoke(cli, ["completion"]).output == scripts["fish"]
    monkeypatch.setenv("SHELL", "/bin/tcsh")
    assert CliRunner().invoke(cli, ["completion"]).output == scripts["bash"]


def test_bash_completes_a_command_and_a_value_behind_an_equals_sign(tmp_path: Path):
    luna = tmp_path / "luna"
    luna.write_text(f"#!{sys.executable}\nfrom luna_pipeline.cli import main\nmain()\n")
    luna.chmod(0o755)
    script = CliRunner().invoke(cli, ["completion", "bash"]).output
    lines = [
        script,
        'complete() { COMPREPLY=(); COMP_WORDS=(luna "$@"); COMP_CWORD=$#; _luna_completion luna',
        "echo ${COMPREPLY[@]}; }",
        "complete verify_c",
        "complete train_luna_classification 1 --set network.name = conv",
        "complete train_luna_classification 1 --set network.name = conv --rec",
    ]
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", "\n".join(lines)], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["verify_cutouts", "convnext", "--recipe"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_accept_their_script(shell: str, tmp_path: Path):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    script = tmp_path / "script"
    script.write_text(CliRunner().invoke(cli, ["completion", shell]).output)
    done = subprocess.run([shell, "-n", str(script)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
