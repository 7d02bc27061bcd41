"""Folders and addresses of an installation, from environment variables; nothing is read at import."""

import contextlib
import math
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from luna_pipeline.core.phantom.marker import MARKER
from luna_pipeline.core.storage.files import AnyPath, read_bytes
from luna_pipeline.core.storage.limited_disks import place_new
from luna_pipeline.core.storage.s3 import remote_path

REPOSITORY = Path(__file__).resolve().parents[1]
_KEY_BYTES = 32
_DEFAULT_QUIET_SECONDS = 60.0
DEFAULT_MLFLOW_UI_URL = "http://127.0.0.1:8080"
DEFAULT_TENSORBOARD_URL = "http://127.0.0.1:6006"


@dataclass(frozen=True, slots=True)
class Settings:
    """Folders and addresses of one installation.

    Tables, cutouts and checkpoints may be in S3 (``LUNA_HOME=s3://bucket/prefix``), see ``core.storage.s3`` for
    credentials. Everything else is on this machine.

    Attributes:
        data_dir: Raw CT series and LUNA16's tables (``LUNA_DATA_DIR``); only read.
        home: Everything that is produced (``LUNA_HOME``), a folder or an address in S3.
        mlflow_tracking_uri: ``MLFLOW_TRACKING_URI``; by default an SQLite file in ``local_home``.
        cache_dir: Local copies of objects in S3 (``LUNA_CACHE``); may be removed at any time.
        verifies_reads: Whether the bytes of a cutout file are compared with their checksums before it is first read
            (``LUNA_VERIFY_READS``, 1 or 0).
        sources: Data sources of the data root, by name (``LUNA_SOURCE``, separated by commas); empty for those that lie
            there. See ``core.sources``.
        malignancy_policy: Rule that makes a label of readers' ratings (``LUNA_MALIGNANCY_POLICY``), a name in
            ``MALIGNANCY_POLICIES``.
        incoming_dir: Unseen CTs to diagnose (``LUNA_INCOMING_DIR``); only read.
        incoming_quiet_seconds: Time for which the files of an incoming series must be unchanged before it counts as
            complete (``LUNA_INCOMING_QUIET_SECONDS``).
        service_dir: What the service keeps, on a disk that its processes share (``LUNA_SERVICE_DIR``); by default
            ``service`` in ``local_home``.
        mlflow_url: MLflow's page in a browser (``LUNA_MLFLOW_URL``); empty for the default of ``mlflow_ui_url``.
        tensorboard_ui_url: TensorBoard's page in a browser (``LUNA_TENSORBOARD_URL``); by default the one that
            `make tensorboard-classification` starts.
        dagster_ui_url: Dagster's page in a browser (``LUNA_DAGSTER_URL``); empty for no links to it.
    """

    data_dir: Path
    home: AnyPath
    mlflow_tracking_uri: str
    cache_dir: Path = REPOSITORY / ".luna/cache"
    verifies_reads: bool = True
    sources: tuple[str, ...] = ()
    malignancy_policy: str = "book"
    incoming_dir: Path = REPOSITORY / ".luna/incoming"
    incoming_quiet_seconds: float = _DEFAULT_QUIET_SECONDS
    service_dir: Path = REPOSITORY / ".luna/service"
    mlflow_url: str = ""
    tensorboard_ui_url: str = DEFAULT_TENSORBOARD_URL
    dagster_ui_url: str = ""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> "Settings":
        """Read the variables that the attributes name.

        By default everything is in ``.luna`` in the root of the repository, independent of the current folder.

        Raises:
            ValueError: If LUNA_HOME is an address other than S3's, another folder is an address, LUNA_VERIFY_READS is
                neither 0 nor 1, or LUNA_INCOMING_QUIET_SECONDS is no number of seconds.
        """
        values = os.environ if environment is None else environment
        settings = cls(
            data_dir=_folder(values, "LUNA_DATA_DIR", default=".luna/data"),
            home=_home(values),
            mlflow_tracking_uri=values.get("MLFLOW_TRACKING_URI", ""),
            cache_dir=_folder(values, "LUNA_CACHE", default=".luna/cache"),
            sources=tuple(name.strip() for name in values.get("LUNA_SOURCE", "").split(",") if name.strip()),
            malignancy_policy=values.get("LUNA_MALIGNANCY_POLICY") or "book",
            verifies_reads=_flag(values, "LUNA_VERIFY_READS", default=True),
            incoming_dir=_folder(values, "LUNA_INCOMING_DIR", default=".luna/incoming"),
            incoming_quiet_seconds=_seconds(values, "LUNA_INCOMING_QUIET_SECONDS", default=_DEFAULT_QUIET_SECONDS),
            mlflow_url=values.get("LUNA_MLFLOW_URL", "").rstrip("/"),
            tensorboard_ui_url=(values.get("LUNA_TENSORBOARD_URL") or DEFAULT_TENSORBOARD_URL).rstrip("/"),
            dagster_ui_url=values.get("LUNA_DAGSTER_URL", "").rstrip("/"),
        )
        uri = settings.mlflow_tracking_uri or _sqlite_uri(settings.local_home / "mlflow.db")
        service_dir = _folder(values, "LUNA_SERVICE_DIR", default=str(settings.local_home / "service"))
        return replace(settings, mlflow_tracking_uri=uri, service_dir=service_dir)

    @classmethod
    def in_folder(cls, folder: Path | str) -> "Settings":
        """Return an installation in a folder of its own, in ``data``, ``home``, ``cache`` and ``incoming``.

        No environment variable has an effect.

        Args:
            folder: The folder; a relative one is below the current folder.
        """
        root = Path(folder).absolute()
        folders = {"LUNA_DATA_DIR": "data", "LUNA_HOME": "home", "LUNA_CACHE": "cache", "LUNA_INCOMING_DIR": "incoming"}
        return cls.from_environment({variable: str(root / name) for variable, name in folders.items()})

    @property
    def local_home(self) -> Path:
        """Folder of what S3 cannot hold: MLflow's SQLite file and artifacts, TensorBoard's logs, diagnoses, key, locks.

        It is ``home``, or with ``home`` in S3 the folder ``local`` next to ``cache_dir``.
        """
        return self.home if isinstance(self.home, Path) else self.cache_dir.with_name("local")

    @property
    def is_synthetic(self) -> bool:
        """Whether the data, or those of one of several data sources, are a phantom; reports and plots must state it."""
        return (self.data_dir / MARKER).exists() or any(self.data_dir.glob(f"*/{MARKER}"))

    @property
    def tables_dir(self) -> AnyPath:
        """Folder of the parquet tables."""
        return self.home / "tables"

    @property
    def source_tables_dir(self) -> Path:
        """Folder of the tables in LUNA16's form that are made from other data sources; on this machine."""
        return self.local_home / "source_tables"

    @property
    def cutouts_dir(self) -> AnyPath:
        """Folder of the cutout files, one per series."""
        return self.home / "cutouts"

    @property
    def checkpoints_dir(self) -> AnyPath:
        """Folder of the checkpoints: NAME/VERSION/best.pt."""
        return self.home / "checkpoints"

    @property
    def diagnoses_dir(self) -> Path:
        """Folder of the diagnoses, one folder per incoming series; also with ``home`` in S3 on this machine."""
        return self.local_home / "diagnoses"

    @property
    def artifact_location(self) -> str | None:
        """Folder of MLflow's artifacts, as a URI; None if a server decides."""
        return None if self.mlflow_tracking_uri.startswith("http") else (self.local_home / "mlartifacts").as_uri()

    @property
    def mlflow_ui_url(self) -> str:
        """Address of MLflow's page: ``mlflow_url``, the server, or the one that `make mlflow-server` starts."""
        uri = self.mlflow_tracking_uri if self.mlflow_tracking_uri.startswith("http") else DEFAULT_MLFLOW_UI_URL
        # Links are shown to everyone who sees a page, so they hold no password.
        return self.mlflow_url or re.sub(r"://[^/@]+@", "://", uri).rstrip("/")

    @property
    def kind_of_data(self) -> str:
        """Kind of the data in words, for all that shows results."""
        return "synthetic phantom" if self.is_synthetic else "CT"

    def patient_key(self) -> bytes:
        """Return the secret key for hashing patient ids; created at first use, readable by its owner only."""
        path = self.local_home / "patient_key"
        self.local_home.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            _make_key(path)
        key = read_bytes(path)
        if len(key) != _KEY_BYTES:
            msg = f"The key of patients' hashes must be {_KEY_BYTES} bytes, got {len(key)} ({path}). Remove the file: a"
            raise ValueError(f"{msg} new key is made, and patients get new hashes.")
        return key


def _make_key(path: Path) -> None:
    """Write a key under a temporary name and rename it: one of several processes creates it, and never partially."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".patient_key.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(os.urandom(_KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            place_new(Path(name), path)
    finally:
        Path(name).unlink(missing_ok=True)


def _sqlite_uri(path: Path) -> str:
    if found := sorted(set("?%") & set(str(path))):
        msg = f"The path of MLflow's database must have no '?' or '%', got {' and '.join(found)} ({path})."
        raise ValueError(f"{msg} Rename the folder, or set MLFLOW_TRACKING_URI.")
    return f"sqlite:///{path}"


def demo_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that the demo adds: its own folders, unless ``environment`` names others."""
    folders = {"LUNA_DATA_DIR": "data", "LUNA_HOME": "home"}
    return {name: str(REPOSITORY / ".luna/demo" / it) for name, it in folders.items() if not environment.get(name)}


def _home(values: Mapping[str, str]) -> AnyPath:
    value = values.get("LUNA_HOME")
    return remote_path(value) if value and _is_address(value) else _folder(values, "LUNA_HOME", default=".luna/home")


def _flag(values: Mapping[str, str], name: str, *, default: bool) -> bool:
    value = values.get(name) or str(int(default))
    if value not in ("0", "1"):
        msg = f"{name} must be 0 or 1, got {value!r} (environment). Set one of them, or leave it out."
        raise ValueError(msg)
    return value == "1"


def _seconds(values: Mapping[str, str], name: str, *, default: float) -> float:
    text = values.get(name) or str(default)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        msg = f"{name} must be a number of seconds from 0, got {text!r} (environment). Set one, or leave it out."
        raise ValueError(msg)
    return value


def _folder(values: Mapping[str, str], name: str, *, default: str) -> Path:
    value = values.get(name)
    if value and not value.isprintable():
        msg = f"{name} must be a path of printable characters in UTF-8, got {value!r}. Rename the folder."
        raise ValueError(msg)
    if value and _is_address(value):
        msg = f"{name} must be a folder of this machine, got {value}. Copy or mount it; only LUNA_HOME may be in S3."
        raise ValueError(msg)
    return Path(value).expanduser().absolute() if value else REPOSITORY / default


def _is_address(value: str) -> bool:
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*:/", value) is not None
