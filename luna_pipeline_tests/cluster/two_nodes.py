"""A real Ray cluster of two nodes on one machine, in a separate network without other tests' ports."""

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from luna_pipeline_tests.processes import wait_for

HEAD = "127.0.0.1:26379"
NODE = ["--node-ip-address=127.0.0.1", "--num-cpus=1", "--object-store-memory=100000000", "--disable-usage-stats"]
BIN = Path(sys.executable).parent


def can_have_networks() -> bool:
    """Return whether this user can create network namespaces."""
    if not all(shutil.which(tool) for tool in ("unshare", "nsenter", "ip")):
        return False
    return subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False).returncode == 0


@dataclass
class TwoNodes:
    """A cluster, and the processes of its second node."""

    host: int
    environment: Mapping[str, str]
    log: Path
    second: list[psutil.Process] = field(default_factory=list)

    def command(self, *arguments: str) -> list[str]:
        """Return a command as it runs in the cluster's network."""
        return ["nsenter", "-t", str(self.host), "-n", str(BIN / arguments[0]), *arguments[1:]]

    def start_node(self, *arguments: str) -> list[psutil.Process]:
        """Start a node and return its processes."""
        before = set(processes_of(self.host))
        with self.log.open("ab") as log:
            subprocess.run(
                self.command("ray", "start", *arguments, *NODE),
                env={**os.environ, **self.environment},
                stdout=log,
                stderr=log,
                check=True,
                timeout=120,
            )
        return [process for process in processes_of(self.host) if process not in before]

    def kill_second(self) -> None:
        """Kill all processes of the second node, as a power failure does."""
        (raylet,) = [process for process in self.second if process.name() == "raylet"]
        for process in [*raylet.children(recursive=True), *self.second]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


@contextlib.contextmanager
def two_nodes(root: Path) -> Iterator[TwoNodes]:
    """Start a cluster of two nodes with a CPU each, and kill all processes of its network at the end."""
    token = root / "ray_token"
    token.write_text(secrets.token_hex(32))
    token.chmod(0o600)
    # The paths of Ray's sockets must be short.
    folder = Path(tempfile.mkdtemp(prefix="luna-ray-", dir="/tmp"))
    host = subprocess.Popen(["unshare", "-n", "sh", "-c", "ip link set lo up && exec sleep 3600"])
    environment = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        "HOME": str(root),
        "RAY_ADDRESS": HEAD,
    }
    cluster = TwoNodes(host.pid, {**environment}, root / "nodes.log")
    try:
        wait_for(lambda: network_of(host.pid) != network_of(os.getpid()), limit_seconds=10, what="a separate network")
        head = [f"--port={HEAD.rpartition(':')[2]}", "--include-dashboard=false", f"--temp-dir={folder}"]
        cluster.start_node("--head", *head)
        cluster.second = cluster.start_node(f"--address={HEAD}")
        yield cluster
    finally:
        for process in processes_of(host.pid):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        host.kill()
        host.wait()
        shutil.rmtree(folder, ignore_errors=True)


def network_of(pid: int) -> str:
    """Return the network of a process; empty if the process has ended."""
    try:
        return os.readlink(f"/proc/{pid}/ns/net")
    except OSError:
        return ""


def processes_of(host: int) -> list[psutil.Process]:
    """Return the processes of a network except the one that holds it."""
    network = network_of(host)
    return [p for p in psutil.process_iter() if p.pid != host and network and network_of(p.pid) == network]
