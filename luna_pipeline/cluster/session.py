"""Ray sessions: on this machine, started and stopped here, or on the cluster that RAY_ADDRESS names."""

import contextlib
import functools
import importlib.util
import logging
import os
import secrets
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luna_pipeline.core.config.environment import environment_variables

ADDRESS_VARIABLE = "RAY_ADDRESS"
# Variables for the workers; credentials are configured on each machine.
WORKER_VARIABLES = (
    *("LUNA_DATA_DIR", "LUNA_HOME", "LUNA_CACHE", "LUNA_SERVICE_DIR", "LUNA_EXTENSIONS", "MLFLOW_TRACKING_URI"),
    *("LUNA_ASSUME_HU", "LUNA_MAX_CT_GIB", "LUNA_MAX_CHECKPOINT_GIB", "LUNA_MAX_TABLE_MIB"),
    *("LUNA_VERIFY_READS", "LUNA_DEBUG"),
)
# Cutouts are memory-mapped from their files; only small objects go through the object store.
OBJECT_STORE_BYTES = 100 * 2**20
# Ray's sockets lie below its folder, with names of 84 characters; the path of a socket may have 107.
MAX_FOLDER_LENGTH = 23
SECONDS_TO_ANSWER = 10.0
TOKEN_VARIABLES = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
NO_ANSWER = (ConnectionError, TimeoutError, socket.gaierror)
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # Tasks without a GPU see none.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    # With the dashboard installed, Ray publishes metrics to the whole network; -1 is an invalid port.
    "RAY_enable_metrics_collection": "0",
    "DASHBOARD_METRIC_PORT": "-1",
    "AUTOSCALER_METRIC_PORT": "-1",
    # Ctrl-C ends a study as it ends other commands.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # A killed driver loses at most the last seconds of Ray's records.
    "TUNE_GLOBAL_CHECKPOINT_S": "2",
    # A task that does not fit into memory fails after some attempts; Ray's default is to retry forever.
    "RAY_task_oom_retries": "2",
}
# Set by Ray in the process that starts it.
SET_BY_RAY = ("PYTHONBREAKPOINT", "RAY_CLIENT_MODE")


@dataclass(frozen=True, slots=True)
class RayResources:
    """CPUs and GPUs of all nodes, and number of nodes."""

    num_cpus: float
    num_gpus: float
    num_nodes: int


@contextlib.contextmanager
def ray_session(
    *, address: str | None = None, num_cpus: int | None = None, has_dashboard: bool = False
) -> Iterator[RayResources]:
    """Join a cluster, or start Ray on this machine and stop it at the end.

    A local Ray accepts commands only with a token: the one of RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH, else a new one. It
    sends no usage reports, and its dashboard listens on 127.0.0.1 only. Within another session, that one is used and
    stays open.

    Args:
        address: The cluster's head, ``host:port``; None for the one of RAY_ADDRESS, else this machine.
        num_cpus: CPUs of a local Ray; None for all.
        has_dashboard: Whether a local Ray has a dashboard.

    Yields:
        The resources of the cluster.

    Raises:
        ConnectionError: If there is no cluster at the address.
        ModuleNotFoundError: If the dashboard is not installed.
        ValueError: If the address is one for a Ray client, which is not a node of the cluster.
    """
    with environment_variables(QUIET, without=SET_BY_RAY):
        import ray

        if ray.is_initialized():
            yield _resources()
            return
        address = address or os.environ.get(ADDRESS_VARIABLE)
        if address and "://" in address:
            msg = f"A Ray cluster's address must be HOST:PORT of its head, got {address}. Run this on one of its nodes:"
            raise ValueError(f"{msg} a Ray client far away would leave Ray's driver without its files.")
        if has_dashboard and not address:
            _check_dashboard()
        with _joined(address) if address else _started(num_cpus=num_cpus, has_dashboard=has_dashboard):
            yield _resources()


def _joined(address: str) -> contextlib.AbstractContextManager[None]:
    variables = {name: os.environ[name] for name in WORKER_VARIABLES if name in os.environ}
    return _ray(address=address, runtime_env={"env_vars": {**variables, **QUIET}})


@contextlib.contextmanager
def _started(*, num_cpus: int | None, has_dashboard: bool) -> Iterator[None]:
    # A token that the user has set, to log in to the dashboard, is kept.
    is_chosen = any(os.environ.get(name) for name in TOKEN_VARIABLES)
    own = {"RAY_AUTH_MODE": "token"} | ({} if is_chosen else {TOKEN_VARIABLES[0]: _token()})
    with (
        _short_folder() as folder,
        environment_variables(own, without=(ADDRESS_VARIABLE,)),
        _ray(
            address="local",
            num_cpus=num_cpus,
            include_dashboard=has_dashboard,
            dashboard_host="127.0.0.1",
            object_store_memory=OBJECT_STORE_BYTES,
            _temp_dir=str(folder),
        ),
    ):
        yield


@functools.cache
def _token() -> str:
    """Return the token of this process's Ray; it is not written to a file."""
    return secrets.token_hex(32)


@contextlib.contextmanager
def _ray(*, address: str, **options: Any) -> Iterator[None]:
    import ray

    _read_authentication_again()
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        try:
            if address not in {"local", "auto"}:
                _must_answer(address)
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
        except (*NO_ANSWER, ray.exceptions.RpcError, ray.exceptions.AuthenticationError) as error:
            reason = " ".join(str(error).split())
            msg = f"The Ray cluster must answer, got {reason} ({address}). Start it, or unset {ADDRESS_VARIABLE}."
            raise ConnectionError(msg) from error
        # Restore a custom SIGTERM handler; otherwise keep Ray's, which shuts its processes down.
        if on_sigterm != signal.SIG_DFL:
            _set_sigterm(on_sigterm)
        yield
    finally:
        ray.shutdown()
        _set_sigterm(on_sigterm)


def _must_answer(address: str) -> None:
    """Connect to a cluster once: Ray itself retries for a quarter of an hour.

    Raises:
        OSError: If nothing listens there.
        ray.exceptions.RayError: If it is not Ray, or has another token.
    """
    from ray._private.authentication.authentication_token_setup import ensure_token_if_auth_enabled
    from ray._private.services import canonicalize_bootstrap_address
    from ray._raylet import GcsClient  # type: ignore[attr-defined]

    # As Ray does: it replaces 127.0.0.1 by the machine's address in the network.
    head = str(canonicalize_bootstrap_address(address))
    host, _, port = head.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), timeout=SECONDS_TO_ANSWER).close()
    ensure_token_if_auth_enabled(create_token_if_missing=False)
    GcsClient(address=head)


def _check_dashboard() -> None:
    # One of the packages that only the dashboard needs; Ray itself does not name the extra.
    if importlib.util.find_spec("aiohttp_cors") is None:
        msg = "Ray's dashboard must be installed, got none. `pip install luna-pipeline[dashboard]`, or do without it."
        raise ModuleNotFoundError(msg)


def _set_sigterm(handler: Any) -> None:
    """Set the handler of SIGTERM, which is possible in the main thread only; Ray changes it only there, too."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


def _read_authentication_again() -> None:
    """Make Ray read the authentication settings again: it reads them once, at import."""
    from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


@contextlib.contextmanager
def _short_folder() -> Iterator[Path]:
    here = tempfile.gettempdir()
    folder = Path(tempfile.mkdtemp(prefix="luna-ray-", dir=here if len(here) <= MAX_FOLDER_LENGTH else "/tmp"))
    try:
        # Ray opens its folder to all users of the machine; this user's folder around it is closed to them.
        yield folder / "r"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _resources() -> RayResources:
    import ray

    # These functions are not typed.
    untyped: Any = ray
    resources = untyped.cluster_resources()
    num_nodes = sum(bool(node["Alive"]) for node in untyped.nodes())
    return RayResources(resources.get("CPU", 0.0), resources.get("GPU", 0.0), num_nodes)
