"""Waits before another attempt, and answers that are refused; whole downloads are tested with the launcher."""

import random
from types import SimpleNamespace

import httpx
import pytest

from luna_pipeline.core.storage import http_ranges
from luna_pipeline.core.storage.http_ranges import (
    RefusedError,
    RetryPolicy,
    TransferError,
    retry_after,
    stream_range,
    stream_whole,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        ("Thu, 01 Jan 1970 00:02:00 GMT", 20.0),
        ("Thu, 01 Jan 1970 00:01:00 GMT", 0.0),
        ("soon", None),
        ("-5", None),
        ("1 Jan 99999999999999999999 00:00:00 GMT", None),
        (None, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(text, seconds):
    assert retry_after(text, now=100.0) == seconds


def test_waits_double_up_to_a_limit_and_are_jittered():
    policy = RetryPolicy(base_seconds=1.0, max_seconds=10.0)
    rng = random.Random(0)
    waits = {n: [policy.seconds(n, TransferError("x"), rng) for _ in range(200)] for n in (1, 2, 4, 9)}
    for failures, longest in ((1, 1.0), (2, 2.0), (4, 8.0), (9, 10.0)):
        assert longest / 2 <= min(waits[failures]) < longest * 0.55
        assert longest * 0.95 < max(waits[failures]) <= longest


def test_a_wait_that_the_server_asks_for_is_never_shortened():
    rng = random.Random(0)
    waits = [RetryPolicy().seconds(1, TransferError("x", 30.0), rng) for _ in range(200)]
    assert min(waits) >= 30.0
    assert 32.0 < max(waits) <= 33.0
    with pytest.raises(RefusedError, match="at most 900 s, got 901 s"):
        RetryPolicy().seconds(1, TransferError("x", 901.0), rng)


def client(status: int, body: bytes, **headers: str) -> httpx.Client:
    def answer(request: httpx.Request) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        assert request.headers["Accept-Encoding"] == "identity"
        return httpx.Response(status, headers=named, stream=httpx.ByteStream(body))

    return httpx.Client(transport=httpx.MockTransport(answer))


def test_a_range_is_what_was_asked_for():
    with client(206, b"345", Content_Range="bytes 3-5/10") as right:
        assert b"".join(stream_range(right, "http://a/b", 3, 6, total=10)) == b"345"
    with client(206, b"345", Content_Range="bytes 3-5/*") as unknown:
        assert b"".join(stream_range(unknown, "http://a/b", 3, 6, total=10)) == b"345"


@pytest.mark.parametrize(
    ("body", "headers", "told"),
    [
        (b"3456", {"Content_Range": "bytes 3-5/10"}, "more than the 3 bytes asked for"),
        (b"34", {"Content_Range": "bytes 3-5/10"}, "ended after 2 of 3 bytes"),
        (b"345", {"Content_Range": "bytes 2-4/10"}, "another range"),
        (b"345", {"Content_Range": "bytes 3-6/10"}, "another range"),
        (b"345", {"Content_Range": "pages 3-5/10"}, "another range"),
        (b"345", {"Content_Range": "bytes 3-5/10", "Content_Length": "4"}, "4 bytes in place of 3"),
    ],
)
def test_an_answer_for_something_else_is_a_fault(body, headers, told):
    with client(206, body, **headers) as lying, pytest.raises(TransferError, match=told):
        list(stream_range(lying, "http://a/b", 3, 6, total=10))


def test_another_size_is_refused_for_good():
    with (
        client(206, b"345", Content_Range="bytes 3-5/11") as other,
        pytest.raises(RefusedError, match="must have 10 bytes, got 11"),
    ):
        list(stream_range(other, "http://a/b", 3, 6, total=10))


def test_a_whole_file_of_another_size_is_a_fault():
    with client(200, b"abc") as right:
        assert b"".join(stream_whole(right, "http://a/b")) == b"abc"
        with pytest.raises(TransferError, match="ended after 3 of 4 bytes"):
            list(stream_whole(right, "http://a/b", total=4))
    with client(206, b"abc") as odd, pytest.raises(TransferError, match="206 in place of 200"):
        list(stream_whole(odd, "http://a/b"))


@pytest.mark.parametrize(("block_bytes", "is_given_up"), [(1, True), (15_359, True), (15_360, False)])
def test_an_answer_slower_than_1_kib_a_second_over_a_minute_is_given_up(block_bytes, is_given_up, monkeypatch):
    """Blocks come every 15 s, so that no time-out between two of them ends it."""
    clock = SimpleNamespace(seconds=0.0, monotonic=lambda: clock.seconds)
    monkeypatch.setattr(http_ranges, "time", clock)

    class Slow(httpx.SyncByteStream):
        def __iter__(self):
            for _ in range(20):
                clock.seconds += 15.0
                yield bytes(block_bytes)

    transport = httpx.MockTransport(lambda request: httpx.Response(200, stream=Slow()))
    with httpx.Client(transport=transport) as slow:
        if is_given_up:
            with pytest.raises(TransferError, match=f"only {4 * block_bytes} bytes in 60 s"):
                list(stream_whole(slow, "http://a/b"))
            assert clock.seconds == 60.0
        else:
            assert len(b"".join(stream_whole(slow, "http://a/b"))) == 20 * block_bytes


@pytest.mark.parametrize("address", ["ftp://a/b", "a/b"])
def test_an_address_that_is_none_is_refused(address):
    with httpx.Client() as plain, pytest.raises(RefusedError, match="must be one of a web server"):
        list(stream_whole(plain, address))
