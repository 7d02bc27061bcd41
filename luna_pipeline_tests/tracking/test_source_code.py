"""The source of an MLflow run."""

import subprocess
import sys
from pathlib import Path

import pytest

from luna_pipeline.tracking.source_code import commit_tags, source_tags


@pytest.fixture
def repository(tmp_path: Path) -> tuple[Path, str]:
    """A repository of one file, and the digest of its commit."""

    def git(*words: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
        command = ["git", "-C", str(tmp_path), *identity, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    (tmp_path / "code.py").write_text("a = 1\n")
    git("add", "code.py")
    git("commit", "-q", "-m", "first")
    git("tag", "v1-dirty")
    return tmp_path, git("rev-parse", "HEAD")


def test_the_commit_is_named_and_whether_files_differ_from_it(repository):
    folder, commit = repository
    tags = {"mlflow.source.git.commit": commit, "mlflow.source.git.dirty": "false"}
    assert commit_tags(folder) == tags
    commit_tags.cache_clear()
    (folder / "code.py").write_text("a = 2\n")
    assert commit_tags(folder) == tags | {"mlflow.source.git.dirty": "true"}


def test_a_folder_in_another_projects_repository_has_no_commit(repository):
    folder, _ = repository
    (folder / "site-packages").mkdir()
    assert commit_tags(folder / "site-packages") == {}


def test_without_git_there_is_no_commit(repository, monkeypatch):
    monkeypatch.setenv("PATH", "")
    commit_tags.cache_clear()
    assert commit_tags(repository[0]) == {}


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["/opt/bin/luna", "train_luna_classification", "--data", "/home/a"], "luna train_luna_classification"),
        (["/opt/bin/luna", "--debug"], "luna"),
        (["-c"], "python"),
    ],
)
def test_the_source_is_the_command_without_its_options(monkeypatch, arguments, name):
    monkeypatch.setattr(sys, "argv", arguments)
    assert source_tags()["mlflow.source.name"] == name
    assert source_tags("trial 3")["mlflow.source.name"] == "trial 3"
