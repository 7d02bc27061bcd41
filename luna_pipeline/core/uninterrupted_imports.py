"""Ctrl-C and SIGTERM wait until torch, or a module of it, is imported.

Its import calls Python from C++ code that no exception may leave, as in ``torch._C._c10d_init``. An interrupt there
ends the process with "terminate called" and SIGABRT: nothing is cleaned up, and Dagster takes the run for lost.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

NAMES = frozenset({"torch"})
_SECONDS_AFTER = 0.02
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class UninterruptedImports(MetaPathFinder):
    """Finds the modules that must be imported as a whole, and those in their packages."""

    is_importing = False

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return Python's own spec of such a module, whose execution postpones interrupts; None for others."""
        if self.is_importing or fullname.partition(".")[0] not in NAMES:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_uninterrupted(module: ModuleType) -> None:
                with postponed_signals():
                    self.is_importing = True
                    try:
                        execute(module)
                    finally:
                        self.is_importing = False

            # Set on the loader, which tracebacks and inspect ask for the source.
            spec.loader.exec_module = execute_uninterrupted  # type: ignore[method-assign]
        return spec


@contextlib.contextmanager
def postponed_signals() -> Iterator[None]:
    """Call the handlers of Ctrl-C and SIGTERM just after the block; the main thread alone calls handlers."""
    received: list[int] = []
    handlers = {}
    if threading.current_thread() is threading.main_thread():
        # Signals that are ignored, or end the process at once, stay as they are.
        handlers = {number: handler for number in _SIGNALS if callable(handler := signal.getsignal(number))}
    for number in handlers:
        signal.signal(number, lambda received_number, _frame: received.append(received_number))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if received:
            # A moment later: an exception here would remove the module, and torch cannot be loaded twice.
            later = threading.Timer(_SECONDS_AFTER, os.kill, (os.getpid(), received[0]))
            later.daemon = True
            later.start()


def install() -> None:
    """Import these modules without interrupts from now on."""
    if not any(isinstance(finder, UninterruptedImports) for finder in sys.meta_path):
        sys.meta_path.insert(0, UninterruptedImports())
