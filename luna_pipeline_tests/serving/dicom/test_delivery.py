"""Delivery of results: by C-STORE and STOW-RS, what a failure is called, and when the next attempt is made."""

import errno
import json
import secrets
import ssl
from pathlib import Path

import pydicom
import pytest
from pynetdicom.sop_class import SegmentationStorage

from luna_pipeline.core.diagnosis.dicom_output import dicom_output
from luna_pipeline.serving.config import Peer, ReceiverConfig, ServiceConfig
from luna_pipeline.serving.delivery_files import deliveries_of
from luna_pipeline.serving.dicom import delivery as delivering
from luna_pipeline.serving.dicom import peers
from luna_pipeline.serving.dicom.delivery import attempt
from luna_pipeline.serving.dicom.peers import DeliveryError, send
from luna_pipeline.serving.folders import OUTPUT, ServiceFolders
from luna_pipeline.serving.job import Delivery
from luna_pipeline_tests.core.diagnosis.dicom_examples import ball, case_of, series
from luna_pipeline_tests.processes import free_port, wait_for
from luna_pipeline_tests.serving.dicom.archives import archive, web_archive
from luna_pipeline_tests.serving.dicom.certificates import Authority

CONFIG = ReceiverConfig(aet="LUNA")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A segmentation and a report of a small CT."""
    folder = tmp_path_factory.mktemp("results")
    reader = series(folder / "ct")
    case = case_of(reader, ball(reader.grid()))
    written = dicom_output(case.diagnosis, case.files)
    for name, content in written.files.items():
        (folder / name).write_bytes(content)
    return [folder / "seg.dcm", folder / "sr.dcm"]


def uids(paths: list[Path]) -> list[str]:
    return [str(pydicom.dcmread(path).SOPInstanceUID) for path in paths]


def cstore(at: int, **changes) -> Peer:
    return Peer(**{"name": "pacs", "kind": "cstore", "aet": "ARCHIVE", "port": at} | changes)


def test_an_archive_gets_both_objects_with_equal_pixels(results):
    with archive(calling=["LUNA"]) as pacs:
        send(cstore(pacs.port), results, CONFIG)
    assert [dataset.SOPInstanceUID for dataset in pacs.stored] == uids(results)
    assert pacs.stored[0].PixelData == pydicom.dcmread(results[0]).PixelData


@pytest.mark.parametrize(
    ("options", "changes", "reason"),
    [
        ({"status": 0xA700}, {}, "The peer must store seg.dcm, got status 0xA700 (pacs). See its log."),
        ({"aet": "OTHER"}, {}, "The peer must accept an association, got a rejected association (pacs)."),
        ({"calling": ["ELSE"]}, {}, "The peer must accept an association, got a rejected association (pacs)."),
        (
            {"classes": [SegmentationStorage]},
            {},
            "The peer must accept sr.dcm, got a refused class, Comprehensive 3D SR",
        ),
        ({}, {"tls": True}, "The peer must accept an association, got no association (pacs). Check titles, port and"),
        ({}, {"port": free_port()}, "The peer must accept an association, got no association (pacs)."),
        ({}, {"host": "no.such.host.invalid"}, "The peer must be reachable, got gaierror (pacs)."),
    ],
)
def test_an_archive_that_does_not_accept_is_a_reason(results, options, changes, reason):
    status = options.pop("status", 0)
    with archive(**options) as pacs:
        pacs.status = status
        with pytest.raises(DeliveryError) as error:
            send(cstore(pacs.port, **changes), results, CONFIG)
    assert str(error.value).startswith(reason)


def test_an_archive_by_tls_must_have_a_certificate_of_the_authority(results, tmp_path: Path):
    authority, other = Authority(tmp_path / "own"), Authority(tmp_path / "other")
    certificate, key = authority.issue("luna")
    config = ReceiverConfig(certificate=str(certificate), key=str(key), authorities=str(authority.path))
    with archive(tls=_server_tls(authority, trusts=authority)) as pacs:
        send(cstore(pacs.port, tls=True), results, config)
        assert len(pacs.stored) == 2
    with archive(tls=_server_tls(other, trusts=authority)) as pacs, pytest.raises(DeliveryError, match="must accept"):
        send(cstore(pacs.port, tls=True), results, config)


def _server_tls(authority: Authority, *, trusts: Authority) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("pacs"))
    context.load_verify_locations(trusts.path)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def answer(stored: list[str]) -> bytes:
    """Answer of STOW-RS as JSON; PS3.18, 10.5.3."""
    items = [{"00081155": {"vr": "UI", "Value": [uid]}} for uid in stored]
    return json.dumps({"00081199": {"vr": "SQ", "Value": items}}).encode()


JSON = {"Content-Type": "application/dicom+json"}


def test_a_web_archive_gets_both_objects_with_the_token(results, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PACS_TOKEN", "secret")
    with web_archive(headers=JSON, body=answer(uids(results))) as web:
        send(Peer(name="web", kind="stow", url=web.url, token_variable="PACS_TOKEN"), results, CONFIG)
    ((method, path, headers, body),) = web.got
    assert (method, path, headers["Authorization"]) == ("POST", "/dicom-web/studies", "Bearer secret")
    assert all(path.read_bytes()[-200:] in body for path in results)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"status": 503}, "The peer must store all objects, got status 503 (web)."),
        ({"status": 409, "headers": JSON}, "The peer must store all objects, got status 409 (web)."),
        ({"status": 302, "headers": {"Location": "/login"}}, "The peer must be reachable, got TooManyRedirects (web)."),
        (
            {"body": b"<html>Please log in</html>", "headers": {"Content-Type": "text/html"}},
            "The peer must confirm all",
        ),
        ({"body": b"not JSON", "headers": JSON}, "The answer must be one of STOW-RS, got"),
        ({"body": answer(["1.2.3"]), "headers": JSON}, "The peer must confirm all objects, got 2 of 2 missing (web)."),
    ],
)
def test_a_web_archive_that_does_not_confirm_is_a_reason(results, values, reason):
    with web_archive(**values) as web, pytest.raises(DeliveryError) as error:
        send(Peer(name="web", kind="stow", url=web.url), results, CONFIG)
    assert str(error.value).startswith(reason)


def test_a_missing_token_is_a_reason(results):
    peer = Peer(name="web", kind="stow", url="http://127.0.0.1:1/", token_variable="NO_SUCH_TOKEN")
    with pytest.raises(DeliveryError, match=r"NO_SUCH_TOKEN must hold a token, got none \(web\)"):
        send(peer, results, CONFIG)


@pytest.fixture
def job(results, tmp_path: Path) -> tuple[ServiceFolders, str]:
    """A finished job."""
    folders, job_id = ServiceFolders(tmp_path), secrets.token_hex(16)
    output = folders.job(job_id) / OUTPUT
    output.mkdir(parents=True)
    for path in results:
        (output / path.name).write_bytes(path.read_bytes())
    return folders, job_id


def test_attempts_are_made_at_growing_distances_until_the_hours_are_over(job):
    folders, job_id = job
    config = ServiceConfig(peers=(cstore(free_port()),), delivery_hours=1)
    now, waits = 1_000_000.0, []
    while (wait := attempt(folders, config, job_id, "pacs", now=now)) is not None:
        waits.append(wait)
        now += wait
        (delivery,) = deliveries_of(folders.job(job_id), config.peers)
        assert (delivery.state, delivery.attempts) == ("waiting", len(waits))
    # 5 + … + 640 = 1275 s; 900 s more; a second 900 s more would be after the hour together with the third.
    assert waits == [5, 10, 20, 40, 80, 160, 320, 640, 900, 900]
    (delivery,) = deliveries_of(folders.job(job_id), config.peers)
    assert (delivery.state, delivery.attempts) == ("failed", 11)
    assert delivery.reason is not None
    assert "got no association (pacs)" in delivery.reason


def test_a_delivery_that_failed_before_is_sent(job):
    folders, job_id = job
    with archive() as pacs:
        config = ServiceConfig(peers=(cstore(pacs.port),))
        pacs.status = 0xA700
        assert attempt(folders, config, job_id, "pacs") == 5
        pacs.status = 0
        assert attempt(folders, config, job_id, "pacs") is None
    assert deliveries_of(folders.job(job_id), config.peers) == (Delivery(peer="pacs", state="sent", attempts=2),)
    assert len(pacs.stored) == 2


def test_a_peer_that_aborts_after_the_first_object_gets_all_later(job, results, monkeypatch: pytest.MonkeyPatch):
    def store_after_the_abort(association, dataset, name: str, peer: Peer) -> None:
        if name == "sr.dcm" and len(pacs.stored) == 1:
            pacs.abort()
            wait_for(lambda: not association.is_established, limit_seconds=10, what="the abort")
        store(association, dataset, name, peer)

    store = peers._store
    monkeypatch.setattr(peers, "_store", store_after_the_abort)
    folders, job_id = job
    with archive() as pacs:
        config = ServiceConfig(peers=(cstore(pacs.port),))
        assert attempt(folders, config, job_id, "pacs") == 5
        (delivery,) = deliveries_of(folders.job(job_id), config.peers)
        expected = "The peer must store all objects, got RuntimeError (pacs). See its log and configuration."
        assert (delivery.state, delivery.reason) == ("waiting", expected)
        assert attempt(folders, config, job_id, "pacs") is None
    seg, sr = uids(results)
    assert [dataset.SOPInstanceUID for dataset in pacs.stored] == [seg, seg, sr]


@pytest.mark.parametrize("error", [RuntimeError, ValueError, KeyError])
def test_an_attempt_that_fails_by_any_error_is_followed_by_another(job, monkeypatch: pytest.MonkeyPatch, error):
    def failing(*_: object) -> None:
        raise error("Mustermann")

    folders, job_id = job
    config = ServiceConfig(peers=(cstore(1),))
    monkeypatch.setattr(delivering, "send", failing)
    assert attempt(folders, config, job_id, "pacs") == 5
    (found,) = deliveries_of(folders.job(job_id), config.peers)
    expected = f"The peer must store all objects, got {error.__name__} (pacs). See its log and configuration."
    assert (found.state, found.reason) == ("waiting", expected)


def test_results_are_sent_while_the_state_of_the_delivery_cannot_be_written(job, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    folders, job_id = job
    monkeypatch.setattr(delivering, "write_delivery", full)
    with archive() as pacs:
        config = ServiceConfig(peers=(cstore(pacs.port),))
        pacs.status = 0xA700
        assert attempt(folders, config, job_id, "pacs") == 5
        pacs.status = 0
        assert attempt(folders, config, job_id, "pacs") is None
    assert len(pacs.stored) == 2


def test_a_job_without_dicom_results_or_that_was_deleted_has_nothing_to_deliver(tmp_path: Path):
    folders, job_id = ServiceFolders(tmp_path), secrets.token_hex(16)
    config = ServiceConfig(peers=(cstore(1),))
    assert attempt(folders, config, job_id, "pacs") is None
    assert not folders.job(job_id).exists()
    assert deliveries_of(folders.job(job_id), config.peers) == ()
