"""A session on Ray: on this machine, started and ended here, or on the cluster that RAY_ADDRESS names."""

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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ADDRESS_VARIABLE = "RAY_ADDRESS"
# What a worker must know of this installation; credentials are each machine's own matter.
HANDED_ON = ("LUNA_DATA_DIR", "LUNA_HOME", "LUNA_CACHE", "LUNA_EXTENSIONS", "MLFLOW_TRACKING_URI")
# Cutouts are mapped from their files; what goes through the object store is small.
OBJECT_STORE_BYTES = 100 * 2**20
# Ray's sockets lie below its folder, with names of 84 characters, and a socket's path may have 107.
MAX_FOLDER_LENGTH = 23
SECONDS_TO_ANSWER = 10.0
TOKEN_VARIABLES = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
NO_ANSWER = (ConnectionError, TimeoutError, socket.gaierror)
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # Who asks for no GPU sees none.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    # Where the dashboard is installed, Ray would show its metrics to the whole network; -1 can be no port.
    "RAY_enable_metrics_collection": "0",
    "DASHBOARD_METRIC_PORT": "-1",
    "AUTOSCALER_METRIC_PORT": "-1",
    # Ctrl-C ends a study as it ends everything else.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # How much of Ray's own notes a killed driver may lose, in seconds.
    "TUNE_GLOBAL_CHECKPOINT_S": "2",
    # What is too big for a machine's memory is given up after some attempts; Ray would try for ever.
    "RAY_task_oom_retries": "2",
}
# What Ray sets itself in the process that starts it.
SET_BY_RAY = ("PYTHONBREAKPOINT", "RAY_CLIENT_MODE")


@dataclass(frozen=True, slots=True)
class RayResources:
    """What a session has to give.

    Attributes:
        num_cpus: Of all nodes.
        num_gpus: Of all nodes.
        num_nodes: Machines.
    """

    num_cpus: float
    num_gpus: float
    num_nodes: int


@contextlib.contextmanager
def ray_session(
    *, address: str | None = None, num_cpus: int | None = None, has_dashboard: bool = False
) -> Iterator[RayResources]:
    """Join a cluster, or start Ray on this machine; at the end, whatever that is, what was started here is ended.

    A Ray of this machine takes commands only with a token: the one that RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH gives,
    else one that is made for it and goes with it. It reports nothing to anybody, and its dashboard, where it is asked
    for, listens on 127.0.0.1 only.

    Args:
        address: The cluster's head, ``host:port``; None for the one that RAY_ADDRESS names, else this machine.
        num_cpus: CPUs that a Ray of this machine has to give; None for all.
        has_dashboard: Whether a Ray of this machine shows its dashboard.

    Yields:
        What there is. Inside another session it is that one's, which stays.

    Raises:
        ConnectionError: If there is no cluster at the address.
        ModuleNotFoundError: If the dashboard is asked for and not installed.
        ValueError: If the address is one for a Ray client, which is no node of the cluster.
    """
    with _environment(QUIET, without=SET_BY_RAY):
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


@contextlib.contextmanager
def _joined(address: str) -> Iterator[None]:
    handed_on = {name: os.environ[name] for name in HANDED_ON if name in os.environ}
    with _ray(address=address, runtime_env={"env_vars": {**handed_on, **QUIET}}):
        yield


@contextlib.contextmanager
def _started(*, num_cpus: int | None, has_dashboard: bool) -> Iterator[None]:
    # Who has chosen a token, to log in to the dashboard, keeps it.
    is_chosen = any(os.environ.get(name) for name in TOKEN_VARIABLES)
    own = {"RAY_AUTH_MODE": "token"} | ({} if is_chosen else {TOKEN_VARIABLES[0]: _token()})
    with (
        _short_folder() as folder,
        _environment(own, without=(ADDRESS_VARIABLE,)),
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
    """Make the secret by which this process's Ray knows it; it stands in no file."""
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
            said = " ".join(str(error).split())
            msg = f"The Ray cluster must answer, got {said} ({address}). Start it, or unset {ADDRESS_VARIABLE}."
            raise ConnectionError(msg) from error
        # Who would just die by it dies as Ray wants: what was started here is ended before.
        if on_sigterm != signal.SIG_DFL:
            _set_sigterm(on_sigterm)
        yield
    finally:
        ray.shutdown()
        _set_sigterm(on_sigterm)


def _must_answer(address: str) -> None:
    """Ask a cluster once whether it takes us: Ray would ask one that does not for a quarter of an hour.

    Raises:
        OSError: If nobody listens there.
        ray.exceptions.RayError: If it is no Ray, or one with another token.
    """
    from ray._private.authentication.authentication_token_setup import ensure_token_if_auth_enabled
    from ray._private.services import canonicalize_bootstrap_address
    from ray._raylet import GcsClient  # type: ignore[attr-defined]

    # As Ray will: for it 127.0.0.1 is what the network calls this machine.
    head = str(canonicalize_bootstrap_address(address))
    host, _, port = head.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), timeout=SECONDS_TO_ANSWER).close()
    ensure_token_if_auth_enabled(create_token_if_missing=False)
    GcsClient(address=head)


def _check_dashboard() -> None:
    # Of what only the dashboard needs; Ray itself says nothing but "missing packages".
    if importlib.util.find_spec("aiohttp_cors") is None:
        msg = "Ray's dashboard must be installed, got none. `pip install luna-pipeline[dashboard]`, or do without it."
        raise ModuleNotFoundError(msg)


def _set_sigterm(handler: Any) -> None:
    """Undo what Ray does to SIGTERM; it does so in the main thread only, where alone it can be undone."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


def _read_authentication_again() -> None:
    """Let Ray see how a session is secured: it reads that once, when it is imported, which may be long ago."""
    from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


@contextlib.contextmanager
def _short_folder() -> Iterator[Path]:
    here = tempfile.gettempdir()
    folder = Path(tempfile.mkdtemp(prefix="luna-ray-", dir=here if len(here) <= MAX_FOLDER_LENGTH else "/tmp"))
    try:
        # Ray opens its own folder to all users of the machine; the one around it stays this user's.
        yield folder / "r"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _environment(values: Mapping[str, str], *, without: tuple[str, ...] = ()) -> Iterator[None]:
    """Let the process, and whatever it starts, see these variables for a while."""
    before = {name: os.environ.pop(name, None) for name in (*values, *without)}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _resources() -> RayResources:
    import ray

    # Ray gives these no types.
    untyped: Any = ray
    there = untyped.cluster_resources()
    num_nodes = sum(bool(node["Alive"]) for node in untyped.nodes())
    return RayResources(there.get("CPU", 0.0), there.get("GPU", 0.0), num_nodes)
