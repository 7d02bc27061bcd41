"""The supervisor of workers."""

import sys
from pathlib import Path

import pytest

from luna_pipeline.serving.config import ServiceConfig
from luna_pipeline.serving.supervisor import Supervisor
from luna_pipeline_tests.processes import wait_for


def test_a_worker_that_cannot_be_started_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    python = tmp_path / "python"
    monkeypatch.setattr(sys, "executable", str(python))
    with Supervisor(ServiceConfig()) as supervisor:
        wait_for(lambda: "could not be started" in caplog.text, limit_seconds=10, what="the log")
        python.write_text("#!/bin/sh\nexec sleep 60\n")
        python.chmod(0o755)
        wait_for(lambda: supervisor.num_alive == 1, limit_seconds=30, what="the worker")
