"""Findings about a set-up, and the probes that make them, each with a time limit."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Finding:
    """One property of a set-up.

    Attributes:
        name: What was examined, such as ``LUNA_HOME``.
        state: ``problem`` prevents something that is set up from working; ``note`` is worth knowing.
        value: What was found.
        fix: Command or change that fixes it; empty where nothing has to be fixed.
    """

    name: str
    state: State
    value: str
    fix: str = ""


@dataclass(frozen=True)
class Probe:
    """A function that examines one part of a set-up.

    Attributes:
        name: Name of the finding if the function fails or gives no answer.
        find: Yields findings.
        limit_seconds: Time after which it is left behind.
    """

    name: str
    find: Callable[[], Iterable[Finding]]
    limit_seconds: float = 10.0

    def findings(self) -> list[Finding]:
        """Return the findings; an error or a missing answer is a problem of its own, and stops no other probe."""
        found: list[Finding] = []
        # A daemon thread: a request that never ends must not keep the process alive.
        thread = threading.Thread(target=self._collect, args=(found,), name=f"probe {self.name}", daemon=True)
        thread.start()
        thread.join(self.limit_seconds)
        if thread.is_alive():
            value = f"no answer within {self.limit_seconds:g} s"
            return [*found, Finding(self.name, "problem", value, "Check the disk or the server that it names.")]
        return found

    def _collect(self, found: list[Finding]) -> None:
        try:
            found.extend(self.find())
        except Exception as error:
            value = " ".join(str(error).split()) or type(error).__name__
            found.append(Finding(self.name, "problem", value, "Fix what the message names."))


def examine(probes: Sequence[Probe]) -> Iterator[Finding]:
    """Yield the findings of probes, one probe after the other: parallel imports of large packages can fail."""
    for probe in probes:
        yield from probe.findings()
