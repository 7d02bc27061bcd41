"""Folders and addresses from the environment."""

import stat
from pathlib import Path

import pytest

from luna_pipeline.core.phantom.dataset import make_phantom
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


def test_home_in_s3_keeps_the_rest_on_this_machine(tmp_path: Path):
    settings = Settings.from_environment({"LUNA_HOME": "s3://bucket/luna", "LUNA_CACHE": str(tmp_path / "cache")})
    assert [str(folder) for folder in (settings.tables_dir, settings.cutouts_dir, settings.checkpoints_dir)] == [
        "s3://bucket/luna/tables",
        "s3://bucket/luna/cutouts",
        "s3://bucket/luna/checkpoints",
    ]
    assert settings.cache_dir == tmp_path / "cache"
    assert settings.local_home == tmp_path / "local"
    assert settings.mlflow_tracking_uri == f"sqlite:///{tmp_path}/local/mlflow.db"
    assert settings.artifact_location == (tmp_path / "local/mlartifacts").as_uri()
    assert len(settings.patient_key()) == 32
    assert [path.name for path in tmp_path.rglob("*")] == ["local", "patient_key"]
    default = Settings.from_environment({"LUNA_HOME": "s3://bucket"})
    assert (default.cache_dir, default.local_home) == (REPOSITORY / ".luna/cache", REPOSITORY / ".luna/local")


def test_home_on_this_machine_is_the_local_home(tmp_path: Path):
    settings = Settings.from_environment({"LUNA_HOME": str(tmp_path), "LUNA_CACHE": str(tmp_path / "cache")})
    assert settings.local_home == settings.home == tmp_path


def test_incoming_cts_and_diagnoses_lie_on_this_machine_and_quiet_is_a_number_of_seconds(tmp_path: Path):
    settings = Settings.from_environment({"LUNA_HOME": "s3://bucket/luna", "LUNA_CACHE": str(tmp_path / "cache")})
    assert settings.incoming_dir == REPOSITORY / ".luna/incoming"
    assert settings.diagnoses_dir == tmp_path / "local/diagnoses"
    assert settings.incoming_quiet_seconds == 60.0
    assert Settings.from_environment({"LUNA_INCOMING_QUIET_SECONDS": "0.5"}).incoming_quiet_seconds == 0.5
    for text in ("a minute", "-1", "inf", "nan"):
        with pytest.raises(ValueError, match=f"LUNA_INCOMING_QUIET_SECONDS must be .* from 0, got '{text}'"):
            Settings.from_environment({"LUNA_INCOMING_QUIET_SECONDS": text})


def test_the_service_lies_in_the_local_home_unless_it_has_a_folder_of_its_own(tmp_path: Path):
    assert Settings.from_environment({"LUNA_HOME": str(tmp_path)}).service_dir == tmp_path / "service"
    other = {"LUNA_HOME": str(tmp_path), "LUNA_SERVICE_DIR": "/srv/luna"}
    assert Settings.from_environment(other).service_dir == Path("/srv/luna")


@pytest.mark.parametrize("name", ["LUNA_DATA_DIR", "LUNA_CACHE", "LUNA_INCOMING_DIR", "LUNA_SERVICE_DIR"])
def test_only_home_may_lie_in_s3(name: str):
    with pytest.raises(ValueError, match=f"{name} must be a folder of this machine, got s3://bucket/ct"):
        Settings.from_environment({name: "s3://bucket/ct"})


@pytest.mark.parametrize("address", ["gs://bucket/luna", "s3:/bucket", "https://host/bucket", "file:///tmp"])
def test_home_at_another_kind_of_address_is_refused(address: str):
    with pytest.raises(ValueError, match=f"must be s3://BUCKET/PREFIX, got {address}"):
        Settings.from_environment({"LUNA_HOME": address})


def test_mlflow_server_keeps_its_own_artifacts_and_is_its_own_page(tmp_path: Path):
    local = Settings.from_environment({"LUNA_HOME": str(tmp_path)})
    assert local.artifact_location == (tmp_path / "mlartifacts").as_uri()
    assert local.mlflow_ui_url == "http://127.0.0.1:8080"
    server = Settings.from_environment({"MLFLOW_TRACKING_URI": "http://tracking:5000/"})
    assert server.artifact_location is None
    assert server.mlflow_ui_url == "http://tracking:5000"


def test_links_to_mlflow_hold_no_password_and_have_an_address_of_their_own_where_one_is_set():
    tracking = {"MLFLOW_TRACKING_URI": "https://luna:secret@tracking:5000"}
    assert Settings.from_environment(tracking).mlflow_ui_url == "https://tracking:5000"
    named = Settings.from_environment(tracking | {"LUNA_MLFLOW_URL": "http://127.0.0.1:8080/"})
    assert named.mlflow_ui_url == "http://127.0.0.1:8080"


def test_pages_of_tensorboard_and_dagster_are_named_by_the_environment():
    assert Settings.from_environment({}).tensorboard_ui_url == "http://127.0.0.1:6006"
    assert Settings.from_environment({}).dagster_ui_url == ""
    pages = Settings.from_environment({"LUNA_TENSORBOARD_URL": "http://a:1/", "LUNA_DAGSTER_URL": "http://b:2/"})
    assert (pages.tensorboard_ui_url, pages.dagster_ui_url) == ("http://a:1", "http://b:2")


def test_patient_key_is_made_once_and_for_its_owner_only(tmp_path: Path):
    settings = Settings.from_environment({"LUNA_HOME": str(tmp_path / "home")})
    key = settings.patient_key()
    assert len(key) == 32
    assert settings.patient_key() == key
    assert stat.S_IMODE((tmp_path / "home/patient_key").stat().st_mode) == 0o600


def test_a_phantom_is_known_by_the_file_that_its_maker_leaves(tmp_path: Path):
    settings = Settings.from_environment({"LUNA_DATA_DIR": str(tmp_path / "data")})
    assert not settings.is_synthetic
    make_phantom(tmp_path / "data", num_series=1, num_subsets=1, seed=0, size_irc=(32, 32, 32))
    assert settings.is_synthetic


def test_demo_adds_its_own_folders_only_where_none_are_named():
    assert demo_environment({"LUNA_HOME": "/elsewhere"}) == {"LUNA_DATA_DIR": str(REPOSITORY / ".luna/demo/data")}
    assert set(demo_environment({})) == {"LUNA_DATA_DIR", "LUNA_HOME"}


def test_a_key_that_is_not_whole_is_refused(tmp_path):
    settings = Settings.from_environment({"LUNA_HOME": str(tmp_path)})
    (tmp_path / "patient_key").write_bytes(b"")
    with pytest.raises(ValueError, match="must be 32 bytes, got 0"):
        settings.patient_key()
    (tmp_path / "patient_key").unlink()
    key = settings.patient_key()
    assert len(key) == 32
    assert settings.patient_key() == key
    assert [path.name for path in tmp_path.iterdir()] == ["patient_key"]


@pytest.mark.parametrize("name", ["q?x=1", "a%20b", "a%"])
def test_a_path_that_is_another_one_as_an_address_is_refused(tmp_path: Path, name: str):
    with pytest.raises(ValueError, match="must have no '\\?' or '%', got"):
        Settings.from_environment({"LUNA_HOME": str(tmp_path / name)})
    settings = Settings.from_environment({"LUNA_HOME": str(tmp_path / name), "MLFLOW_TRACKING_URI": "http://host"})
    assert settings.home == tmp_path / name


@pytest.mark.parametrize("value", ["a\nb", "a\tb", "a\udcffb", "a\x7f"])
def test_a_path_that_cannot_be_printed_is_refused(value: str):
    with pytest.raises(ValueError, match="LUNA_DATA_DIR must be a path of printable characters"):
        Settings.from_environment({"LUNA_DATA_DIR": value})


def test_an_installation_in_a_folder_heeds_no_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LUNA_HOME", "/elsewhere")
    settings = Settings.in_folder("phantom")
    folders = [settings.data_dir, settings.home, settings.cache_dir, settings.incoming_dir]
    assert folders == [tmp_path / "phantom" / name for name in ("data", "home", "cache", "incoming")]
    assert settings.mlflow_tracking_uri == f"sqlite:///{tmp_path}/phantom/home/mlflow.db"
