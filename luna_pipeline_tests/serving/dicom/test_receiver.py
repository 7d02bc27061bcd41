"""The receiver as peers see it: what it accepts, what it refuses with which status, and what becomes a job."""

import contextlib
import errno
import logging
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import Dataset
from pynetdicom.sop_class import MRImageStorage

from luna_pipeline.serving.config import UploadLimits
from luna_pipeline.serving.dicom import receiver
from luna_pipeline.serving.dicom.receiver import check_callers
from luna_pipeline.serving.job import QueueFullError
from luna_pipeline_tests.processes import wait_for
from luna_pipeline_tests.serving.dicom.pushing import (
    QUIET_SECONDS,
    Receiving,
    associated,
    changed,
    dcmtk,
    images,
    push,
    receiving,
)

SUCCESS, OUT_OF_RESOURCES, NOT_OF_ITS_CLASS, NOT_UNDERSTOOD = 0x0000, 0xA700, 0xA900, 0xC000


@pytest.fixture(scope="module")
def luna(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiving]:
    """One receiver for tests that differ in their series."""
    with receiving(tmp_path_factory.mktemp("receiver")) as found:
        yield found


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MB, in memory; mounting needs root."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(path: Path) -> None:
    """Fill the disk of a file."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass


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


def test_a_series_that_is_pushed_again_is_the_same_job(luna: Receiving, tmp_path: Path):
    pushed = images(tmp_path, "1.2.2")
    push(luna.port, pushed)
    job = job_with(luna, uids_of(pushed))
    number = len(luna.jobs.list())
    push(luna.port, pushed)
    wait_for(lambda: luna.submitted(0) and luna.is_empty(), limit_seconds=10, what="the second submission")
    assert len(luna.jobs.list()) == number
    assert luna.uids(job) == uids_of(pushed)


def test_late_images_make_the_whole_series_a_new_job(luna: Receiving, tmp_path: Path):
    pushed = images(tmp_path, "1.2.3")
    push(luna.port, pushed[:3])
    first = job_with(luna, uids_of(pushed[:3]))
    push(luna.port, pushed[3:])
    second = job_with(luna, uids_of(pushed))
    assert first.id != second.id
    assert luna.uids(first) == uids_of(pushed[:3])


def test_two_series_that_alternate_in_one_association_are_two_jobs(luna: Receiving, tmp_path: Path):
    first, second = images(tmp_path / "1", "1.2.4"), images(tmp_path / "2", "1.2.5", seed=1)
    alternating = [dataset for pair in zip(first, second, strict=True) for dataset in pair]
    assert push(luna.port, alternating) == [SUCCESS] * 8
    assert job_with(luna, uids_of(first)).id != job_with(luna, uids_of(second)).id


def test_one_series_by_two_associations_at_once_is_one_job(luna: Receiving, tmp_path: Path):
    pushed = images(tmp_path, "1.2.6", number=6)
    with associated(luna.port) as left, associated(luna.port) as right:
        for number, dataset in enumerate(pushed):
            (left if number % 2 else right).send_c_store(dataset)
    job_with(luna, uids_of(pushed))


def test_a_series_waits_for_the_release_of_its_association(luna: Receiving, tmp_path: Path):
    pushed = images(tmp_path, "1.2.7")
    with associated(luna.port) as association:
        for dataset in pushed[:2]:
            association.send_c_store(dataset)
        number = len(luna.jobs.list())
        luna.look_for(4 * QUIET_SECONDS)
        assert len(luna.jobs.list()) == number
        for dataset in pushed[2:]:
            association.send_c_store(dataset)
    job_with(luna, uids_of(pushed))


def test_a_series_with_its_number_of_images_does_not_wait_for_the_release(luna: Receiving, tmp_path: Path):
    pushed = [changed(image, lambda it: setattr(it, "ImagesInAcquisition", 4)) for image in images(tmp_path, "1.2.8")]
    with associated(luna.port) as association:
        for dataset in pushed:
            association.send_c_store(dataset)
        job_with(luna, uids_of(pushed))
        assert association.is_established


def test_storescu_of_dcmtk_pushes(luna: Receiving, tmp_path: Path):
    pushed = images(tmp_path, "1.2.9")
    done = dcmtk("storescu", "--scan-directories", "-aec", "LUNA", "127.0.0.1", luna.port, tmp_path)
    assert done.returncode == 0, done.stderr
    job_with(luna, uids_of(pushed))


def test_other_classes_are_refused_at_negotiation(luna: Receiving):
    with associated(luna.port, classes=(MRImageStorage,)) as association:
        assert [context.abstract_syntax for context in association.rejected_contexts] == [MRImageStorage]


@pytest.mark.parametrize(
    ("keyword", "value", "status"),
    [
        ("Modality", "MR", NOT_OF_ITS_CLASS),
        ("Modality", None, NOT_OF_ITS_CLASS),
        ("SeriesInstanceUID", "<script>alert(1)</script>", NOT_UNDERSTOOD),
        ("SeriesInstanceUID", None, NOT_UNDERSTOOD),
        ("Rows", 0, NOT_UNDERSTOOD),
    ],
)
def test_images_that_are_no_ct_images_are_refused(luna: Receiving, tmp_path: Path, keyword, value, status):
    dataset = changed(images(tmp_path, "1.2.10", number=1)[0], lambda it: setattr(it, keyword, value))
    assert push(luna.port, [dataset]) == [status]
    assert luna.is_empty()


@pytest.mark.parametrize("content", [b"", b"\x00" * 500, b"\xff" * 500, b"DROP TABLE jobs;" * 30, "truncated"])
def test_bytes_that_are_no_dicom_are_refused(luna: Receiving, tmp_path: Path, monkeypatch, content):
    # pynetdicom then sends the bytes behind the meta header as they are.
    monkeypatch.setattr("pynetdicom._config.STORE_SEND_CHUNKED_DATASET", True)
    dataset = images(tmp_path, "1.2.11", number=1)[0]
    path = Path(dataset.filename)
    whole = path.read_bytes()
    dataset_at = 144 + int.from_bytes(whole[140:144], "little")
    path.write_bytes(whole[:dataset_at] + (whole[dataset_at : dataset_at + 90] if content == "truncated" else content))
    with associated(luna.port) as association:
        assert association.send_c_store(path).Status == NOT_UNDERSTOOD
        assert association.send_c_echo().Status == SUCCESS
    assert luna.is_empty()


@pytest.mark.parametrize("names", [{"calling": "STRANGER"}, {"called": "OTHER"}])
def test_unknown_titles_are_rejected(tmp_path: Path, names):
    with receiving(tmp_path, calling_aets=("SCANNER",)) as luna:
        with associated(luna.port, **names) as association:
            assert association.is_rejected
        with associated(luna.port) as association:
            assert association.is_established


def test_associations_beyond_their_number_are_rejected(tmp_path: Path):
    with receiving(tmp_path, max_associations=2) as luna:
        with associated(luna.port), associated(luna.port), associated(luna.port) as third:
            assert third.is_rejected
        with associated(luna.port) as later:
            assert later.is_established


def test_any_title_may_connect_from_this_machine_alone():
    check_callers((), "127.0.0.1")
    check_callers(("PACS",), "0.0.0.0")
    with pytest.raises(ValueError, match=r"must be listed beyond loopback, got none .* List them"):
        check_callers((), "0.0.0.0")


@pytest.mark.parametrize(
    "limits", [{"max_files": 3}, {"max_voxels": 3 * 64}, {"max_bytes": 2_000}], ids=lambda limits: next(iter(limits))
)
def test_a_series_beyond_a_limit_is_refused_and_removed(tmp_path: Path, limits):
    with receiving(tmp_path / "luna", limits=UploadLimits(**limits)) as luna:
        statuses = push(luna.port, images(tmp_path / "ct", "1.2.3"))
        assert statuses[0] == SUCCESS
        assert statuses[3] == OUT_OF_RESOURCES
        wait_for(
            lambda: luna.receiver.submit_whole() or luna.is_empty(), limit_seconds=10, what="the removal of the series"
        )
        assert luna.jobs.list() == []


def test_with_a_full_queue_new_series_are_refused_and_whole_ones_wait(tmp_path: Path):
    first, second = images(tmp_path / "1", "1.2.3"), images(tmp_path / "2", "1.2.4", seed=1)
    third = images(tmp_path / "3", "1.2.5", seed=2)
    with receiving(tmp_path / "luna", max_queued=2) as luna:
        # Both arrive before there is a job.
        for pushed in (first, second):
            assert push(luna.port, pushed) == [SUCCESS] * 4
        assert push(luna.port, third[:1]) == [OUT_OF_RESOURCES]
        jobs = luna.submitted(2)
        assert push(luna.port, third[:1]) == [OUT_OF_RESOURCES]
        luna.jobs.delete(jobs[0].id)
        assert push(luna.port, third) == [SUCCESS] * 4
        assert luna.uids(luna.submitted(2)[1]) == uids_of(third)


def test_a_series_whose_first_images_met_a_full_queue_waits_for_them(tmp_path: Path):
    first, second = images(tmp_path / "1", "1.2.3"), images(tmp_path / "2", "1.2.4", seed=1)
    with receiving(tmp_path / "luna", max_queued=1) as luna:
        push(luna.port, first)
        (job,) = luna.submitted(1)
        with associated(luna.port) as association:
            statuses = [association.send_c_store(dataset).Status for dataset in second[:2]]
            luna.jobs.delete(job.id)
            statuses += [association.send_c_store(dataset).Status for dataset in second[2:]]
        assert statuses == [OUT_OF_RESOURCES] * 2 + [SUCCESS] * 2
        luna.look_for(4 * QUIET_SECONDS)
        assert luna.jobs.list() == []
        assert push(luna.port, second[:2]) == [SUCCESS] * 2
        assert luna.uids(luna.submitted(1)[0]) == uids_of(second)


def test_a_series_whose_association_was_aborted_waits_for_the_rest(tmp_path: Path):
    pushed = images(tmp_path / "ct", "1.2.3")
    with receiving(tmp_path / "luna") as luna:
        with associated(luna.port) as association:
            assert [association.send_c_store(dataset).Status for dataset in pushed[:2]] == [SUCCESS] * 2
            association.abort()
        luna.look_for(4 * QUIET_SECONDS)
        assert luna.jobs.list() == []
        assert push(luna.port, pushed[2:]) == [SUCCESS] * 2
        assert luna.uids(luna.submitted(1)[0]) == uids_of(pushed)


def test_a_full_disk_that_delays_one_series_delays_no_other(tmp_path: Path, monkeypatch, caplog):
    monkeypatch.setattr(receiver, "_RETRY_SECONDS", 0.2)
    first, second = images(tmp_path / "1", "1.2.3"), images(tmp_path / "2", "1.2.4", seed=1)
    with receiving(tmp_path / "luna") as luna:
        push(luna.port, first[:2])
        luna.submitted(1)
        push(luna.port, first[2:])
        with monkeypatch.context() as patch:
            # The earlier images are not linked.
            patch.setattr("os.link", _full)
            wait_for(
                lambda: luna.receiver.submit_whole() or "must take the job" in caplog.text, limit_seconds=10, what="it"
            )
            push(luna.port, second)
            assert uids_of(second) in [luna.uids(job) for job in luna.submitted(2)]
        job_with(luna, uids_of(first))


def _full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_while_the_queue_is_full_whole_series_are_not_read_again_and_again(tmp_path: Path, monkeypatch):
    first, second = images(tmp_path / "1", "1.2.3"), images(tmp_path / "2", "1.2.4", seed=1)
    prepared, looks = [], []
    with receiving(tmp_path / "luna", max_queued=2) as luna:
        push(luna.port, first)
        push(luna.port, second)
        monkeypatch.setattr(luna.jobs, "check_room", lambda: looks.append(1) or _raise_full())
        monkeypatch.setattr(luna.receiver._store, "prepare", prepared.append)
        # Longer than this test, however busy the machine is.
        monkeypatch.setattr("luna_pipeline.serving.dicom.receiver._RETRY_SECONDS", 600.0)
        wait_for(lambda: luna.receiver.submit_whole() or looks, limit_seconds=10, what="a full queue")
        luna.look_for(1)
    assert (len(looks), prepared) == (1, [])


def _raise_full() -> None:
    raise QueueFullError(length=2, retry_after_seconds=1)


def test_a_series_whose_job_cannot_be_written_waits(tmp_path: Path, caplog):
    pushed = images(tmp_path / "ct", "1.2.3")
    with receiving(tmp_path / "luna") as luna:
        blocked = tmp_path / "luna/jobs"
        if blocked.is_dir():
            blocked.rmdir()
        blocked.write_text("no folder can be made here")
        assert push(luna.port, pushed) == [SUCCESS] * 4
        wait_for(
            lambda: luna.receiver.submit_whole() or "must take the job" in caplog.text,
            limit_seconds=30,
            what="a submission that fails",
        )
        blocked.unlink()
        assert luna.uids(luna.submitted(1)[0]) == uids_of(pushed)


def test_an_association_is_slowed_down_to_its_rate(tmp_path: Path):
    with receiving(tmp_path / "luna", max_instances_per_second=10) as luna:
        pushed = images(tmp_path / "ct", "1.2.3", number=20)
        begin = time.monotonic()
        assert push(luna.port, pushed) == [SUCCESS] * 20
        # The first ten are free.
        assert time.monotonic() - begin > 0.9


def test_with_a_full_disk_images_are_refused_and_accepted_when_they_are_sent_again(tmp_path: Path, small_disk: Path):
    pushed = images(tmp_path / "ct", "1.2.3")
    with receiving(small_disk, limits=UploadLimits(min_free_bytes=0)) as luna:
        filler = small_disk / "filler"
        fill(filler)
        assert push(luna.port, pushed) == [OUT_OF_RESOURCES] * 4
        assert luna.is_empty()
        filler.unlink()
        assert push(luna.port, pushed) == [SUCCESS] * 4
        (job,) = luna.submitted()
        assert luna.uids(job) == uids_of(pushed)


def test_below_the_floor_of_free_space_images_are_refused(tmp_path: Path):
    with receiving(tmp_path / "luna", limits=UploadLimits(min_free_bytes=1 << 60)) as luna:
        assert push(luna.port, images(tmp_path / "ct", "1.2.3")) == [OUT_OF_RESOURCES] * 4
        assert luna.is_empty()


def test_nothing_of_a_patient_is_logged_or_names_a_file(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    secret = "Mustermann"

    def name_everywhere(dataset: Dataset) -> None:
        dataset.PatientName, dataset.PatientID, dataset.AccessionNumber = f"{secret}^Max", secret, secret

    pushed = [changed(image, name_everywhere) for image in images(tmp_path / "ct", "1.2.3")]
    wrong = changed(pushed[0], lambda it: [name_everywhere(it), setattr(it, "Modality", secret.upper())])
    with receiving(tmp_path / "luna", max_queued=1) as luna:
        assert push(luna.port, [*pushed, wrong], calling=secret.upper()) == [SUCCESS] * 4 + [NOT_OF_ITS_CLASS]
        with associated(luna.port, calling=secret, called=secret) as association:
            assert association.is_rejected
        luna.submitted()
        names = [str(path) for path in (tmp_path / "luna").rglob("*")]
    said = " ".join([record.getMessage() for record in caplog.records if "serving" in record.name] + names)
    assert "Instances are refused" in said
    assert secret.lower() not in said.lower()
