from functools import partial

from benchmarks import timing
from benchmarks.timing import Timing, Way, measure


def test_ways_take_turns_and_the_first_round_does_not_count():
    log = []
    ways = [Way(name, lambda name=name: log.append(name), lambda name=name: log.append(f"-{name}")) for name in "AB"]
    timings = measure(ways, repeats=2)
    assert log == ["-A", "A", "-A", "-B", "B", "-B"] * 3
    assert {name: len(found.seconds) for name, found in timings.items()} == {"A": 2, "B": 2}


def test_only_the_run_is_timed(monkeypatch):
    now = [0.0]

    def let_pass(seconds):
        now[0] += seconds

    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    way = Way("A", partial(let_pass, 2.0), partial(let_pass, 5.0))
    assert measure([way], repeats=3)["A"].seconds == (2.0, 2.0, 2.0)


def test_a_timing_is_its_median_and_spread_in_milliseconds():
    expected = {"median_ms": 3.0, "min_ms": 1.0, "max_ms": 10.4, "runs_ms": [3.0, 1.0, 10.4]}
    assert Timing((0.003, 0.001, 0.0104)).as_dict() == expected


def test_collector_and_disk_are_done_before_each_run_is_timed(monkeypatch):
    log = []
    monkeypatch.setattr(timing.gc, "collect", lambda: log.append("collect"))
    monkeypatch.setattr(timing.os, "sync", lambda: log.append("sync"))
    measure([Way("A", lambda: log.append("A"))], repeats=1)
    assert log == ["collect", "sync", "A"] * 2
