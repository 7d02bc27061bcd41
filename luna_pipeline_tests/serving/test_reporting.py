"""When a report to Dagster is tried again, and when it is given up."""

import logging
import os
from pathlib import Path

import pytest

from luna_pipeline.core.diagnosis.manifest import MANIFEST
from luna_pipeline.serving.config import ServiceConfig
from luna_pipeline.serving.folders import ServiceFolders
from luna_pipeline.serving.job_files import Arrival, place_input
from luna_pipeline.serving.reporting import attempt
from luna_pipeline_tests.processes import free_port
from luna_pipeline_tests.serving.test_dagster_report import JOB, output_of, two_findings

HOUR = 3600.0


@pytest.fixture
def folders(tmp_path: Path) -> ServiceFolders:
    """A service with one finished job, of second 1000."""
    folders = ServiceFolders(tmp_path / "service")
    staged = folders.new_staging()
    folders.job(JOB).mkdir(parents=True)
    place_input(staged, folders.job(JOB), Arrival.now(JOB, "http"))
    output = output_of(folders.job(JOB) / "output", two_findings())
    os.utime(output / MANIFEST, (1000, 1000))
    return folders


@pytest.fixture
def config() -> ServiceConfig:
    """Dagster is away."""
    return ServiceConfig(dagster_url=f"http://127.0.0.1:{free_port()}", delivery_hours=2)


def test_waits_double_up_to_a_quarter_of_an_hour(folders, config):
    waits = [attempt(folders, config, JOB, number, now=1001) for number in (0, 1, 2, 8, 100)]
    assert waits == [5, 10, 20, 900, 900]


def test_a_report_is_given_up_after_the_hours_of_a_delivery(folders, config, caplog):
    with caplog.at_level(logging.WARNING, "luna_pipeline"):
        assert attempt(folders, config, JOB, 0, now=1000 + 2 * HOUR - 5) == 5
        assert attempt(folders, config, JOB, 0, now=1000 + 2 * HOUR - 4) is None
    assert [record.message.rsplit("address. ")[-1] for record in caplog.records] == [
        "It is tried again.",
        "No further attempt is made.",
    ]


def test_a_report_that_fails_by_any_error_is_tried_again(folders, config, caplog):
    (folders.job(JOB) / "output" / MANIFEST).write_text("damaged")
    os.utime(folders.job(JOB) / "output" / MANIFEST, (1000, 1000))
    with caplog.at_level(logging.WARNING, "luna_pipeline"):
        assert attempt(folders, config, JOB, 0, now=1001) == 5
    assert [record.message for record in caplog.records] == [
        f"Job {JOB}: Its report failed by ValueError. It is tried again."
    ]


def test_a_job_that_was_deleted_has_no_report(folders, config):
    folders.job(JOB).rename(folders.jobs / "gone")
    assert attempt(folders, config, JOB, 0) is None
