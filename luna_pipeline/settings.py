"""Where things lie: the LUNA_* environment as paths and addresses, read when asked for, never at import."""

import contextlib
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from luna_pipeline.core.phantom.marker import MARKER
from luna_pipeline.core.storage.files import AnyPath
from luna_pipeline.core.storage.s3 import remote_path

REPOSITORY = Path(__file__).resolve().parents[1]
_KEY_BYTES = 32
DEFAULT_MLFLOW_UI_URL = "http://127.0.0.1:8080"


@dataclass(frozen=True, slots=True)
class Settings:
    """Folders and addresses of one installation.

    Tables, cutouts and checkpoints may lie in S3 (``LUNA_HOME=s3://bucket/prefix``); credentials and server are those
    of AWS's environment, see ``core.storage.s3``. Everything else stays on this machine.

    Attributes:
        data_dir: Raw CT series and LUNA16's tables (``LUNA_DATA_DIR``); only read.
        home: Everything that is produced (``LUNA_HOME``), a folder or an address in S3.
        mlflow_tracking_uri: ``MLFLOW_TRACKING_URI``; by default an SQLite file under ``local_home``.
        cache_dir: Local copies of what lies in S3 (``LUNA_CACHE``); may be removed at any time.
    """

    data_dir: Path
    home: AnyPath
    mlflow_tracking_uri: str
    cache_dir: Path = REPOSITORY / ".luna/cache"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> "Settings":
        """Read ``LUNA_DATA_DIR``, ``LUNA_HOME``, ``LUNA_CACHE`` and ``MLFLOW_TRACKING_URI``.

        Without them everything lies in ``.luna`` in the root of the repository, whatever the current folder.

        Raises:
            ValueError: If LUNA_HOME is an address other than S3's, or another of the folders is an address.
        """
        values = os.environ if environment is None else environment
        home, cache_dir = _home(values), _folder(values, "LUNA_CACHE", default=".luna/cache")
        database = _local_home(home, cache_dir) / "mlflow.db"
        return cls(
            data_dir=_folder(values, "LUNA_DATA_DIR", default=".luna/data"),
            home=home,
            mlflow_tracking_uri=values.get("MLFLOW_TRACKING_URI") or f"sqlite:///{database}",
            cache_dir=cache_dir,
        )

    @property
    def local_home(self) -> Path:
        """Folder of what cannot lie in S3: MLflow's SQLite and artifacts, TensorBoard's logs, the key, locks.

        It is ``home`` itself, or the folder ``local`` beside ``cache_dir`` where ``home`` is in S3.
        """
        return _local_home(self.home, self.cache_dir)

    @property
    def is_synthetic(self) -> bool:
        """Whether the data are a phantom, which everything that is shown of them must say."""
        return (self.data_dir / MARKER).exists()

    @property
    def tables_dir(self) -> AnyPath:
        """Folder of the parquet tables."""
        return self.home / "tables"

    @property
    def cutouts_dir(self) -> AnyPath:
        """Folder of the cutout files, one a series."""
        return self.home / "cutouts"

    @property
    def checkpoints_dir(self) -> AnyPath:
        """Folder of the trained models: NAME/VERSION/best.pt."""
        return self.home / "checkpoints"

    @property
    def artifact_location(self) -> str | None:
        """Where MLflow keeps artifacts: beside its SQLite file, or as its server decides."""
        return None if self.mlflow_tracking_uri.startswith("http") else (self.local_home / "mlartifacts").as_uri()

    @property
    def mlflow_ui_url(self) -> str:
        """Address at which a browser finds MLflow: the server itself, or the one `make mlflow-server` starts."""
        uri = self.mlflow_tracking_uri
        return uri.rstrip("/") if uri.startswith("http") else DEFAULT_MLFLOW_UI_URL

    def patient_key(self) -> bytes:
        """Return the secret under which patient ids are hashed; made at first use, readable by its owner only."""
        path = self.local_home / "patient_key"
        self.local_home.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            _make_key(path)
        key = path.read_bytes()
        if len(key) != _KEY_BYTES:
            msg = f"The key of patients' hashes must be {_KEY_BYTES} bytes, got {len(key)} ({path}). Remove the file: a"
            raise ValueError(f"{msg} new key is made, and patients get new hashes.")
        return key


def _make_key(path: Path) -> None:
    """Write a key beside its name and link it: of several processes one makes it, and nobody sees half of it."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".patient_key.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(os.urandom(_KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(name, path)
    finally:
        os.unlink(name)


def demo_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that the demo adds: its own folders, where ``environment`` names none."""
    folders = {
        "LUNA_DATA_DIR": str(REPOSITORY / ".luna/demo/data"),
        "LUNA_HOME": str(REPOSITORY / ".luna/demo/home"),
    }
    return {name: value for name, value in folders.items() if not environment.get(name)}


def _home(values: Mapping[str, str]) -> AnyPath:
    value = values.get("LUNA_HOME")
    return remote_path(value) if value and _is_address(value) else _folder(values, "LUNA_HOME", default=".luna/home")


def _local_home(home: AnyPath, cache_dir: Path) -> Path:
    return home if isinstance(home, Path) else cache_dir.with_name("local")


def _folder(values: Mapping[str, str], name: str, *, default: str) -> Path:
    value = values.get(name)
    if value and _is_address(value):
        msg = f"{name} must be a folder of this machine, got {value}. Copy or mount it; only LUNA_HOME may lie in S3."
        raise ValueError(msg)
    return Path(value).expanduser().absolute() if value else REPOSITORY / default


def _is_address(value: str) -> bool:
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*:/", value) is not None
