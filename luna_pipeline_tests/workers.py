"""Distribution of the tests over the worker processes of pytest-xdist.

A file is one unit of work, so that its module fixtures (a Ray session, a running webserver) are set up once. Files in
``SPLIT`` share no fixture that is expensive: each of their tests is a unit. The most expensive files start first, so
that no worker is left alone with a long one at the end.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from xdist.scheduler import LoadScopeScheduling

FOLDER = "luna_pipeline_tests/"
SPLIT = (
    "jobs/test_asset_jobs.py",
    "jobs/test_data_source_jobs.py",
    "test_interruptions.py",
    "test_readme.py",
    "test_recutting.py",
    "test_s3.py",
    "test_tuning_interruptions.py",
)
LONGEST_FIRST = (
    # Most of these are slow.
    "test_readme.py",
    "tracking/test_mlflow_server.py",
    "core/diagnosis/test_real_scans.py",
    "jobs/test_data_source_jobs.py",
    "tuning/test_tune.py",
    "test_s3.py",
    "test_tuning_interruptions.py",
    "test_interruptions.py",
    "launchers/training/test_torchrun.py",
    "jobs/test_asset_jobs.py",
    "test_evaluation_jobs.py",
    "test_ui.py",
    "tuning/test_tune_s3.py",
    "test_tuning_job.py",
    "core/cutouts/test_crash_safety.py",
    "core/training/test_kill.py",
    "jobs/test_demo_diagnosis.py",
    # The others.
    "test_cli_tuning.py",
    "core/training/test_ddp.py",
    "benchmarks/test_bench_training.py",
    "test_recutting.py",
    "test_cli.py",
    "assets/test_stage_4_baselines.py",
    "cluster/test_session.py",
    "cluster/test_cutting.py",
    "core/cutouts/test_workers.py",
    "core/training/test_trainer.py",
    "test_cli_evaluation.py",
    "launchers/evaluation/test_feature_baselines.py",
)
"""Files that take longest, in the order of their start; `make test-times` shows what a run measured."""


def file_of(nodeid: str) -> str:
    """Path of a test's file below the folder of the tests."""
    return nodeid.partition("::")[0].removeprefix(FOLDER)


def unit_of(nodeid: str) -> str:
    """Name of the unit of work that a test belongs to: tests of one unit run in one worker, in their order."""
    return nodeid if file_of(nodeid) in SPLIT else file_of(nodeid)


def longest_first(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """The same tests: files of ``LONGEST_FIRST``, others with slow tests, all others; the order is kept otherwise."""
    places = {file: place for place, file in enumerate(LONGEST_FIRST)}
    slow = {file_of(item.nodeid) for item in items if item.get_closest_marker("slow") is not None}

    def place_of(item: pytest.Item) -> int:
        file = file_of(item.nodeid)
        return places.get(file, len(places) + (file not in slow))

    return sorted(items, key=place_of)


def scheduler(config: pytest.Config, log: Callable[..., None]) -> "LoadScopeScheduling":
    """xdist's scheduler with the units of this module, which start in the order of collection."""
    from xdist.scheduler import LoadScopeScheduling

    class UnitScheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return unit_of(nodeid)

    config.option.loadscopereorder = False
    return UnitScheduling(config, log)
