"""The chapters run, draw pictures, keep to the public API, and hold no outputs."""

import ast
import re
from pathlib import Path

import jupytext
import nbformat
import pytest

from notebooks.build import SOURCES, build, chapters

CHAPTERS = {path.stem: path for path in chapters()}


def text_cells(path: Path) -> list[str]:
    return [cell.source for cell in jupytext.read(path).cells if cell.cell_type == "markdown"]


def test_chapters_are_numbered_and_stand_in_the_table_of_the_readme():
    assert [name.partition("_")[0] for name in CHAPTERS] == [str(number) for number in range(1, 8)]
    rows = re.findall(r"\| \[(.+?)\]\((.+?)\.py\) \|", (SOURCES / "README.md").read_text())
    titles = {
        name: text_cells(path)[0].splitlines()[0].removeprefix("# ").replace(" · ", " ")
        for name, path in CHAPTERS.items()
    }
    assert {name: title for title, name in rows} == titles


@pytest.mark.parametrize("path", CHAPTERS.values(), ids=CHAPTERS)
def test_a_chapter_begins_with_its_point_and_ends_with_exercises(path: Path):
    first, *others = text_cells(path)
    assert re.match(r"# \d · [^\n]+\n\n\*\*[^*]+\.\*\*\n\n", first), first
    assert re.search(r"synthetic", first, re.IGNORECASE)
    assert re.search(r"research use only", first, re.IGNORECASE)
    assert "## What can go wrong" in others[-1]
    assert re.search(r"## Exercises\n1\. .+\n2\. ", others[-1], re.DOTALL)


@pytest.mark.parametrize("path", CHAPTERS.values(), ids=CHAPTERS)
def test_a_chapter_is_a_source_of_short_cells_with_public_names_only(path: Path):
    notebook = jupytext.read(path)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and len(cell.source.splitlines()) <= 32 for cell in code)
    for node in ast.walk(ast.parse("\n".join(cell.source for cell in code))):
        if isinstance(node, ast.ImportFrom):
            assert not any(part.startswith("_") for part in f"{node.module}.{node.names[0].name}".split("."))
        if isinstance(node, ast.Attribute):
            assert not re.match("_[^_]", node.attr), node.attr


def test_a_chapter_that_is_not_there_is_refused():
    assert [path.stem for path in chapters([3])] == ["3_train_and_look_inside"]
    with pytest.raises(ValueError, match=r"one of \[1, 2, 3, 4, 5, 6, 7\], got \[9\]"):
        chapters([9])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_all_chapters_run_and_draw_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    # Variables of the session must not lead a chapter elsewhere.
    monkeypatch.setenv("LUNA_HOME", str(tmp_path / "not_here"))
    seconds = build(tmp_path / "out", list(CHAPTERS.values()))
    assert seconds.keys() == CHAPTERS.keys()
    assert not (tmp_path / "not_here").exists()
    for name in CHAPTERS:
        notebook = nbformat.read(tmp_path / "out" / f"{name}.ipynb", as_version=4)
        outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
        # Figures without plt.show() show as text.
        shown = [output for output in outputs if output.output_type in ("display_data", "execute_result")]
        assert sum("image/png" in output.data for output in shown) >= 1, name
        assert not [
            output
            for output in shown
            if re.match(r"\[?(<matplotlib|Text\()", output.data.get("text/plain", ""))
            and "image/png" not in output.data
        ], name
        assert [output.text for output in outputs if output.get("name") == "stderr"] == [], name
        page = (tmp_path / "out" / f"{name}.html").read_text()
        assert page.count("<img ") == sum("image/png" in output.data for output in shown)
        assert "No description has been provided" not in page
        assert not re.findall(r"""<(?:script|link)[^>]+(?:src|href)=["']https?:""", page)
