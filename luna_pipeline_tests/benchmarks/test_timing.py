import time

from benchmarks.timing import Timing, Way, measure


def test_ways_take_turns_and_the_first_round_does_not_count():
    log = []
    ways = [Way(name, lambda name=name: log.append(name), lambda name=name: log.append(f"-{name}")) for name in "AB"]
    timings = measure(ways, repeats=2)
    assert log == ["-A", "A", "-A", "-B", "B", "-B"] * 3
    assert {name: len(timing.seconds) for name, timing in timings.items()} == {"A": 2, "B": 2}


def test_only_the_run_is_timed():
    way = Way("A", lambda: time.sleep(0.02), lambda: time.sleep(0.3))
    assert 0.02 <= measure([way], repeats=1)["A"].median < 0.3


def test_a_timing_is_its_median_and_spread_in_milliseconds():
    timing = Timing((0.003, 0.001, 0.0104))
    expected = {"median_ms": 3.0, "min_ms": 1.0, "max_ms": 10.4, "runs_ms": [3.0, 1.0, 10.4]}
    assert timing.as_dict() == expected
