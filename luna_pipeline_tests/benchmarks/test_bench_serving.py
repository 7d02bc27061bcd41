"""The service's load test: its figures and goals, on values by hand."""

from collections import Counter
from pathlib import Path

import pytest

from benchmarks.bench_serving import Memory, _changed, _goals, _phantoms
from benchmarks.serving_load import CLASSIFY, UPLOAD, Load, cutout_bodies


@pytest.fixture
def load():
    load = Load("http://127.0.0.1:1")
    load.seconds[CLASSIFY] = [0.1, 0.2, 0.3, 0.4, 0.5]
    load.statuses[CLASSIFY] = Counter({200: 5})
    load.seconds[UPLOAD], load.statuses[UPLOAD] = [1.0, 3.0], Counter({202: 1, 429: 1})
    load.models, load.ends = Counter("123"), Counter({"done": 1})
    yield load
    load.client.close()


def memory_of(*mib: float) -> dict:
    memory = Memory.__new__(Memory)
    memory.mib = list(mib)
    return memory.figures()


def results_of(load: Load, **changes) -> dict:
    found = {**load.figures(), "throughput": {"ratio": 0.8}, "memory": memory_of(1, 1, 2, 2, 2, 2, 2, 2)}
    return {**found, **changes}


def test_percentiles_and_statuses_are_those_of_a_route(load: Load):
    assert load.figures() == {
        "routes": {
            CLASSIFY: {"requests": 5, "p50_ms": 300.0, "p95_ms": 480.0, "statuses": {"200": 5}},
            UPLOAD: {"requests": 2, "p50_ms": 2000.0, "p95_ms": 2900.0, "statuses": {"202": 1, "429": 1}},
        },
        "models": {"1": 1, "2": 1, "3": 1},
        "jobs": {"done": 1},
    }


def test_memory_is_compared_from_the_second_quarter_on():
    assert memory_of(100, 200, 300, 310, 320, 330, 330, 350) == {
        "looks": 8,
        "first_mib": 100,
        "last_mib": 350,
        "peak_mib": 350,
        # Medians 340 and 305.
        "growth": 1.115,
    }
    assert memory_of(100, 200, 300)["growth"] == 1.0


def test_each_goal_can_be_missed(load: Load):
    assert all(_goals(load, results_of(load)).values())
    missed = [
        ("no failed job", {"jobs": {"done": 1, "failed": 1}}),
        ("no failed job", {"jobs": {}}),
        ("three models answered", {"models": {"1": 3, "3": 2}}),
        ("classify at least 0.8 x of the bare network", {"throughput": {"ratio": 0.79}}),
        ("memory is flat", {"memory": memory_of(1, 1, 2, 2, 2, 2, 2.3, 2.3)}),
        ("memory is flat", {"memory": memory_of(1, 1, 2, 2, 2, 2, 2)}),
    ]
    for goal, changes in missed:
        goals = _goals(load, results_of(load, **changes))
        assert [name for name, is_met in goals.items() if not is_met] == [goal]
    load.statuses[CLASSIFY][500] = 1
    assert not _goals(load, results_of(load))["no failed request but 429"]


def test_all_cts_of_all_repeats_differ(tmp_path: Path):
    paths = list(_phantoms(tmp_path, 3, (32, 32, 32)))
    contents = [path.read_bytes() for path in paths]
    for repeat in (1, 2):
        contents += [path.read_bytes() for path in _changed(paths, repeat)]
    assert len(set(contents)) == 9


def test_bodies_hold_cutouts_that_the_service_reads():
    from io import BytesIO

    from luna_pipeline.serving.cutout_upload import read_cutouts

    bodies = cutout_bodies(3, 2, (4, 4, 4))
    shapes = [read_cutouts(BytesIO(body), chunk_shape_irc=(4, 4, 4), max_cutouts=2).shape for body in bodies]
    assert shapes == [(2, 4, 4, 4)] * 3
