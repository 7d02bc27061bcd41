"""An interrupt during the import of torch comes after it; C++ code would end the process in the middle."""

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from luna_pipeline.core import uninterrupted_imports
from luna_pipeline.core.uninterrupted_imports import NAMES, UninterruptedImports, install, postponed_signals
from luna_pipeline_tests.processes import wait_for

MODULE = """
import signal
signal.raise_signal(signal.{name})
signal.raise_signal(signal.SIGINT)
import json.tool
is_whole = True
{end}
"""

INTERRUPTED_TORCH = """
import signal, sys, time
import luna_pipeline
signal.signal(signal.SIGINT, signal.default_int_handler)
called = []
def watch(frame, event, argument):
    if event == "c_call":
        called.append(argument.__name__)
    elif event == "call" and called and called[-1] == "_c10d_init":
        sys.setprofile(None)
        signal.raise_signal(signal.SIGINT)
sys.setprofile(watch)
import torch
assert called[-1] == "_c10d_init", "nothing was interrupted"
time.sleep(10)
"""
"""Ctrl-C in Python code that torch's C++ code calls while torch is imported."""


@pytest.fixture
def interrupts(monkeypatch: pytest.MonkeyPatch):
    """Both signals raise KeyboardInterrupt, as in `luna`."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in handlers:
        signal.signal(number, signal.default_int_handler)
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def _import_and_wait() -> None:
    import cpp_like  # noqa: F401

    time.sleep(5)


def _import_part_and_wait() -> None:
    import package_like.part  # noqa: F401

    time.sleep(5)


def make_module(folder: Path, patch: pytest.MonkeyPatch, *, name: str = "SIGTERM", end: str = "") -> None:
    (folder / "cpp_like.py").write_text(MODULE.format(name=name, end=end))
    patch.syspath_prepend(folder)
    patch.setattr(uninterrupted_imports, "NAMES", frozenset({"cpp_like"}))
    patch.delitem(sys.modules, "cpp_like", raising=False)


@pytest.mark.usefixtures("interrupts")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_interrupt_comes_after_the_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    make_module(tmp_path, monkeypatch, name=name)
    with pytest.raises(KeyboardInterrupt):
        _import_and_wait()
    # Python removes a module whose import failed, and torch cannot be loaded twice.
    assert sys.modules["cpp_like"].is_whole
    assert {signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)} == {signal.default_int_handler}


@pytest.mark.usefixtures("interrupts")
def test_error_of_the_import_does_not_hide_the_interrupt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    make_module(tmp_path, monkeypatch, end="raise ImportError('no CUDA')")
    with pytest.raises(ImportError):
        import cpp_like  # noqa: F401
    with pytest.raises(KeyboardInterrupt):
        time.sleep(5)


@pytest.mark.usefixtures("interrupts")
def test_modules_of_a_package_are_whole_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(uninterrupted_imports, "NAMES", frozenset({"package_like"}))
    (tmp_path / "package_like").mkdir()
    (tmp_path / "package_like/__init__.py").write_text("")
    (tmp_path / "package_like/part.py").write_text(MODULE.format(name="SIGTERM", end=""))
    monkeypatch.syspath_prepend(tmp_path)
    import package_like

    with pytest.raises(KeyboardInterrupt):
        _import_part_and_wait()
    assert package_like.part.is_whole


@pytest.mark.usefixtures("interrupts")
def test_source_is_found_for_tracebacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    make_module(tmp_path, monkeypatch)
    received: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: received.append(number))
    import cpp_like

    wait_for(lambda: received == [signal.SIGTERM], limit_seconds=10, what="The postponed signal")

    assert cpp_like.__loader__.get_source("cpp_like").endswith("is_whole = True\n\n")


@pytest.mark.usefixtures("interrupts")
def test_ignored_signals_stay_ignored_and_other_threads_have_no_handlers(monkeypatch: pytest.MonkeyPatch):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with postponed_signals():
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
        assert signal.getsignal(signal.SIGINT) != signal.default_int_handler
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with postponed_signals():
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL

    def in_thread() -> None:
        with postponed_signals():
            found.append(signal.getsignal(signal.SIGINT))

    found: list[object] = []
    thread = threading.Thread(target=in_thread)
    thread.start()
    thread.join()
    assert found == [signal.default_int_handler]


def test_importing_the_package_installs_it_once_and_for_torch():
    install()
    assert [type(finder) for finder in sys.meta_path].count(UninterruptedImports) == 1
    assert "torch" in NAMES


@pytest.mark.slow
def test_torch_itself_survives_an_interrupt_in_its_cpp_code():
    ended = subprocess.run([sys.executable, "-c", INTERRUPTED_TORCH], capture_output=True, text=True, check=False)
    assert "terminate called" not in ended.stderr
    assert ended.stderr.endswith("KeyboardInterrupt\n")
    assert ended.returncode == -signal.SIGINT
