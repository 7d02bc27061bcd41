"""Style rules that can be checked: sizes of modules, functions and asset bodies, words, and what is never in git."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted((ROOT / "luna_pipeline").rglob("*.py"))
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def _lines_without_docstring(node: ast.FunctionDef) -> int:
    body = node.body[1:] if ast.get_docstring(node) else node.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_and_functions_stay_small(path: Path):
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, FUNCTIONS):
            assert node.end_lineno - node.lineno + 1 <= 60, node.name


def test_asset_bodies_load_call_write_and_report_only():
    for path in sorted((ROOT / "luna_pipeline/assets").glob("stage_*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, FUNCTIONS) and any("asset" in ast.dump(d) for d in node.decorator_list):
                assert _lines_without_docstring(node) <= 30, f"{path.name}: {node.name}"


def test_definitions_put_parts_together_and_nothing_else():
    assert len((ROOT / "luna_pipeline/definitions.py").read_text().splitlines()) <= 60


def test_stage_numbers_stand_in_asset_files_only():
    for path in MODULES:
        if re.match(r"stage_\d", path.name) or path.name in {"definitions.py", "demo_summary.py"}:
            continue
        assert not re.search(r"stage_\d", path.read_text()) or path.parent.name == "assets", path


def _tracked_files() -> list[Path]:
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    return [ROOT / name for name in names.split("\0") if name and (ROOT / name).is_file()]


@pytest.mark.seed_defect(18)
def test_nothing_in_git_is_big_or_names_this_machine_or_a_registry():
    files = _tracked_files()
    if not files:
        pytest.skip("not a git checkout")
    # Written in pieces, so that this file does not match itself.
    forbidden = re.compile("|".join([r"(?<![\w.])/(work|" + "root)/", "pypi" + r"\.org", "python" + "hosted"]))
    for path in files:
        assert path.stat().st_size < 1_000_000, path
        if path.suffix in {".py", ".md", ".toml", ".yaml", ".lock", ".csv", ".json", ""}:
            assert not forbidden.search(path.read_text(errors="replace")), path


# Words that make a riddle of an object or a process.
IDIOMS = re.compile(
    r"\b(who|whoever|nobody|somebody|everybody|comes to|is told|begins? anew|anew|mend|dearest|knows nothing|is asked|"
    r"goes on|go on|held against)\b",
    re.IGNORECASE,
)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_docstrings_have_no_idioms(path: Path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.Module, ast.ClassDef, *FUNCTIONS)):
            found = IDIOMS.search(ast.get_docstring(node) or "")
            assert not found, f"{getattr(node, 'name', 'module')}: {found[0]!r}. Use plain technical English."


def test_the_formatter_lays_out_every_statement():
    for folder in ("luna_pipeline", "luna_pipeline_tests", "benchmarks", "deploy", "docs_tools"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            assert not re.search(r"#\s*fmt:\s*" + "(skip|off)", path.read_text()), path
