"""Times between attempts, and of a client that found the queue full."""

import pytest

from luna_pipeline.serving.retries import next_wait, retry_after


@pytest.mark.parametrize(
    ("number", "seconds"), [(0, 5.0), (1, 10.0), (7, 640.0), (8, 900.0), (9, 900.0), (1000, 900.0)]
)
def test_waits_double_up_to_a_quarter_of_an_hour(number, seconds):
    assert next_wait(number, now=100.0, since=100.0, hours=1.0) == seconds


@pytest.mark.parametrize(("now", "expected"), [(3595.0, 5.0), (3595.1, None)])
def test_no_attempt_begins_after_the_time_of_all(now, expected):
    assert next_wait(0, now=now, since=0.0, hours=1.0) == expected


@pytest.mark.parametrize(
    ("seconds", "num_workers", "expected"),
    [([], 4, 30), ([60, 100, 80], 1, 80), ([60, 100, 80], 2, 40), ([0.1], 1, 1), ([5000], 4, 600)],
)
def test_a_full_queue_is_asked_again_when_a_worker_takes_the_next_job(seconds, num_workers, expected):
    assert retry_after(seconds, num_workers=num_workers) == expected
