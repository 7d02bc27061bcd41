import json
import os
import socket
from pathlib import Path

import pytest
from PIL import Image

from benchmarks import bench_cutting
from benchmarks.report import text_of
from benchmarks.workload import Workload, quick

TINY = Workload(
    size_irc=(24, 64, 64),
    chunk_shape_irc=(4, 6, 6),
    num_candidates=20,
    num_series=2,
    num_rate_series=3,
    num_table_series=6,
    num_table_rows=120,
    candidate_counts=(5, 10, 20),
    check_counts=(2, 4),
    check_candidates=3,
    repeats=1,
)
PARTS = [name for name in bench_cutting.PARTS if name != "tables"]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    found = bench_cutting.measure_all(TINY, parts=PARTS, folder=folder)
    # What each way of cutting wrote was removed again.
    for part in ("one_series", "many_series", "equality", "memory", "growth"):
        assert [path for path in (folder / part).rglob("*") if path.is_file()] == []
    return found


def timings_in(value):
    if isinstance(value, dict):
        if "median_ms" in value:
            yield value
        for inner in value.values():
            yield from timings_in(inner)


def test_every_way_took_some_time(results):
    timings = list(timings_in(results))
    assert len(timings) > 20
    for timing in timings:
        assert 0 < timing["min_ms"] <= timing["median_ms"] <= timing["max_ms"]
        assert len(timing["runs_ms"]) == TINY.repeats


def test_all_ways_cut_the_same_voxels(results):
    equality = results["equality"]
    assert equality["num_rows"] == TINY.num_candidates
    assert equality["num_unequal"] == 0
    assert (equality["num_table_rows"], equality["num_table_rounded_otherwise"]) == (120, 0)
    assert equality["num_equal"] >= TINY.num_candidates - 1
    others = [value for name, value in equality.items() if name.startswith(("is_", "are_"))]
    assert others == [True] * 2


def test_ratios_parts_and_curves_are_there(results):
    assert results["ratios"]["tutorial"]["times_tutorial"] == 1
    assert sum(results["tutorial_parts"].values()) == pytest.approx(1, abs=0.001)
    assert list(results["growth"]["by_candidates"]) == ["5", "10", "20"]
    assert list(results["unchanged"]["by_series"]) == ["2", "4"]
    assert results["unchanged"]["luna16"]["num_rows"] == 120
    assert all(timing["cutouts_a_second"] > 0 for timing in results["rates"].values())


def test_memory_is_that_of_the_process_that_cuts(results):
    for peak in results["memory"].values():
        assert 20 < peak["before_mib"] <= peak["peak_mib"] < 1000
        assert peak["cutting_mib"] == pytest.approx(peak["peak_mib"] - peak["before_mib"], abs=0.11)


def test_text_json_and_picture(results, tmp_path):
    bench_cutting.write(results, tmp_path)
    assert json.loads((tmp_path / "cutting.json").read_text())["one_series"] == results["one_series"]
    with Image.open(tmp_path / "cutting.png") as picture:
        assert picture.width > 2 * picture.height
    text = text_of(results)
    assert "baseline check:" in text
    assert all(f"== {name.replace('_', ' ')}" in text for name in PARTS)


def test_nothing_names_the_machine(results):
    text = json.dumps(results)
    names = [socket.gethostname(), str(Path.home()), os.environ.get("TMPDIR", "/tmp"), "luna-bench"]
    assert [name for name in names if len(name) > 2 and name in text] == []


def test_quick_measures_the_same_sizes_less_often():
    assert quick(Workload()).size_irc == Workload().size_irc
    assert quick(Workload()).repeats < Workload().repeats
    assert quick(Workload(repeats=1)).repeats == 1


def test_a_part_that_is_not_there_is_refused(capsys, tmp_path):
    with pytest.raises(SystemExit):
        bench_cutting.main(["--out", str(tmp_path), "--only", "growth,nonsense"])
    assert "nonsense" in capsys.readouterr().err
