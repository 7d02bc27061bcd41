"""The receiver as peers see it: what it accepts, what it refuses with which status, and what becomes a job."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import Dataset

from luna_pipeline_tests.serving.dicom.pushing import Receiving, associated, images, push, receiving

SUCCESS, OUT_OF_RESOURCES, NOT_OF_ITS_CLASS, NOT_UNDERSTOOD = 0x0000, 0xA700, 0xA900, 0xC000


@pytest.fixture(scope="module")
def luna(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiving]:
    """One receiver for tests that differ in their series."""
    with receiving(tmp_path_factory.mktemp("receiver")) as found:
        yield found


def job_with(luna: Receiving, uids: set[str]):
    """The job that holds exactly these images; it may take a moment."""
    for number in range(1, 20):
        for job in luna.submitted(number):
            if luna.uids(job) == uids:
                return job
    raise AssertionError("no such job")


def uids_of(datasets: list[Dataset]) -> set[str]:
    return {str(dataset.SOPInstanceUID) for dataset in datasets}


def test_an_echo_is_answered(luna: Receiving):
    with associated(luna.port) as association:
        assert association.send_c_echo().Status == SUCCESS


def test_a_pushed_series_becomes_one_job_with_all_its_images(luna: Receiving, tmp_path: Path):
    pushed = images(tmp_path, "1.2.1")
    assert push(luna.port, pushed) == [SUCCESS] * 4
    job = job_with(luna, uids_of(pushed))
    assert (job.origin, job.state) == ("dicom", "queued")
    assert luna.is_empty()
