"""What all tests share: where real data lies, if anywhere."""

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from luna_pipeline_tests.real_data import make_lidc_root
from luna_pipeline_tests.s3_server import s3_home, s3_server

__all__ = ["s3_home", "s3_server"]


@pytest.fixture(autouse=True)
def _no_global_mlflow_address():
    """MLflow keeps its address for the whole process; no test may inherit another's."""
    yield
    if "mlflow" in sys.modules:
        sys.modules["mlflow"].set_tracking_uri(None)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real scans, tables and weights; tests that need it are marked `real`."""
    folder = os.environ.get("LUNA_TEST_DATA")
    if not folder:
        pytest.skip("LUNA_TEST_DATA names no folder of real test data")
    return Path(folder)


@pytest.fixture(scope="session")
def lidc_root(real_data: Path, tmp_path_factory: pytest.TempPathFactory):
    """A data root in LUNA16's form with two whole LIDC-IDRI scans; read only, shared by the session."""
    root = tmp_path_factory.mktemp("lidc")
    make_lidc_root(real_data, root)
    yield root
    shutil.rmtree(root, ignore_errors=True)


@dataclass(frozen=True)
class Folders:
    """One installation for processes of its own: data root, home, Dagster home, and a log of what they print."""

    root: Path
    num_series: int

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def dagster(self) -> Path:
        return self.root / "dagster"

    @property
    def log(self) -> Path:
        return self.root / "log.txt"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "LUNA_DATA_DIR": str(self.data),
            "LUNA_HOME": str(self.home),
            "DAGSTER_HOME": str(self.dagster),
            "MLFLOW_TRACKING_URI": "",
            "HOME": str(self.root),
        }

    def write_config(self, text: str) -> str:
        path = self.root / "config.yaml"
        path.write_text(text)
        return str(path)


@pytest.fixture(scope="session")
def phantom_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A phantom of six series in three subsets; copied by whoever changes it."""
    from luna_pipeline.core.ct.phantom_files import make_phantom

    root = tmp_path_factory.mktemp("phantom")
    make_phantom(root, num_series=6, num_subsets=3, seed=3, size_irc=(48, 64, 64))
    return root


def laid_out(phantom_source: Path, root: Path) -> Folders:
    """Put a data root with the small phantom and a Dagster home with the project's settings below a folder."""
    shutil.copytree(phantom_source, root / "data")
    (root / "dagster").mkdir()
    shutil.copyfile(Path(__file__).parents[1] / "dagster.yaml", root / "dagster/dagster.yaml")
    return Folders(root, num_series=6)


@pytest.fixture
def folders(phantom_source: Path, tmp_path: Path) -> Folders:
    """A data root of one's own with the small phantom, an empty home and an empty Dagster home."""
    return laid_out(phantom_source, tmp_path)


@pytest.fixture
def luna(phantom_source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A data root of one's own, an empty home, a fresh Dagster instance."""
    import dagster as dg

    from luna_pipeline_tests.installation import Luna

    shutil.copytree(phantom_source, tmp_path / "data")
    monkeypatch.setenv("LUNA_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("LUNA_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "dagster").mkdir()
    with dg.DagsterInstance.local_temp(
        str(tmp_path / "dagster"), overrides={"telemetry": {"enabled": False}}
    ) as instance:
        yield Luna(tmp_path, instance)
