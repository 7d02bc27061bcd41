"""The commands, files and functions that the README names exist."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from luna_pipeline.cli import cli
from luna_pipeline.definitions import defs
from luna_pipeline.tuning.space import SPACES, SearchSpace
from luna_pipeline_tests.command_line import run_page

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
YOUR_DATA = (ROOT / "docs/how_to/your_data.md").read_text()
STAGES = (ROOT / "docs/reference/stages.md").read_text().split("| stage | asset |")[1].split("\n\n")[0]
TARGETS = sorted(set(re.findall(r"(?:^|`)make ([a-z-]+)", README, re.MULTILINE)))
JOBS = sorted(set(re.findall(r"--job ([a-z_]+)", YOUR_DATA)))


@pytest.mark.parametrize("target", TARGETS)
def test_make_targets_of_the_readme_exist(target: str):
    done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.seed_defect(70)
def test_jobs_commands_assets_and_functions_of_the_readme_exist():
    assert {"demo", "test", "ui", "docs"} <= set(TARGETS)
    assert set(JOBS) == {
        "ingest",
        "cut",
        "train_nodule_classifier",
        "train_malignancy_classifier",
        "evaluate",
        "cross_validate",
        "promote",
        "tune",
    }
    assert set(JOBS) <= {job.name for job in defs.resolve_all_job_defs()}
    assert set(re.findall(r"`luna ([a-z0-9_]+)", README + YOUR_DATA)) <= set(cli.commands)
    known = {key.to_user_string() for key in defs.resolve_asset_graph().get_all_asset_keys()}
    assert set(re.findall(r"\| `([a-z_]+)`", STAGES)) <= known


def test_functions_of_the_stage_table_can_be_imported():
    import importlib

    names = [row.rsplit("| `", 1)[1].strip("` |") for row in STAGES.splitlines()[2:]]
    assert len(names) == 26
    for name in names:
        parts = name.split(".")
        split = next(i for i, part in enumerate(parts) if part.endswith("Launcher") or i == len(parts) - 1)
        found = importlib.import_module(".".join(["luna_pipeline", *parts[:split]]))
        for part in parts[split:]:
            found = getattr(found, part)


def test_pages_that_the_readme_names_are_there():
    links = re.findall(r"\]\(([a-zA-Z_/]+\.md)\)", README)
    assert len(links) > 20
    assert [link for link in links if not (ROOT / link).is_file()] == []


def test_sentences_of_the_readme_and_of_the_first_pages_are_short():
    pages = [ROOT / "README.md", ROOT / "docs/index.md", *(ROOT / "docs").glob("start/*.md")]
    for page in [*pages, *(ROOT / "docs").glob("tutorial/*.md")]:
        assert mean_words(page.read_text()) < 20, page.name


def mean_words(text: str) -> float:
    """Return the mean number of words of a page's sentences; tables, code and pictures are left out."""
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    paragraphs = [part for part in re.split(r"\n\s*\n|\n *(?:-|\d\.) ", text) if not re.match(r"\s*[#|!<]", part)]
    sentences = [words.split() for part in paragraphs for words in re.split(r"(?<=[.?])\s+", part.strip()) if words]
    return sum(map(len, sentences)) / len(sentences)


def test_pictures_of_the_readme_are_there():
    for path in re.findall(r"!\[[^]]*\]\(([^)]+)\)", README):
        assert (ROOT / path).is_file(), path


def test_the_commands_of_the_page_on_cutting_run_as_they_stand_there(tmp_path: Path):
    page = (ROOT / "docs/how_to/cut.md").read_text()
    blocks = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 5
    environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    done = run_page("\n".join(blocks), cwd=tmp_path, environment=environment)
    assert done.returncode == 0, done.stderr
    assert "Imported 4 series" in done.stdout
    assert set(re.findall(r"luna ([a-z_]+)", "\n".join(blocks))) <= set(cli.commands)


@pytest.mark.slow
def test_the_commands_of_the_page_on_tuning_run_as_they_stand_there(tmp_path: Path):
    page = (ROOT / "docs/how_to/tune.md").read_text()
    blocks = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 2
    environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(tmp_path / "user")}
    done = run_page("\n".join(blocks), cwd=tmp_path, environment=environment)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "home/checkpoints/nodule_classifier/0.1.0/best.pt").exists(), done.stderr
    (space,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    assert len(SearchSpace.from_dict(json.loads(space)).domains) == 4
    assert set(re.findall(r"`([a-z_]+)` \|", page.split("| name | places |")[1].split("\n\n")[0])) == set(
        SPACES.names()
    )


@pytest.mark.slow
def test_the_commands_of_the_page_on_training_run_as_they_stand_there(tmp_path: Path):
    page = (ROOT / "docs/how_to/train.md").read_text()
    blocks = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 7
    (program,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "program.py").write_text(program)
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "OMP_NUM_THREADS": "1",
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
    }
    done = run_page("\n".join([*blocks, "python program.py"]), cwd=tmp_path, environment=environment)
    assert done.returncode == 0, done.stderr
    assert set(re.findall(r"^luna ([a-z_]+)", "\n".join(blocks), re.MULTILINE)) <= set(cli.commands)
    checkpoints = tmp_path / "home/checkpoints"
    made = {path.parent.relative_to(checkpoints) for path in checkpoints.rglob("best.pt")}
    versions = ("0.0.1", "0.0.1+1", "0.0.2", "0.0.0-profile", "0.1.0", "0.2.0")
    assert {str(path) for path in made} == {
        *(f"nodule_classifier/{version}" for version in versions),
        *(f"malignancy_classifier/{version}" for version in ("0.0.1", "0.0.1+1")),
        "nodule_segmenter/0.0.1",
    }


DIAGNOSIS = (ROOT / "docs/how_to/diagnose.md").read_text()


def test_the_commands_and_options_of_the_page_on_diagnosis_exist():
    blocks = re.findall(r"```(?:sh)?\n(.*?)```", DIAGNOSIS, re.DOTALL)
    inline = re.findall(r"`(luna [a-z_]+[^`]*)`", DIAGNOSIS)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("luna ")] + inline
    assert len(lines) >= 12
    for line in lines:
        command = cli.commands[line.split()[1]]
        known = {name for parameter in command.params for name in parameter.opts} | {"--help"}
        assert set(re.findall(r" (--[a-z-]+)", line)) <= known, line
    options = set(re.findall(r"`(--[a-z-]+)[ `]", DIAGNOSIS.split("## Outputs")[0]))
    assert options <= {name for parameter in cli.commands["diagnose"].params for name in parameter.opts}


def test_the_recipes_on_the_page_on_diagnosis_are_those_of_the_code():
    from luna_pipeline.core.diagnosis.recipes import DIAGNOSIS_RECIPES, book, default

    table = DIAGNOSIS.split("## Recipes")[1].split("\n\n")[2]
    assert set(re.findall(r"`([a-z]+)`", table)) == set(DIAGNOSIS_RECIPES.names())
    ours, theirs = default(), book()
    assert f"lungs and {ours.lung_margin_mm:g} mm around them" in table
    assert f"less than {ours.merge_mm:g} mm apart" in table
    assert f"below {ours.min_diameter_mm:g} mm they are dropped" in table
    assert f"{ours.max_findings} findings a CT" in table
    assert (theirs.lungs_only, theirs.erosion_voxels, theirs.edge_rule) == (False, 1, "shift")


def test_the_picture_of_a_report_is_never_that_of_a_patient(tmp_path: Path):
    (tmp_path / "report.html").write_text("<p>Nodules in a chest CT</p>")
    command = [sys.executable, "-m", "docs_tools.draw_report", str(tmp_path / "report.html")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "must be of a phantom, got a report of a CT" in done.stderr


@pytest.mark.slow
def test_the_commands_of_the_page_on_diagnosis_run_as_they_stand_there(tmp_path: Path):
    from jsonschema import Draft202012Validator

    from luna_pipeline.core.diagnosis.tables import schema_of

    (block,) = re.findall(r"```sh\n(.*?)```", DIAGNOSIS, re.DOTALL)
    environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(tmp_path / "user")}
    environment["OMP_NUM_THREADS"] = "1"
    done = run_page(block, cwd=tmp_path, environment=environment)
    assert done.returncode == 0, done.stderr
    for name in ("nodules.json", "diagnosis.json"):
        Draft202012Validator(schema_of(name)).validate(json.loads((tmp_path / "result" / name).read_text()))
    assert "Synthetic data" in (tmp_path / "result/report.html").read_text()
    outputs = json.loads((tmp_path / "result/diagnosis.json").read_text())["outputs"]
    assert set(outputs) == {"nodules.csv", "nodules.json", "lungs.png", "montage.png", "report.html"}
    for name in re.findall(r"\| `([a-z.]+)`(?:, `([a-z.]+)`)? \|", DIAGNOSIS.split("## Outputs")[1].split("\n\n")[1]):
        assert set(name) <= {*outputs, "seg.dcm", "sr.dcm", "diagnosis.json", ""}
