"""The stack of docker-compose.yml as processes of this machine, where no container can be had.

What is started is what the compose file says, read by Compose itself: the same commands, environment, configuration
files, health checks, order of start and restart policy. Only places differ: each service listens on a free port of
loopback, and folders of the containers are folders below a temporary one. PostgreSQL is the machine's own. As with a
container, whatever a service's first process has started ends with it.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from luna_pipeline_tests.postgres_server import POSTGRES_BIN, PostgresCluster
from luna_pipeline_tests.processes import REPOSITORY, free_port, session_of, wait_for

BIN = Path(sys.executable).parent
PORTS = {
    "postgres": 5432,
    "store": 8333,
    "mlflow": 8080,
    "code": 4000,
    "webserver": 3000,
    "serve": 8000,
    "receive": 11112,
    "tensorboard": 6006,
}
HIDDEN = ("AWS_", "LUNA_", "DAGSTER_", "MLFLOW_", "RAY_", "PG", "POSTGRES_")


def composed(folder: Path, *arguments: str, **variables: str) -> dict:
    """What Compose makes of the file, with passwords as `make up` writes them.

    They are not in a file `.env`, which Dagster would read where it starts.
    """
    subprocess.run(["sh", "deploy/stack/make_env.sh", str(folder / "env")], cwd=REPOSITORY, check=True)
    command = [BIN / "docker-compose", "--env-file", str(folder / "env"), *arguments, "config", "--format", "json"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), **variables}
    return json.loads(subprocess.check_output(command, cwd=REPOSITORY, env=environment))


class Service:
    """One service: its command and environment as the compose file has them, at home on this machine."""

    def __init__(self, name: str, stack: "StackOfProcesses") -> None:
        self.name = name
        self.stack = stack
        self.config = stack.config["services"][name]
        self.process: subprocess.Popen[bytes] | None = None
        self._last_well: subprocess.Popen[bytes] | None = None
        self.own_command: list[str] = []
        self.folder = stack.folder

    @property
    def command(self) -> list[str]:
        given = [*(self.config.get("entrypoint") or []), *(self.config.get("command") or [])]
        return self.own_command or self.stack.at_home(given)

    @property
    def environment(self) -> dict[str, str]:
        given = {name: str(value) for name, value in (self.config.get("environment") or {}).items()}
        hosts = {name: "127.0.0.1" for name, value in given.items() if name.endswith("_HOST") and value in PORTS}
        at_home = dict(zip(given, self.stack.at_home(list(given.values())), strict=True)) | hosts
        if "DAGSTER_POSTGRES_PORT" in at_home:
            at_home["DAGSTER_POSTGRES_PORT"] = str(self.stack.ports["postgres"])
        outer = {name: value for name, value in os.environ.items() if not name.startswith(HIDDEN)}
        path = f"{BIN}:{POSTGRES_BIN}:{os.environ['PATH']}"
        return {**outer, "PATH": path, "HOME": str(self.stack.folder), "PYTHONWARNINGS": "ignore", **at_home}

    @property
    def log(self) -> Path:
        return self.stack.folder / f"{self.name}.log"

    def start(self) -> None:
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                # A shell that put the tests into the background would have them ignore Ctrl-C, and all that they start.
                ["env", "--default-signal=INT,QUIT,TERM", *self.command],
                env=self.environment,
                cwd=self.folder,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def is_well(self) -> bool:
        """Ask the health check of the compose file; a service without one is well when it has ended with 0."""
        check = self.config.get("healthcheck", {})
        if self.process is None:
            return False
        if check.get("disable"):
            return self.process.poll() == 0
        command = self.stack.at_home(check["test"][1:])
        if command[0] == "pg_isready":
            command.append(f"--port={self.stack.ports['postgres']}")
        with contextlib.suppress(subprocess.TimeoutExpired):
            asked = subprocess.run(command, env=self.environment, capture_output=True, timeout=30, check=False)
            return asked.returncode == 0
        return False

    def was_well(self) -> bool:
        """Whether this very process passed its health check before, and has not failed since."""
        return self.process is not None and self.process is self._last_well and not self.process.poll()

    def has_failed(self) -> bool:
        """Whether it is to run once, and that was in vain."""
        return self.config.get("restart") == "no" and self.process is not None and bool(self.process.poll())

    def wait(self, *, limit_seconds: float = 180) -> None:
        try:
            wait_for(
                lambda: self.is_well() or self.has_failed(),
                limit_seconds=limit_seconds,
                what=f"Health of {self.name}",
                # A look starts a Python with Dagster in it, beside the service that is just starting.
                every_seconds=1,
            )
            assert not self.has_failed(), f"{self.name} failed"
            self._last_well = self.process
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log.read_text()[-3000:]}") from None

    def kill(self) -> None:
        """As an engine kills a container: the first process, and with it all others of it."""
        if self.process is None:
            return
        of_it = session_of(self.process.pid)
        for process in of_it:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(of_it, timeout=10)

    def end(self, *, patience_seconds: float = 10) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                # PostgreSQL takes SIGINT for "now", and disconnects whoever is there.
                self.process.send_signal(signal.SIGINT if self.name == "postgres" else signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=patience_seconds)
            self.kill()
            self.process.wait()


class StackOfProcesses:
    """All services, started in order and started again when they end, as the compose file has it."""

    def __init__(self, folder: Path, *, without: tuple[str, ...] = ("receive",)) -> None:
        self.folder = folder
        self.ports = {name: free_port() for name in PORTS}
        self.config = composed(folder, "--profile", "dicom")
        names = [name for name in self.config["services"] if name not in without]
        self.services = {name: Service(name, self) for name in names}
        self.database: Path | None = None
        self.tokens: list[str] = []
        self._is_over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        for name in ("luna/data", "luna/cache/local/tensorboard", "luna/dagster", "luna/service", "data"):
            (folder / name).mkdir(parents=True)
        shutil.copytree(REPOSITORY / "deploy/stack", folder / "stack")
        # The one file with addresses in it.
        serving = folder / "stack/serving.yaml"
        serving.write_text("\n".join(self.at_home(serving.read_text().splitlines())))

    def at_home(self, words: list[str]) -> list[str]:
        """Places of the containers as places of this machine."""
        return [self._at_home(word) for word in words]

    def _at_home(self, word: str) -> str:
        hosts = "|".join(self.ports)
        word = re.sub(rf"(?<==)({hosts})$|\b0\.0\.0\.0\b", "127.0.0.1", word)
        word = re.sub(rf"\b({hosts})(?=:\d)", "127.0.0.1", word)
        for name, port in PORTS.items():
            word = re.sub(rf"(^|[:=]){port}\b", rf"\g<1>{self.ports[name]}", word)
        word = word.replace("/opt/luna/stack", str(self.folder / "stack"))
        word = word.replace("/docker-entrypoint-initdb.d", str(self.folder / "stack"))
        word = re.sub(r"^/luna\b|(?<==)/luna\b|(?<==)/data\b", lambda found: f"{self.folder}{found[0]}", word)
        return word

    def address(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ports[name]}"

    def environment(self, name: str = "code") -> dict[str, str]:
        """What a process inside a service's container sees."""
        return self.services[name].environment

    def up(self) -> None:
        """Start what is not started, each after what it depends on."""
        waiting = dict(self.services)
        while waiting:
            for name, service in list(waiting.items()):
                if not set(service.config.get("depends_on", {})) & set(waiting):
                    self._start(service)
                    del waiting[name]
        if not self._watcher.is_alive():
            self._watcher.start()

    def _start(self, service: Service) -> None:
        for dependency in (self.services[name] for name in service.config.get("depends_on", {})):
            # A health check starts a Python with Dagster in it: one is enough for all that depend on a service.
            if not dependency.was_well():
                dependency.wait()
        if service.name == "postgres":
            _make_database(self, service)
        elif service.name == "serve":
            # What `make up` does before.
            script = str(self.folder / "stack/first_token.sh")
            said = subprocess.check_output(["bash", script], env=service.environment, cwd=self.folder, text=True)
            self.tokens += re.findall(r"\bluna_[\w-]+", said)
        elif service.name == "store":
            # The store's other parts would take ports of their own choosing.
            service.config["command"] += [
                f"-{part}.port{kind}={free_port()}" for part in ("master", "volume", "filer") for kind in ("", ".grpc")
            ] + [f"-s3.port.grpc={free_port()}"]
        service.start()

    def wait(self) -> None:
        for service in self.services.values():
            service.wait()

    def _watch(self) -> None:
        """The restart policy: what ended is started again."""
        while not self._is_over.wait(0.3):
            for service in self.services.values():
                if service.config.get("restart") == "no" or self._is_over.is_set():
                    continue
                if service.process is not None and service.process.poll() is not None:
                    service.kill()
                    service.start()

    def down(self) -> None:
        self._is_over.set()
        if self._watcher.is_alive():
            self._watcher.join()
        for name in reversed(list(self.services)):
            self.services[name].end(patience_seconds=10 if name == "postgres" else 2)
        if self.database is not None:
            shutil.rmtree(self.database, ignore_errors=True)


@contextlib.contextmanager
def stack_of_processes(folder: Path, *, without: tuple[str, ...] = ("receive",)) -> Iterator[StackOfProcesses]:
    stack = StackOfProcesses(folder, without=without)
    try:
        stack.up()
        stack.wait()
        yield stack
    finally:
        stack.down()


def _make_database(stack: StackOfProcesses, service: Service) -> None:
    """What the image's entrypoint does at its first start: a cluster with passwords, and the project's script."""
    cluster = PostgresCluster.in_new_folder(port=stack.ports["postgres"], environment=service.environment)
    stack.database = service.folder = cluster.folder
    cluster.initialize()
    service.own_command = cluster.command
    service.start()
    cluster.wait()
    cluster.make_databases()
    service.end()


def until(condition: Callable[[], object], *, limit_seconds: float, what: str, stack: StackOfProcesses) -> object:
    """Wait, and show the logs' ends when it was in vain."""
    try:
        return wait_for(condition, limit_seconds=limit_seconds, what=what)
    except AssertionError as error:
        ends = "\n".join(
            f"--- {s.name}\n{s.log.read_text()[-1500:]}" for s in stack.services.values() if s.log.exists()
        )
        raise AssertionError(f"{error}\n{ends}") from None


def main() -> None:
    """Keep a stack of processes up until Ctrl-C: `python -m luna_pipeline_tests.stack.as_processes FOLDER`."""
    folder = Path(sys.argv[1]).absolute()
    folder.mkdir(parents=True)
    began = time.monotonic()
    with stack_of_processes(folder) as stack:
        print(
            f"Up after {time.monotonic() - began:.0f} s:",
            {name: stack.address(name) for name in stack.ports},
            flush=True,
        )
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main()
