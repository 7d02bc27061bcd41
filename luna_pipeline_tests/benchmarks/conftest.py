"""Benchmarks in tests: nothing is measured, so they do not wait for the garbage collector and the disk."""

from types import SimpleNamespace

import pytest

from benchmarks import timing


@pytest.fixture(scope="session", autouse=True)
def _no_settling():
    """Skip what ``timing.settle`` waits for: a third of a second before each of a hundred runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timing, "gc", SimpleNamespace(collect=lambda: 0))
        patch.setattr(timing, "os", SimpleNamespace(sync=lambda: None))
        yield
