"""docs/explanation/security.md: its tests exist, its commands run, its configuration is read."""

import ast
import re
from pathlib import Path

import pytest

from luna_pipeline.serving.config import read_config
from luna_pipeline_tests.command_line import run_here

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "docs/explanation/security.md").read_text()
ROWS = [row for row in TEXT.splitlines() if row.startswith("| ")][1:]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip())
def test_each_protection_names_a_test_that_exists(row):
    named = re.findall(r"`([\w./]+\.py)(?:::(\w+))?`", row.split("|")[3])
    assert named
    for path, function in named:
        tree = ast.parse((ROOT / "luna_pipeline_tests/serving" / path).read_text())
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert not function or function in functions


def test_its_commands_run(tmp_path):
    (commands,) = blocks("sh")
    for line in commands.splitlines():
        program, *arguments = line.split()
        assert program == "luna"
        done = run_here(*arguments, cwd=tmp_path, environment={"LUNA_SERVICE_DIR": str(tmp_path / "service")})
        assert done.returncode == 0, done.stderr


def test_its_configuration_is_read(tmp_path):
    (block,) = blocks("yaml")
    path = tmp_path / "serving.yaml"
    path.write_text(block)
    assert read_config(path).allowed_hosts == ("nodules.hospital.example",)
