"""The benchmark of handing work out: each way is there, and gives its figures."""

import json

from benchmarks.bench_scaling import WAYS, main


def test_a_way_prints_its_seconds(capsys):
    assert main(["--only", "dagster_runs"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(found) == {"dagster_run_in_process"}
    assert 0 < found["dagster_run_in_process"] < 60


def test_every_way_of_the_page_is_measured():
    assert set(WAYS) == {"dagster_runs", "dagster_process", "ray_tasks", "ray_trials", "torchrun"}
