"""`make image-luna25`: the container scores a case as the command does, without network, rights or a writable disk."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from luna_pipeline.core.sources.luna25_container import LIKELIHOODS
from luna_pipeline_tests.command_line import run_here
from luna_pipeline_tests.diagnosis_models import save_models
from luna_pipeline_tests.launchers.test_luna25 import points_of, write_case
from luna_pipeline_tests.processes import REPOSITORY

pytestmark = pytest.mark.containers
TAG = "luna25-test"
DOCKER = os.environ.get("DOCKER", "docker")


def run(*command: str) -> str:
    environment = {**os.environ, "LUNA_TAG": TAG}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_container_scores_a_case_as_the_command_does(tmp_path: Path):
    save_models(tmp_path / "home", "malignancy")
    model = tmp_path / "home" / "checkpoints" / "malignancy_classifier" / "0.0.1"
    run("make", "image-luna25", f"DOCKER={DOCKER}", f"ENV_FILE={tmp_path / 'env'}", f"MODEL={model}")
    case, out = write_case(tmp_path, points_of((20, 30, 40), (5, 50, 20))), tmp_path / "out"
    out.mkdir()
    out.chmod(0o777)
    tmp_path.chmod(0o755)
    image = f"luna-pipeline-luna25:{TAG}"
    limits = ("--network", "none", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--memory", "4g")
    volumes = ("--volume", f"{case}:/input:ro", "--volume", f"{out}:/output")
    said = run(DOCKER, "run", "--rm", *limits, *volumes, image)
    assert "2 nodules by malignancy_classifier 0.0.1" in said
    assert "Research use only" in said
    arguments = ("predict_luna25", "--input", str(case), "--output", str(tmp_path / "here"))
    environment = {"LUNA_HOME": str(tmp_path / "home"), "LUNA_DATA_DIR": str(tmp_path)}
    assert run_here(*arguments, cwd=tmp_path, environment=environment).returncode == 0
    made, here = (json.loads((folder / LIKELIHOODS).read_text()) for folder in (out, tmp_path / "here"))
    assert [point["name"] for point in made["points"]] == [point["name"] for point in here["points"]]
    scores = [[point["probability"] for point in each["points"]] for each in (made, here)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)
    assert run(DOCKER, "image", "inspect", "--format", "{{.Config.User}}", image).strip() == "1000:1000"


def test_a_folder_without_weights_is_refused(tmp_path: Path):
    command = ["make", "image-luna25", "-o", "image", f"MODEL={tmp_path}"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "must be the folder of a checkpoint with best.pt" in done.stderr
