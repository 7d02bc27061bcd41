"""`make backup`, `restore` and `upgrade` of a stack of processes: only Compose's four commands are others here."""

import shlex
from collections.abc import Sequence
from pathlib import Path

import backup

from luna_pipeline_tests.stack.as_processes import StackOfProcesses


class StackProcesses:
    """What Compose does for the script, for a stack of processes."""

    def __init__(self, stack: StackOfProcesses) -> None:
        self.stack = stack

    def inside(self, service: str, *words: str) -> list[str]:
        """A script has the environment, as a container would: arguments are seen by others. Input is a pipe there."""
        script = self.stack.folder / f"inside_{service}.sh"
        environment = {**self.stack.environment(service), "PGPORT": str(self.stack.ports["postgres"])}
        lines = [f"export {name}={shlex.quote(value)}" for name, value in environment.items() if name.isidentifier()]
        script.write_text("\n".join([*lines, 'cat | "$@"\n']))
        return ["bash", str(script), *self.stack.at_home(list(words))]

    beside = inside

    def running(self) -> set[str]:
        processes = {name: service.process for name, service in self.stack.services.items()}
        return {name for name, process in processes.items() if process is not None and process.poll() is None}

    def image(self) -> str:
        return str(self.stack.config["services"]["code"]["image"])

    def stop(self, names: Sequence[str]) -> None:
        for name in names:
            service = self.stack.services[name]
            service.config["restart"] = "no"
            service.end()

    def start_storages(self) -> None:
        for name in backup.STORAGES:
            if name not in self.running():
                start(self.stack, name)
            self.stack.services[name].wait()


def new_stack(folder: Path) -> StackOfProcesses:
    """A stack of which nothing is started yet."""
    folder.mkdir()
    return StackOfProcesses(folder, without=("tensorboard", "receive"))


def start(stack: StackOfProcesses, *names: str) -> None:
    """Start services, each after what it depends on."""
    for name in names:
        stack._start(stack.services[name])


def run(stack: StackOfProcesses, *arguments: str) -> int:
    return int(backup.main(arguments, StackProcesses(stack)))


def secrets_of(stack: StackOfProcesses) -> list[str]:
    return [row.split("=")[1] for row in (stack.folder / "env").read_text().splitlines() if "=" in row]
