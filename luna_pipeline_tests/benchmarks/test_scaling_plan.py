"""The calculated plan, by hand."""

import pytest

from benchmarks.scaling_plan import CUTOUT_BYTES, Plan, epochs_of_a_search, main


def test_a_plan_counts_bytes_and_waits_for_what_is_slowest():
    plan = Plan(
        num_series=3600,
        raw_bytes=1e9,
        num_cutouts=0,
        machine_gb_per_second=1.0,
        store_gb_per_second=4.0,
        cutouts_per_second=1.0,
    )
    assert plan.bytes_read == 3.6e12
    assert plan.hours(1) == (1.0, "machine's line")
    assert plan.hours(2) == (0.5, "machine's line")
    assert plan.hours(8) == (0.25, "store")
    assert plan.num_useful_machines == 5


def test_cores_are_the_limit_where_lines_are_fast():
    plan = Plan(
        num_series=1000,
        raw_bytes=0.0,
        num_cutouts=36,
        cutouts_per_second=10.0,
        seconds_unpacking=8.0,
        cores=8,
        machine_gb_per_second=1e6,
        store_gb_per_second=1e6,
    )
    assert plan.bytes_written == 1000 * 36 * CUTOUT_BYTES
    # 3.6 seconds of cutting and one of unpacking each.
    assert plan.hours(2) == (pytest.approx(4600 / 3600 / 2), "machine's cores")


@pytest.mark.parametrize(
    ("trials", "epochs", "total"),
    [
        (9, 1, 9),
        (9, 3, 9 + 3 * 2),
        (27, 10, 27 + 9 * 2 + 3 * 6 + 1 * 1),
        (1, 5, 5),
    ],
)
def test_a_search_that_halves_trains_so_many_epochs(trials, epochs, total):
    assert epochs_of_a_search(trials, epochs) == total


def test_the_plan_of_the_page_is_what_it_prints(capsys):
    assert main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    from pathlib import Path

    page = (Path(__file__).parents[2] / "docs/how_to/scale.md").read_text()
    assert len(lines) == 4
    assert all(line in page for line in lines)
