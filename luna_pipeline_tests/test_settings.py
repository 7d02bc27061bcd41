"""Folders and addresses from the environment."""

import stat
from pathlib import Path

import pytest

from luna_pipeline.settings import REPOSITORY, Settings, demo_environment


def test_defaults_lie_in_the_repository_whatever_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    settings = Settings.from_environment({})
    assert settings.data_dir == REPOSITORY / ".luna/data"
    assert settings.home == REPOSITORY / ".luna/home"
    assert settings.mlflow_tracking_uri == f"sqlite:///{REPOSITORY}/.luna/home/mlflow.db"
    assert (REPOSITORY / "pyproject.toml").exists()


def test_environment_wins_and_relative_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    settings = Settings.from_environment({"LUNA_DATA_DIR": "ct", "LUNA_HOME": str(tmp_path / "out")})
    assert settings.data_dir == tmp_path / "ct"
    assert settings.cutouts_dir == tmp_path / "out/cutouts"
    assert settings.tables_dir == tmp_path / "out/tables"
    assert settings.checkpoints_dir == tmp_path / "out/checkpoints"


def test_mlflow_server_keeps_its_own_artifacts_and_is_its_own_page(tmp_path: Path):
    local = Settings.from_environment({"LUNA_HOME": str(tmp_path)})
    assert local.artifact_location == (tmp_path / "mlartifacts").as_uri()
    assert local.mlflow_ui_url == "http://127.0.0.1:8080"
    server = Settings.from_environment({"MLFLOW_TRACKING_URI": "http://tracking:5000/"})
    assert server.artifact_location is None
    assert server.mlflow_ui_url == "http://tracking:5000"


def test_patient_key_is_made_once_and_for_its_owner_only(tmp_path: Path):
    settings = Settings.from_environment({"LUNA_HOME": str(tmp_path / "home")})
    key = settings.patient_key()
    assert len(key) == 32
    assert settings.patient_key() == key
    assert stat.S_IMODE((tmp_path / "home/patient_key").stat().st_mode) == 0o600


def test_demo_adds_its_own_folders_only_where_none_are_named():
    assert demo_environment({"LUNA_HOME": "/elsewhere"}) == {"LUNA_DATA_DIR": str(REPOSITORY / ".luna/demo/data")}
    assert set(demo_environment({})) == {"LUNA_DATA_DIR", "LUNA_HOME"}
