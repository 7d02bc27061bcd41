"""Configuration of the service, from a YAML file; every value has a default."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from luna_pipeline.core.config.checks import check_choice
from luna_pipeline.core.config.plain import changed

GIB = 1 << 30
_WEB_ADDRESS = re.compile(r"https?://([^/\s:]+|\[[0-9a-fA-F:.]+\])(:[0-9]{1,5})?(/\S*)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadLimits:
    """What one CT may be; the first limit that is exceeded ends its upload while it arrives.

    Attributes:
        max_bytes: Bytes of an upload.
        max_files: Files of an upload, those in a zip file included.
        max_unpacked_bytes: Bytes of all files of a zip file, unpacked.
        max_ratio: Unpacked bytes per packed byte of a zip file.
        max_voxels: Voxels of the CT.
        max_seconds: Duration of an upload.
        min_bytes_per_second: Mean rate of an upload, after its first ten seconds.
        max_header_seconds: Duration of the headers of a request.
        max_cutouts: Cutouts of one request to ``/v1/classify``.
        min_free_bytes: Free bytes of the service's disk below which no CT is taken; 0 for none.
    """

    max_bytes: int = 4 * GIB
    max_files: int = 10_000
    max_unpacked_bytes: int = 8 * GIB
    max_ratio: float = 200.0
    max_voxels: int = 2_000 * 1024 * 1024
    max_seconds: float = 900.0
    min_bytes_per_second: float = 1_000.0
    max_header_seconds: float = 10.0
    max_cutouts: int = 512
    min_free_bytes: int = 2 * GIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A DICOM system that gets the results.

    Attributes:
        name: Name in messages.
        kind: ``cstore`` (DIMSE) or ``stow`` (DICOMweb).
        host: Host of a ``cstore`` peer.
        port: Port of a ``cstore`` peer.
        aet: Its application entity title.
        url: Base address of a ``stow`` peer, such as ``https://pacs/dicom-web``.
        tls: Whether a ``cstore`` peer is spoken to by TLS.
        token_variable: Environment variable with the bearer token of a ``stow`` peer; empty for none.
    """

    name: str
    kind: Literal["cstore", "stow"]
    host: str = "127.0.0.1"
    port: int = 104
    aet: str = "ANY-SCP"
    url: str = ""
    tls: bool = False
    token_variable: str = ""

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, ("cstore", "stow"))
        if self.kind == "stow" and not _WEB_ADDRESS.fullmatch(self.url):
            # It may hold a password.
            message = f"The url must be http(s)://host[:port][/path], got {'another' if self.url else 'no'} text"
            raise ValueError(f"{message} ({self.name}). Change its url.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiverConfig:
    """How DICOM is received.

    Attributes:
        aet: Own application entity title.
        calling_aets: Titles that may connect; empty for any, which is refused beyond loopback.
        quiet_seconds: A series without a known number of instances is complete this long after its last instance,
            once its association is released.
        unfinished_seconds: The same while its association is open, after it was aborted, after a restart of the
            receiver, and with fewer instances than its headers state.
        max_associations: Associations at a time.
        max_instances_per_second: Instances of one association per second, on average.
        certificate: PEM file of the own certificate for TLS; empty for none.
        key: PEM file of its key.
        authorities: PEM file of the certificates that peers must be signed by; empty for none.
    """

    aet: str = "LUNA"
    calling_aets: tuple[str, ...] = ()
    quiet_seconds: float = 10.0
    unfinished_seconds: float = 600.0
    max_associations: int = 10
    max_instances_per_second: float = 500.0
    certificate: str = ""
    key: str = ""
    authorities: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RayConfig:
    """How ``luna serve --on-ray`` is distributed over the machines of a Ray cluster.

    Attributes:
        min_replicas: Processes that answer requests, at least.
        max_replicas: Processes that answer requests, at most.
        requests_per_replica: Requests in work per process, above which another one is started.
        cpus_per_replica: CPUs that Ray reserves for such a process.
        cpus_per_worker: CPUs that Ray reserves for each of the ``num_workers`` processes that diagnose.
        downscale_seconds: Time with fewer requests after which a process is ended.
    """

    min_replicas: int = 1
    max_replicas: int = 4
    requests_per_replica: float = 4.0
    cpus_per_replica: float = 1.0
    cpus_per_worker: float = 1.0
    downscale_seconds: float = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceConfig:
    """All of the service's configuration.

    Attributes:
        database: Address of the jobs' database, ``postgresql://…``; empty for SQLite in the service's folder.
        max_queued: Waiting jobs; further ones are refused with 429.
        num_workers: Processes that diagnose, each with one set of models.
        max_attempts: Times that a worker begins a job before it is failed.
        keep_days: Days after which ended jobs are removed with their files; 0 keeps them.
        recipe: Name of the recipe.
        segmenter: Address of the segmenter; empty for the default, see ``launchers.diagnosis.models.find_models``.
        classifier: Address of the nodule classifier; empty for the default.
        malignancy: Address of the malignancy classifier; empty for the default.
        device: ``cpu`` or ``cuda``.
        deidentifies: Whether DICOM results are de-identified.
        dagster_url: Address of Dagster's webserver, to which finished diagnoses are reported; empty for none.
        delivery_hours: Hours during which a delivery is retried.
        allowed_hosts: Names by which other machines address the service, such as that of a proxy on this machine; with
            any of them tokens are required.
        limits: Limits of an upload.
        receiver: How DICOM is received.
        ray: How it is distributed by ``luna serve --on-ray``.
        peers: Systems that get the DICOM results of every series.
    """

    database: str = ""
    max_queued: int = 20
    num_workers: int = 1
    max_attempts: int = 2
    keep_days: float = 30.0
    recipe: str = "default"
    segmenter: str = ""
    classifier: str = ""
    malignancy: str = ""
    device: str = "cpu"
    deidentifies: bool = False
    dagster_url: str = ""
    delivery_hours: float = 48.0
    allowed_hosts: tuple[str, ...] = ()
    limits: UploadLimits = field(default_factory=UploadLimits)
    receiver: ReceiverConfig = field(default_factory=ReceiverConfig)
    ray: RayConfig = field(default_factory=RayConfig)
    peers: tuple[Peer, ...] = ()

    def __post_init__(self) -> None:
        names = [peer.name for peer in self.peers]
        if len(set(names)) < len(names):
            raise ValueError(f"Peers must have different names, got {', '.join(sorted(names))}. Rename one of them.")


def read_config(path: Path | None) -> ServiceConfig:
    """Read a YAML file; values that it leaves out have their defaults.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a value is unknown or outside its range.
    """
    if path is None:
        return ServiceConfig()
    import yaml

    values = yaml.safe_load(path.read_text()) or {}
    if not isinstance(values, Mapping):
        msg = f"The configuration must be a YAML mapping, got {type(values).__name__} ({path.name})."
        raise ValueError(f"{msg} Start from config/serving.yaml.")
    return config_of(values)


def config_of(values: Mapping[str, Any]) -> ServiceConfig:
    """Return the configuration of nested plain values, such as those of ``dataclasses.asdict``.

    Raises:
        ValueError: If a value is unknown or outside its range.
    """
    peers = tuple(Peer(**peer) for peer in values.get("peers", ()))
    return changed(ServiceConfig(peers=peers), _flat({name: it for name, it in values.items() if name != "peers"}))


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = tuple(value) if isinstance(value, list) else value
    return flat
