"""Where things lie: the LUNA_* environment as paths and addresses, read when asked for, never at import."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
DEFAULT_MLFLOW_UI_URL = "http://127.0.0.1:8080"


@dataclass(frozen=True, slots=True)
class Settings:
    """Folders and addresses of one installation.

    Attributes:
        data_dir: Raw CT series and LUNA16's tables (``LUNA_DATA_DIR``); only read.
        home: Everything that is produced (``LUNA_HOME``).
        mlflow_tracking_uri: ``MLFLOW_TRACKING_URI``; by default an SQLite file under ``home``.
    """

    data_dir: Path
    home: Path
    mlflow_tracking_uri: str

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> "Settings":
        """Read ``LUNA_DATA_DIR``, ``LUNA_HOME`` and ``MLFLOW_TRACKING_URI``.

        Without them everything lies in ``.luna`` in the root of the repository, whatever the current folder.
        """
        values = os.environ if environment is None else environment
        home = _absolute(values.get("LUNA_HOME"), default=".luna/home")
        return cls(
            data_dir=_absolute(values.get("LUNA_DATA_DIR"), default=".luna/data"),
            home=home,
            mlflow_tracking_uri=values.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home / 'mlflow.db'}",
        )

    @property
    def tables_dir(self) -> Path:
        """Folder of the parquet tables."""
        return self.home / "tables"

    @property
    def cutouts_dir(self) -> Path:
        """Folder of the cutout files, one a series."""
        return self.home / "cutouts"

    @property
    def checkpoints_dir(self) -> Path:
        """Folder of the trained models: NAME/VERSION/best.pt."""
        return self.home / "checkpoints"

    @property
    def artifact_location(self) -> str | None:
        """Where MLflow keeps artifacts: beside its SQLite file, or as its server decides."""
        return None if self.mlflow_tracking_uri.startswith("http") else (self.home / "mlartifacts").as_uri()

    @property
    def mlflow_ui_url(self) -> str:
        """Address at which a browser finds MLflow: the server itself, or the one `make mlflow-server` starts."""
        uri = self.mlflow_tracking_uri
        return uri.rstrip("/") if uri.startswith("http") else DEFAULT_MLFLOW_UI_URL

    def patient_key(self) -> bytes:
        """Return the secret under which patient ids are hashed; made at first use, readable by its owner only."""
        path = self.home / "patient_key"
        self.home.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return path.read_bytes()
        with os.fdopen(descriptor, "wb") as file:
            key = os.urandom(32)
            file.write(key)
        return key


def demo_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that the demo adds: its own folders, where ``environment`` names none."""
    folders = {
        "LUNA_DATA_DIR": str(REPOSITORY / ".luna/demo/data"),
        "LUNA_HOME": str(REPOSITORY / ".luna/demo/home"),
    }
    return {name: value for name, value in folders.items() if not environment.get(name)}


def _absolute(value: str | None, *, default: str) -> Path:
    return Path(value).expanduser().absolute() if value else REPOSITORY / default
