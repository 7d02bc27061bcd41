"""Coverage (``--cov``) by the tests of ``core`` and of the launchers only, without the slow ones.

What is reported is the coverage of ``core``. Tests of the other packages run mostly Dagster, Ray and MLflow, and
tracing makes them half as slow again.
"""

from typing import Any

import pytest

from luna_pipeline_tests.workers import file_of

TRACED = ("core/", "launchers/")


class CoverageOfCore:
    """Plugin that stops tracing before the first test outside ``TRACED`` and starts it again before one inside."""

    def __init__(self, controller: Any) -> None:
        self._controller = controller
        self._is_tracing = True

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> None:
        """Stop or start tracing for a test with its fixtures."""
        is_traced = file_of(item.nodeid).startswith(TRACED) and item.get_closest_marker("slow") is None
        if is_traced != self._is_tracing:
            (self._controller.resume if is_traced else self._controller.pause)()
            self._is_tracing = is_traced


def register(config: pytest.Config) -> None:
    """Register the plugin if pytest-cov traces this process."""
    controller = getattr(config.pluginmanager.get_plugin("_cov"), "cov_controller", None)
    if controller is not None:
        config.pluginmanager.register(CoverageOfCore(controller))
